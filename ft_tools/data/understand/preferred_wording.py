"""Whether a few words tell the preferred answers from the others.

A classifier that sees only which words an answer has is trained on one half of a draw of the pairs
and tried on the other, both ways round. Its AUC says how far words alone go; the words that decide
are those that one side has far more often than chance allows.
"""

import math
import re
from collections import Counter
from dataclasses import dataclass, field

SAMPLE = 2000
"""Pairs that are remembered, spread over the file."""
WORD = re.compile(r"[^\W_]+|[^\w\s]")
"""Signs are words too: what ends with an exclamation mark may be all that tells the sides apart."""
MAX_WORDS = 300
FIRST, LAST = "^", "$"
"""Stand before the word that an answer begins with, or ends with."""
MAX_LAST = 40
"""Characters in which the last word is looked for."""
MIN_GAP = 0.15
"""Of the pairs: how much more often one side must have a word."""
# McNemar's z of a word. About 100,000 words are tried: chance alone reaches 4.4 once in 100,000.
MIN_Z = 5.0
MAX_MARKERS = 12


@dataclass(frozen=True)
class Marker:
    """A word of the data that one side has, and the share of the pairs in which each has it."""

    word: str
    chosen: float
    rejected: float


@dataclass
class Wording:
    """The words of a draw of pairs."""

    _chosen: "list[frozenset[str]]" = field(default_factory=list)
    _rejected: "list[frozenset[str]]" = field(default_factory=list)
    _stride: int = 1
    _seen: int = 0

    def add(self, chosen: str, rejected: str) -> None:
        """Remember the words of a pair, if it is drawn."""
        if self._seen % self._stride == 0:
            self._chosen.append(words_of(chosen))
            self._rejected.append(words_of(rejected))
            if len(self._chosen) >= SAMPLE:
                self._chosen, self._rejected = self._chosen[::2], self._rejected[::2]
                self._stride *= 2
        self._seen += 1

    def scores(self) -> tuple[list[float], list[float]]:
        """Return what the classifier gives each (chosen, rejected), tried on pairs it never saw."""
        chosen, rejected = [0.0] * len(self._chosen), [0.0] * len(self._chosen)
        for half in (0, 1):
            weights = _weights(self._chosen[1 - half :: 2], self._rejected[1 - half :: 2])
            for at in range(half, len(self._chosen), 2):
                chosen[at] = _score(self._chosen[at], weights)
                rejected[at] = _score(self._rejected[at], weights)
        return chosen, rejected

    def markers(self) -> list[Marker]:
        """Return the words that tell the sides apart, the plainest first."""
        only_chosen: Counter[str] = Counter()
        only_rejected: Counter[str] = Counter()
        both: Counter[str] = Counter()
        for chosen, rejected in zip(self._chosen, self._rejected, strict=True):
            only_chosen.update(chosen - rejected)
            only_rejected.update(rejected - chosen)
            both.update(chosen & rejected)
        total = len(self._chosen)
        found = []
        for word in only_chosen.keys() | only_rejected.keys():
            b, c = only_chosen[word], only_rejected[word]
            if abs(b - c) >= MIN_GAP * total and abs(b - c) >= MIN_Z * math.sqrt(b + c):
                shares = ((b + both[word]) / total, (c + both[word]) / total)
                found.append(Marker(word, *(round(share, 3) for share in shares)))
        return sorted(found, key=lambda m: (-abs(m.chosen - m.rejected), m.word))[:MAX_MARKERS]


def words_of(text: str) -> frozenset[str]:
    """Return the different words among the first of a text, the first and the last one marked.

    >>> sorted(words_of("Sure, sure. Yes"))
    ['$yes', ',', '.', '^sure', 'sure', 'yes']
    """
    words = WORD.findall(text[: 12 * MAX_WORDS].lower())[:MAX_WORDS]
    last = WORD.findall(text[-MAX_LAST:].lower())[-1:]
    return frozenset([*words, FIRST + words[0], *(LAST + word for word in last)] if words else [])


def _weights(chosen: list[frozenset[str]], rejected: list[frozenset[str]]) -> dict[str, float]:
    """Return the log odds of each word (naive Bayes with add-one smoothing)."""
    liked = Counter(word for words in chosen for word in words)
    disliked = Counter(word for words in rejected for word in words)
    return {word: math.log((liked[word] + 1) / (disliked[word] + 1)) for word in liked | disliked}


def _score(words: frozenset[str], weights: dict[str, float]) -> float:
    """Return the mean weight, so that a longer answer is not rated by its length."""
    # The sum does not depend on the order in which a set gives its words.
    return math.fsum(weights.get(word, 0.0) for word in words) / len(words) if words else 0.0
