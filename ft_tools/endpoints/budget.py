"""The budget of an endpoint: calls and dollars, counted before they are spent.

Every attempt is recorded before it is sent. What a killed process had in flight counts as spent at
its highest possible price, so a restart never exceeds the budget.
"""

import json
import threading
from pathlib import Path

from ft_tools.errors import FineTuningError
from ft_tools.publish import append_line, read_rows


class BudgetUsedUp(FineTuningError):
    """The next call could exceed the budget."""

    code = "budget_used_up"


class Budget:
    """A ledger of one system's calls, kept in a file; threads may share it."""

    def __init__(
        self,
        path: Path,
        system: str,
        max_calls: int,
        max_usd: float | None,
        total_usd: float | None = None,
    ) -> None:
        """Read what was spent.

        Args:
            path: The ledger, which systems may share.
            system: Whose calls are counted.
            max_calls: Of this system.
            max_usd: Of this system.
            total_usd: Of all systems in the ledger, which ask one after the other.
        """
        self._path = path
        self._system = system
        self._max_calls = max_calls
        self._max_usd = max_usd
        self._total_usd = total_usd
        self._settled = threading.Condition()
        self._in_flight: set[int] = set()
        self._usd: dict[int, float] = {}
        self._others_usd, self._size = 0.0, -1
        self.reread()

    def reread(self) -> None:
        """Count what the ledger holds now: other systems may have spent since."""
        size = self._path.stat().st_size if self._path.is_file() else 0
        if size == self._size:
            return
        self._size, spent = size, spent_in(self._path)
        self._usd = {call: usd for (system, call), usd in spent.items() if system == self._system}
        self._others_usd = sum(spent.values()) - self.usd

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
                spent, limit = min(self._limits, key=lambda one: one[1] - one[0])
                raise BudgetUsedUp(
                    f"{self._system}: {spent:.4f} USD of {limit:g} are spent, and the "
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
        return all(spent + most_usd <= limit + 1e-12 for spent, limit in self._limits)

    @property
    def _limits(self) -> list[tuple[float, float]]:
        """Return what is spent of each limit, and the limit."""
        limits = [(self.usd, self._max_usd), (self.usd + self._others_usd, self._total_usd)]
        return [(spent, limit) for spent, limit in limits if limit is not None]

    def _write(self, call: int, usd: float) -> None:
        row = {"system": self._system, "call": call, "usd": round(usd, 9)}
        append_line(self._path, json.dumps(row))
        self._usd[call] = usd


def spent_in(path: Path) -> dict[tuple[str, int], float]:
    """Return (system, call) -> what it cost, or at most could, of all calls in a ledger."""
    rows = (row for row in read_rows(path) if {"system", "call", "usd"} <= row.keys())
    # The last row of a call holds.
    return {(str(row["system"]), int(row["call"])): float(row["usd"]) for row in rows}
