"""Score answers by declared checks: each part from 0 to 1, and their weighted mean."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ft_tools import workspace
from ft_tools.errors import BadData
from ft_tools.metrics.checks import answers as read
from ft_tools.metrics.checks.request import (
    Check,
    Contains,
    Equals,
    JsonSchema,
    Lacks,
    Number,
    check_names,
)
from ft_tools.metrics.scores import CURE, entries, entry_problem
from ft_tools.metrics.text import last_number

MOST_CHARACTERS = 200_000
"""Of an answer; a longer one is right in nothing."""

Row = Mapping[str, Any]
Score = Callable[[str, Row], float]
"""Answer and row -> 0 to 1."""


@dataclass(frozen=True)
class Scores:
    """What the checks found in one answer."""

    parts: Mapping[str, float | None]
    """Check -> 0 to 1; None: the check itself broke, whatever the answer."""
    total: float | None
    """Mean by weight; None if a part is None. Exactly 1 where all parts are."""


class Scorer:
    """Scores answers by a list of checks; a context manager, for what some of them hold open."""

    def __init__(self, checks: Sequence[Check], folder: Path, scratch: Path | None = None) -> None:
        """Read what the checks need.

        Args:
            checks: As declared.
            folder: What relative paths of checks are relative to; in the workspace.
            scratch: Folder of this run for what a restart continues from.

        Raises:
            BadInput: A file that a check names cannot be used.
        """
        self._names = check_names(checks)
        self._checks = checks
        self._scores = [_score_of(one, folder) for one in checks]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close what the checks hold open."""

    def score(self, rows: Sequence[Row], answers: Sequence[str]) -> list[Scores]:
        """Score each answer beside its row.

        An empty answer, and one of more than `MOST_CHARACTERS`, is 0 in every part.

        Args:
            rows: As `scored_row` makes them.
            answers: One for each row.

        Raises:
            BadData: A row has no column that a check reads.
        """
        require_columns(self._checks, enumerate(rows, 1))
        parts = [
            [
                score(answer, row) if answer.strip() and len(answer) <= MOST_CHARACTERS else 0.0
                for row, answer in zip(rows, answers, strict=True)
            ]
            for score in self._scores
        ]
        return [self._scored(one) for one in zip(*parts, strict=True)]

    def _scored(self, parts: Sequence[float | None]) -> Scores:
        known = [part for part in parts if part is not None]
        total = None
        if len(known) == len(parts):
            weights = [one.weight for one in self._checks]
            total = math.fsum(map(math.prod, zip(weights, known, strict=True)))
            total /= math.fsum(weights)
        return Scores(dict(zip(self._names, parts, strict=True)), total)


def scored_row(row: Row, prompt: str, answer: str) -> dict[str, Any]:
    """Return a dataset's row as the checks read it.

    Args:
        row: As it stands in the file; its own column `answer` stays.
        prompt: What is asked, as text.
        answer: The reference: last assistant turn, or completion.
    """
    return {"answer": answer, **row, "prompt": prompt}


def require_columns(
    checks: Sequence[Check], rows: Iterable[tuple[int, Row]], path: Path | str = "the dataset"
) -> None:
    """Refuse a row that lacks what a check reads, or has it in a way that no answer can meet.

    Args:
        checks: As declared.
        rows: Line number and row, as `scored_row` makes it.
        path: For the message.

    Raises:
        BadData: File, line and column are named.
    """
    for line, row in rows:
        for one in checks:
            for column in columns_of(one):
                if column not in row:
                    known = ", ".join(sorted(row)[:20])
                    problem = f"has no column {column!r}, which the check {one.kind} reads"
                    raise BadData(path, problem, f"it has {known}", line)
                if problem := _problem(one, column, row[column]):
                    cure = "correct the row, or name another column"
                    raise BadData(path, f"column {column!r} {problem}", cure, line)


def columns_of(check: Check) -> list[str]:
    """Return the columns that a check reads."""
    if isinstance(check, Equals | Number):
        return [check.reference]
    if isinstance(check, Contains | Lacks):
        return [check.texts] if isinstance(check.texts, str) else []
    return list(check.values.values()) if isinstance(check, JsonSchema) else []


def _problem(check: Check, column: str, value: Any) -> str:
    """Return why no answer could meet a row; empty if one could."""
    if check.kind == "equals" and not read.as_text(value).strip():
        return "is empty, and an empty answer is never right"
    if check.kind == "number" and last_number(read.as_text(value)) is None:
        return "has no number"
    if check.kind in ("contains", "lacks"):
        texts = entries(value)
        if not texts or any(not str(text).strip() for text in texts):
            return "has no text to look for"
        found = next(filter(None, map(entry_problem, texts)), "")
        return f"{found}; {CURE}" if found else ""
    return ""


def _score_of(check: Check, folder: Path) -> Score:
    def find(path: str) -> Path:
        return workspace.existing(str(folder / path))

    if isinstance(check, JsonSchema):
        return partial(read.json_schema, check, read.schema_of(check, find))
    return partial(READ[check.kind], check)


READ: Mapping[str, Callable[[Any, str, Row], float]] = {
    "equals": read.equals,
    "number": read.number,
    "pattern": read.pattern,
    "contains": read.contains,
    "lacks": read.lacks,
    "length": read.length,
}
"""Kinds that need nothing but the answer and its row."""
