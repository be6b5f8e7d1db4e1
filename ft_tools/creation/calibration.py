"""How far a judge agrees with rows that the user marked, before it decides anything alone."""

import math
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from ft_tools import facts
from ft_tools.creation.findings import refusal
from ft_tools.formats.training_rows import read_examples
from ft_tools.metrics.verdicts import ALPHA, normal_quantile

LABELS = {"good": True, "bad": False}


class MarkedRow(BaseModel):
    """A question with an answer that the user finds good or bad."""

    model_config = ConfigDict(frozen=True)

    question: str
    answer: str
    is_good: bool


class Agreement(BaseModel):
    """How often a judge and the user agree, with 95% intervals."""

    model_config = ConfigDict(frozen=True)

    num_rows: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    kappa: float = Field(description="Agreement beyond chance: 0 none, 1 always (Cohen).")
    kappa_low: float
    kappa_high: float

    @property
    def is_enough(self) -> bool:
        """Return whether the judge may decide alone."""
        return self.kappa >= facts.number("creation.judge_kappa")


def read_marked(path: Path) -> list[MarkedRow]:
    """Read the rows that the user marked.

    Raises:
        BadInput: They are too few, a label is neither good nor bad, or all are the same.
    """
    rows = []
    for line, row in read_examples(path):
        question, answer, mark = (row.get(name) for name in ("question", "answer", "label"))
        if not isinstance(question, str) or not isinstance(answer, str) or mark not in LABELS:
            raise refusal("marked_row", path=path, line=line)
        rows.append(MarkedRow(question=question, answer=answer, is_good=LABELS[str(mark)]))
    needed = int(facts.number("creation.marked_rows"))
    good = sum(one.is_good for one in rows)
    if len(rows) < needed or good in {0, len(rows)}:
        raise refusal("marked_too_few", path=path, num=len(rows), good=good, needed=needed)
    return rows


def agreement(marks: Sequence[bool], verdicts: Sequence[bool | None]) -> Agreement:
    """Return how far verdicts agree with marks; no verdict agrees with none.

    kappa = (po - pe) / (1 - pe), with po the rate of agreement and pe that by chance.

    Source: J. Cohen, Educational and Psychological Measurement 20 (1960), 37-46

    >>> found = agreement([True] * 25 + [False] * 25, [True] * 20 + [False] * 30)
    >>> found.accuracy, round(found.kappa, 2)
    (0.9, 0.8)
    """
    # scipy comes with it, which a plan without a judge does without.
    from ft_tools.metrics.means import wilson_interval

    n, z = len(marks), normal_quantile(1 - ALPHA / 2)
    observed = sum(a == b for a, b in zip(marks, verdicts, strict=True)) / n
    good, passed, failed = sum(marks) / n, verdicts.count(True) / n, verdicts.count(False) / n
    chance = good * passed + (1 - good) * failed
    kappa = (observed - chance) / (1 - chance)
    error = math.sqrt(observed * (1 - observed) / n) / (1 - chance)
    low, high = wilson_interval(observed, n, z)
    ends = max(-1.0, kappa - z * error), min(1.0, kappa + z * error)
    numbers = (observed, low, high, kappa, *ends)
    names = ("accuracy", "accuracy_low", "accuracy_high", "kappa", "kappa_low", "kappa_high")
    rounded = {name: round(value, 4) for name, value in zip(names, numbers, strict=True)}
    return Agreement(num_rows=n, **rounded)
