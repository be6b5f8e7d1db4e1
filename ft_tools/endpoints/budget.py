"""The budget of an endpoint: calls and dollars, counted before they are spent.

Every attempt is recorded before it is sent. What a killed process had in flight counts as spent at
its highest possible price, so a restart never exceeds the budget.
"""

import json
import threading
from pathlib import Path

from ft_tools.errors import FineTuningError
from ft_tools.publish import append_line
from ft_tools.runs.state.directory import read_rows


class BudgetUsedUp(FineTuningError):
    """The next call could exceed the budget."""

    code = "budget_used_up"


class Budget:
    """A ledger of one system's calls, kept in a file; threads may share it."""

    def __init__(self, path: Path, system: str, max_calls: int, max_usd: float | None) -> None:
        self._path = path
        self._system = system
        self._max_calls = max_calls
        self._max_usd = max_usd
        self._settled = threading.Condition()
        self._in_flight: set[int] = set()
        self._usd: dict[int, float] = {}
        for row in read_rows(path):
            if row.get("system") == system and {"call", "usd"} <= row.keys():
                self._usd[int(row["call"])] = float(row["usd"])

    @property
    def num_calls(self) -> int:
        """Return how many attempts were made, retries and those of earlier processes included."""
        return len(self._usd)

    @property
    def usd(self) -> float:
        """Return what was spent, or at most could have been where the outcome is unknown."""
        return sum(self._usd.values())

    def reserve(self, most_usd: float) -> int:
        """Record an attempt before it is sent, and return its number.

        Where only calls in flight prevent it, it waits until they are settled.

        Raises:
            BudgetUsedUp: It could exceed the budget.
        """
        with self._settled:
            self._settled.wait_for(lambda: self._fits(most_usd) or not self._in_flight)
            if self.num_calls >= self._max_calls:
                raise BudgetUsedUp(f"{self._system}: all {self._max_calls} calls are used")
            if not self._fits(most_usd):
                raise BudgetUsedUp(
                    f"{self._system}: {self.usd:.4f} USD of {self._max_usd:g} are spent, and the "
                    f"next call could cost {most_usd:.4f}"
                )
            call = max(self._usd, default=0) + 1
            self._in_flight.add(call)
            self._write(call, most_usd)
            return call

    def has_room(self, most_usd: float) -> bool:
        """Return whether an attempt can be reserved now."""
        return self.num_calls < self._max_calls and self._fits(most_usd)

    def settle(self, call: int, usd: float | None) -> None:
        """Replace an attempt's highest possible price by what it cost; None: that is unknown."""
        with self._settled:
            if usd is not None:
                self._write(call, usd)
            self._in_flight.discard(call)
            self._settled.notify_all()

    def _fits(self, most_usd: float) -> bool:
        return self._max_usd is None or self.usd + most_usd <= self._max_usd + 1e-12

    def _write(self, call: int, usd: float) -> None:
        row = {"system": self._system, "call": call, "usd": round(usd, 9)}
        append_line(self._path, json.dumps(row))
        self._usd[call] = usd
