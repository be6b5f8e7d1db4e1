"""Questions of the user's test rows, looked for by words: whole, or in runs of 13 words.

Paraphrases take a model: `creation/worker/create.py`.
"""

from collections.abc import Sequence
from pathlib import Path

from ft_tools.creation.rows import MadeRow
from ft_tools.evaluation.held_out import question_of, read_held_out
from ft_tools.metrics.text import normalise, words
from ft_tools.similarity.ngrams import MIN_WORDS, NGrams

COPIED = frozenset({"source", "variations"})
"""Kinds of rows that say the same as the others of their group."""


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
        self._whole = {_plain(text) for text in self.questions}
        self._having: dict[tuple[str, ...], list[str]] = {}
        """Words that follow each other -> the questions that have them."""
        for text in self._whole:
            for run in _runs_of(text):
                self._having.setdefault(run, []).append(text)
        self._runs = NGrams()
        for text in self.questions:
            self._runs.add(text)

    def holding(self, rows: Sequence[MadeRow]) -> list[bool]:
        """Return which rows are held out by their words, copies of their source rows included."""
        held = [
            any(self.hold(asked, row.answers) for asked in row.questions)
            # A passage may be that of a test row, but not what it asks about it.
            or any(self._holds_whole(_plain(str(turn["content"]))) for turn in row.messages)
            for row in rows
        ]
        return with_copies(rows, held)

    def hold(self, question: str, answer: str = "") -> bool:
        """Return whether a row asks, or answers with, what a test row asks."""
        plain = _plain(question)
        if plain in self._whole or self._runs.holds((question, answer)):
            return True
        # A short question inside of a longer text, on either side.
        longer = self._having.get(tuple(plain.split()[:MIN_WORDS]), ())
        return self._holds_whole(plain) or any(f" {plain} " in f" {text} " for text in longer)

    def _holds_whole(self, plain: str) -> bool:
        """Return whether a text holds a test question from its first word to its last."""
        shared = _runs_of(plain) & self._having.keys()
        found = {text for run in shared for text in self._having[run]}
        return any(f" {text} " in f" {plain} " for text in found)


def with_copies(rows: Sequence[MadeRow], held: Sequence[bool]) -> list[bool]:
    """Return which rows go: those that are held out, and every copy of their source rows."""
    groups = {
        row.group
        for row, is_held in zip(rows, held, strict=True)
        if is_held and row.origin.kind in COPIED
    }
    return [
        is_held or (row.origin.kind in COPIED and row.group in groups)
        for row, is_held in zip(rows, held, strict=True)
    ]


def _runs_of(plain: str) -> set[tuple[str, ...]]:
    """Return all words of a text that follow each other, so many at a time."""
    said = plain.split()
    return set(zip(*(said[at:] for at in range(MIN_WORDS)), strict=False))


def _plain(text: str) -> str:
    """Return a text's words in lower case, punctuation dropped."""
    return " ".join(words(normalise(text)))
