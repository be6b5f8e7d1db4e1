"""Questions of the user's test rows, looked for by words: whole, or in runs of 13 words.

Paraphrases take a model: `creation/worker/create.py`.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from ft_tools.creation.rows import COPIED, Row
from ft_tools.evaluation.held_out import question_of, read_held_out
from ft_tools.metrics.text import words
from ft_tools.similarity.ngrams import MIN_WORDS, NGrams

TEST_QUESTION = "test_question"
"""Reason of the rows that are dropped."""


class TestQuestions:
    """What test rows ask."""

    __test__ = False

    def __init__(self, path: Path | None) -> None:
        """Read the rows; without a file nothing is held out.

        Raises:
            BadData: A line is no example with an answer.
        """
        examples = read_held_out(path) if path is not None else []
        asked = [text for one in examples for text in (one.asked, question_of(one)) if text.strip()]
        self.questions = list(dict.fromkeys(asked))
        self._copied = NGrams()
        self._having: dict[tuple[str, ...], list[str]] = defaultdict(list)
        """Words that follow each other -> the questions that have them, or are no longer."""
        for text in self.questions:
            self._copied.add(text)
            said = words(text)
            for run in _runs_of(said) or {tuple(said)}:
                self._having[run].append(f" {' '.join(said)} ")

    def drop_from(self, rows: Sequence[Row]) -> None:
        """Drop the rows that ask, or answer with, what a test row asks."""
        held = (
            any(self.hold(asked, row.answers) for asked in row.questions)
            # A passage may be that of a test row, but not what it asks about it.
            or any(
                self._shares(str(turn.get("content")), is_question=False) for turn in row.messages
            )
            for row in rows
        )
        drop(rows, held, TEST_QUESTION)

    def hold(self, question: str, answer: str = "") -> bool:
        """Return whether a row asks, or answers with, what a test row asks."""
        return self._copied.holds((question, answer)) or self._shares(question, is_question=True)

    def _shares(self, text: str, *, is_question: bool) -> bool:
        """Return whether a text holds a test question, or as a question is one or in one."""
        said = words(text)
        runs = _runs_of(said) or ({tuple(said)} if is_question else set())
        plain = f" {' '.join(said)} "
        near = {known for run in runs & self._having.keys() for known in self._having[run]}
        return any(known in plain or (is_question and plain in known) for known in near)


def drop(rows: Sequence[Row], held: Iterable[bool], reason: str) -> None:
    """Drop the rows that are held out, and every copy of their source rows."""
    found = [row for row, is_held in zip(rows, held, strict=True) if is_held]
    groups = {row.group for row in found if row.origin.kind in COPIED}
    found += [row for row in rows if row.origin.kind in COPIED and row.group in groups]
    for row in found:
        row.reason = reason


def _runs_of(said: list[str]) -> set[tuple[str, ...]]:
    """Return all words of a text that follow each other, so many at a time."""
    return set(zip(*(said[at:] for at in range(MIN_WORDS)), strict=False))
