"""Find runs of words that are copied from known texts, and texts that are mostly copied.

A run of `NGrams` is 13 words, as in GPT-3 and lm-evaluation-harness; with 8, 1.26% of GSM8K's own
training questions are flagged. A known text of fewer words is looked for whole.

Source: https://arxiv.org/abs/2005.14165 appendix C; the share of GSM8K is of its own files,
https://github.com/openai/grade-school-math, counted once.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

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


class ContainmentIndex:
    """Texts by their runs of words, numbers aside: to find those that another text contains.

    Runs that many of the texts share are the wording of their task, and do not count.
    """

    def __init__(self, texts: Iterable[tuple[int, str]], size: int, max_shared: float) -> None:
        """Index texts by number; a run that a larger part of them has is the task's wording."""
        self._size = size
        self._names: dict[int, list[int]] = {}
        num_texts = 0
        for name, text in texts:
            num_texts += 1
            for run in self._runs(text):
                self._names.setdefault(run, []).append(name)
        most = max(1, int(max_shared * num_texts))
        self._names = {run: names for run, names in self._names.items() if len(names) <= most}
        self._num_runs = Counter(name for names in self._names.values() for name in names)

    def contained_in(self, text: str, fraction: float, min_runs: int) -> set[int]:
        """Return the texts of which a text has a fraction of the runs.

        Args:
            text: That may contain some.
            fraction: Of the runs of a contained text.
            min_runs: Of a contained text; one with fewer says too little.

        >>> known = ContainmentIndex([(7, "Where is parcel 12 of my order?")], 3, 0.2)
        >>> known.contained_in("Tell me: where is parcel 98 of my order?", 0.8, 4)
        {7}
        """
        shared = Counter(name for run in self._runs(text) for name in self._names.get(run, ()))
        return {
            name
            for name, count in shared.items()
            if self._num_runs[name] >= min_runs and count >= fraction * self._num_runs[name]
        }

    def _runs(self, text: str) -> set[int]:
        return set(_runs(without_numbers(_words(text)), self._size))


def without_numbers(words: Iterable[str]) -> list[str]:
    """Return words with # for each that has a digit."""
    return ["#" if any(c.isdigit() for c in word) else word for word in words]


def _words(text: str) -> list[str]:
    return WORDS.findall(text.casefold())


def _runs(words: list[str], size: int = SIZE) -> Iterator[int]:
    return (hash(" ".join(words[at : at + size])) for at in range(len(words) - size + 1))
