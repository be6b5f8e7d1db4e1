"""Find runs of words that are copied from known texts.

A run is 13 words, as in GPT-3 and lm-evaluation-harness; with 8, 1.26% of GSM8K's own training
questions are flagged. A known text of fewer words is looked for whole.

Source: https://arxiv.org/abs/2005.14165 appendix C; the share of GSM8K is of its own files,
https://github.com/openai/grade-school-math, counted once.
"""

from collections.abc import Iterator, Sequence

from ft_tools.similarity.words import WORDS

SIZE = 13
MIN_WORDS = 5
"""Of a known text; a shorter one stands in many."""


class NGrams:
    """The runs of words of some texts, as hashes."""

    def __init__(self) -> None:
        """Know no text."""
        self._runs: set[int] = set()
        self._short: set[int] = set()

    def add(self, text: str) -> bool:
        """Remember a text; return False for one that is too short to be looked for."""
        words = _words(text)
        if len(words) < MIN_WORDS:
            return False
        if len(words) < SIZE:
            self._short.add(hash(" ".join(words)))
        self._runs.update(_runs(words))
        return True

    def holds(self, texts: Sequence[str]) -> bool:
        """Return whether one of some texts has a run of a known text, or is a short one.

        >>> known = NGrams()
        >>> known.add("one two three four five six"), known.add("too short")
        (True, False)
        >>> known.holds(["One two, three four five six!"]), known.holds(["one two three four five"])
        (True, False)
        """
        for text in texts:
            words = _words(text)
            if len(words) < SIZE:
                if hash(" ".join(words)) in self._short:
                    return True
            elif not self._runs.isdisjoint(_runs(words)):
                return True
        return False


def _words(text: str) -> list[str]:
    return WORDS.findall(text.casefold())


def _runs(words: list[str]) -> Iterator[int]:
    return (hash(" ".join(words[at : at + SIZE])) for at in range(len(words) - SIZE + 1))
