"""The facts that the ladder reads: numbers and words; what is not known is not in them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ft_tools.advice.report import Fact
from ft_tools.contract import NextStep


@dataclass(frozen=True)
class Facts:
    """What is known. A name that is missing is unknown, and nothing is presumed for it."""

    numbers: Mapping[str, float] = field(default_factory=dict)
    words: Mapping[str, str] = field(default_factory=dict)
    tried: frozenset[str] = frozenset()
    """Rungs that were measured and miss the target."""
    rows: tuple[Fact, ...] = ()
    """As the report shows them."""
    next_steps: tuple[NextStep, ...] = ()

    def replaced_by(self, measured: "Facts") -> "Facts":
        """Return these facts with those that were measured in their place; name what differs."""
        given: dict[str, float | str] = {**self.numbers, **self.words}
        found: dict[str, float | str] = {**measured.numbers, **measured.words}
        conflicts = tuple(
            Fact(
                about="conflict",
                says=f"{name}: {_shown(given[name])} was given, {_shown(value)} was measured",
                source=name,
            )
            for name, value in found.items()
            if given.get(name, value) != value
        )
        return Facts(
            numbers={**self.numbers, **measured.numbers},
            words={**self.words, **measured.words},
            tried=self.tried | measured.tried,
            rows=(*self.rows, *measured.rows, *conflicts),
            next_steps=(*self.next_steps, *measured.next_steps),
        )


def one_fact(about: Any, says: str, source: str, **known: Any) -> Facts:
    """Return facts that the report shows as one row; `known` holds what else they are."""
    return Facts(rows=(Fact(about=about, says=says, source=source),), **known)


def _shown(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:,g}"
