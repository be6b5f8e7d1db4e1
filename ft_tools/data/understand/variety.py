"""Count the languages of prompts and answers."""

from collections import Counter
from dataclasses import dataclass, field

from ft_tools.data.understand.languages import UNKNOWN, language_of

FIRST, STRIDE = 1_000, 8
"""Rows whose languages are named: the first ones all, of the others each eighth. Naming two takes
0.1 ms, more than all other checks of a row."""
MIN_FRACTION = 0.01
"""Of the answers, to be a figure of the report."""


@dataclass
class Variety:
    """Languages of the answers."""

    languages: "Counter[str]" = field(default_factory=Counter)
    """Of the answers; a row after the first ones stands for those that are passed over, too."""
    num_seen: int = 0

    def add(self, prompt: str, answer: str) -> tuple[str, str]:
        """Count one example.

        Returns:
            The languages of its prompt and its answer; unknown for a row that is passed over.
        """
        self.num_seen += 1
        if self.num_seen > FIRST and self.num_seen % STRIDE:
            return UNKNOWN, UNKNOWN
        asked, answered = language_of(prompt), language_of(answer)
        self.languages[answered] += 1 if self.num_seen <= FIRST else STRIDE
        return asked, answered

    def shape(self) -> dict[str, int | float]:
        """Return how many answers are in which language."""
        least = MIN_FRACTION * self.languages.total()
        common = self.languages.most_common(6)
        return {f"language_{name}": n for name, n in common if name != UNKNOWN and n >= least}
