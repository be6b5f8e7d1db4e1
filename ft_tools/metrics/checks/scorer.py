"""Score answers by declared checks: each part from 0 to 1, and their weighted mean."""

import ast
import contextlib
import math
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

from ft_tools import workspace
from ft_tools.errors import BadData
from ft_tools.metrics.checks import answers as read
from ft_tools.metrics.checks.answers import Row
from ft_tools.metrics.checks.request import (
    Check,
    Equals,
    JsonSchema,
    Judge,
    Length,
    Number,
    Pattern,
    Python,
    Sql,
    Tests,
    Texts,
    check_names,
)
from ft_tools.metrics.text import last_number, without_thought
from ft_tools.publish import sha256

MOST_CHARACTERS = 200_000
"""Of an answer; a longer one is right in nothing."""
SEES_ALL = (Pattern, Texts, Length, Python)


@dataclass(frozen=True)
class Scores:
    """What the checks found in one answer."""

    parts: Mapping[str, float | None]
    """Check -> 0 to 1; None: the check itself broke, whatever the answer."""
    total: float | None
    """Mean by weight; None if a part is None. Exactly 1 where all parts are."""

    @property
    def described(self) -> str:
        """Return the parts in words."""
        named = ((k, "broke" if v is None else f"{v:.2g}") for k, v in self.parts.items())
        return ", ".join(f"{name} {value}" for name, value in named)


Score = Callable[[Sequence[str], Sequence[Row]], list[float | None]]
"""Answers and their rows -> 0 to 1 for each; None where the check itself broke."""


class Scorer:
    """Scores answers by a list of checks; a context manager, for what some of them hold open."""

    def __init__(
        self,
        checks: Sequence[Check],
        scratch: Path | None = None,
        total_usd: float | None = None,
    ) -> None:
        """Read what the checks need; no code of anybody runs yet.

        Args:
            checks: As declared.
            scratch: Folder of this run, where a judge's calls and replies are kept; without one a
                judge may spend its budget again in each process.
            total_usd: Budget of all whose calls are kept in `scratch`.

        Raises:
            BadInput: A file that a check names cannot be used.
            Missing: A check runs code of a model, and nothing isolates here.
        """
        self._names = check_names(checks)
        self._checks = checks
        with contextlib.ExitStack() as opened:
            if scratch is None:
                scratch = Path(opened.enter_context(tempfile.TemporaryDirectory()))
            judged = (scratch, total_usd)
            self._scores = [
                _score_of(one, name, judged, opened)
                for name, one in zip(self._names, checks, strict=True)
            ]
            self._opened = opened.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def score(self, rows: Sequence[Row], answers: Sequence[str]) -> list[Scores]:
        """Score each answer beside its row, made by `scored_row`.

        Checks that compare an answer or run it pass over its thought; those that look for texts,
        a length or run the user's code see all of it.

        An empty answer, and one of more than `MOST_CHARACTERS`, is 0 in every part but `python`,
        whose own code decides.

        Raises:
            BadData: A row has no column that a check reads.
            BudgetUsedUp: A judge's budget ends here.
            EndpointUnavailable: A judge does not answer.
        """
        require_columns(self._checks, enumerate(rows, 1))
        said = [*map(without_thought, answers)]
        sound = [i for i, one in enumerate(answers) if one.strip() and len(one) <= MOST_CHARACTERS]
        parts = []
        for check, score in zip(self._checks, self._scores, strict=True):
            places = range(len(answers)) if isinstance(check, Python) else sound
            given = answers if isinstance(check, SEES_ALL) else said
            found = score([given[i] for i in places], [rows[i] for i in places])
            by_place = dict(zip(places, found, strict=True))
            parts.append([by_place.get(i, 0.0) for i in range(len(answers))])
        return [self._scored(one) for one in zip(*parts, strict=True)]

    def _scored(self, parts: Sequence[float | None]) -> Scores:
        known = [part for part in parts if part is not None]
        total = None
        if len(known) == len(parts):
            weights = [one.weight for one in self._checks]
            total = math.fsum(map(math.prod, zip(weights, known, strict=True))) / math.fsum(weights)
        return Scores(dict(zip(self._names, parts, strict=True)), total)


def scored_row(row: Row, prompt: str, answer: str) -> dict[str, Any]:
    """Return a row of a file as the checks read it, its answer without a thought.

    Its own column `answer` goes before the one given.
    """
    made = {"answer": answer, **row, "prompt": prompt}
    if isinstance(made["answer"], str):
        made["answer"] = without_thought(made["answer"])
    return made


def require_columns(
    checks: Sequence[Check], rows: Iterable[tuple[int, Row]], path: Path | str = "the dataset"
) -> None:
    """Refuse a row that lacks what a check reads, or has it in a way that no answer can meet.

    The rows are numbered by their lines, and as `scored_row` makes them.

    Raises:
        BadData: File, line and column are named.
    """
    read_by = [(one, column) for one in checks for column in one.columns]
    for line, row in rows:
        for one, column in read_by:
            if column not in row:
                known = ", ".join(sorted(row)[:20])
                problem = f"has no column {column!r}, which the check {one.kind} reads"
                raise BadData(path, problem, f"it has {known}", line)
            if problem := _problem(one, row, column):
                cure = "correct the row, or name another column"
                raise BadData(path, f"column {column!r} {problem}", cure, line)


def _problem(check: Check, row: Row, column: str) -> str:
    """Return why no answer could meet a row; empty if one could."""
    value = row[column]
    if isinstance(check, Equals | Sql) and not read.as_text(value).strip():
        return "is empty, and an empty answer is never right"
    if isinstance(check, Tests):
        return read.problem_with_tests(read.tests_of(value))
    if isinstance(check, Number) and last_number(read.as_text(value)) is None:
        return "has no number"
    if isinstance(check, Texts):
        texts = read.texts_of(check, row) or [""]
        return next(filter(None, map(read.problem_with, texts)), "")
    return ""


def file_hashes(checks: Sequence[Check]) -> dict[str, str]:
    """Return path -> SHA-256 of all files that checks read, for a plan."""
    paths = [path for one in checks for path in one.files]
    return {path: sha256(workspace.existing(path)) for path in dict.fromkeys(paths)}


def columns_read(checks: Sequence[Check]) -> set[str]:
    """Return the columns that checks name; code of the user's own names them as texts in it."""
    names = {name for one in checks for name in one.columns}
    names |= {one.entry_point for one in checks if isinstance(one, Tests) and one.entry_point}
    for one in checks:
        if isinstance(one, Python):
            with contextlib.suppress(SyntaxError, ValueError):
                tree = ast.parse(workspace.existing(one.path).read_bytes())
                values = (getattr(node, "value", None) for node in ast.walk(tree))
                names |= {value for value in values if isinstance(value, str)}
    return names


def _score_of(
    check: Check,
    name: str,
    judged: tuple[Path, float | None],
    opened: contextlib.ExitStack,
) -> Score:
    """Return what scores a check; what it needs is imported with its first use."""
    paths = [workspace.existing(path) for path in check.files]
    if isinstance(check, Judge):
        from ft_tools.metrics.checks.judge import JudgeScorer

        judge = opened.enter_context(contextlib.closing(JudgeScorer(check, name, *judged)))
        return judge.score
    if isinstance(check, Tests | Sql | Python):
        from ft_tools.metrics.checks import running

        if isinstance(check, Tests):
            return running.tests_score(check)
        if isinstance(check, Sql):
            return _one_by_one(running.sql_score(check, paths, opened))
        return _one_by_one(running.python_score(check, paths[0], opened))
    if isinstance(check, JsonSchema):
        from ft_tools.metrics.schema import conformance, load_schema

        schema = load_schema(paths[0]) if paths else check.schema_
        conforms = conformance(schema, str(check.schema_) if paths else "the schema")
        return _one_by_one(partial(read.json_schema, check, conforms))
    return _one_by_one(partial(READ[check.kind], check))


def _one_by_one(score: Callable[[str, Row], float | None]) -> Score:
    return lambda answers, rows: list(map(score, answers, rows))


READ: Mapping[str, Callable[[Any, str, Row], float]] = {
    "equals": read.equals,
    "number": read.number,
    "pattern": read.pattern,
    "contains": read.contains,
    "lacks": read.lacks,
    "length": read.length,
}
"""Kinds that need nothing but the answer and its row."""
