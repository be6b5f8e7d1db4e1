"""What settings depend on in a training file: rows, lengths, and the kind of its answers."""

import math
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Goal = Literal[
    "style", "instruction", "domain", "reasoning", "classification", "extraction", "preference"
]
STEP = 64
"""Lengths are rounded up to a multiple of it."""


class DataShape(BaseModel):
    """Rows and tokens of a training file; null where they are not known."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    goal: Goal = "instruction"
    num_examples: int | None = Field(None, description="Rows that are trained on.")
    answer_tokens: float | None = Field(None, description="Mean of trained tokens per row.")
    tokens: float | None = Field(None, description="Mean tokens per row, prompt included.")
    longest_tokens: int | None = None
    padding: float | None = Field(None, description="Fraction of padding in batches of rows.")
    is_watched: bool = Field(True, description="Whether rows are held out for validation.")

    @property
    def trained_tokens(self) -> float | None:
        """Return the answers' tokens of one epoch; None where it is not known."""
        if self.num_examples is None or self.answer_tokens is None:
            return None
        return self.num_examples * self.answer_tokens


def rounded_length(longest: int, most: int) -> int:
    """Return the sequence length for rows of at most `longest` tokens, cut at `most`.

    >>> rounded_length(95, 2048), rounded_length(128, 2048), rounded_length(9000, 2048)
    (128, 128, 2048)
    """
    return min(most, STEP * math.ceil(longest / STEP))


def padding_fraction(lengths: Sequence[int], batch: int) -> float:
    """Return the share of padding in batches of rows drawn at random.

    A batch is as long as its longest row; of n sorted lengths, the i-th is the longest of m rows
    with probability (i/n)^m - ((i-1)/n)^m.

    >>> padding_fraction([10, 10, 10], 4), padding_fraction([10, 30], 1)
    (0.0, 0.0)
    >>> round(padding_fraction([10, 30], 2), 3)
    0.2
    """
    ordered, number = sorted(lengths), len(lengths)
    if not number:
        return 0.0
    longest = sum(
        length * ((i / number) ** batch - ((i - 1) / number) ** batch)
        for i, length in enumerate(ordered, 1)
    )
    return max(0.0, round(1 - sum(ordered) / number / longest, 4))
