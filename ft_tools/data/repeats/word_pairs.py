"""Texts as sets of neighbouring words: what the lexical search compares.

Similarity of two sets A and B is Jaccard = |A and B| / |A or B|.
"""

import re
from array import array
from collections import defaultdict
from operator import or_

import numpy as np
from numpy.typing import NDArray

# A word, or one character of a script without spaces.
WORDS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|\w+")
PLAIN_MARKS = (
    r""".,;:!?'"()\[\]{}\u00a1\u00ab\u00bb\u00bf\u2018-\u201f\u2026\u3001\u3002\u3008-\u3011"""
    r"\uff01\uff08\uff09\uff0c\uff1a\uff1b\uff1f"
)
# A word or a sign: `x = -2` is not `x = 2`, and C is neither C++ nor C#; a comma says little.
TOKENS = re.compile(rf"{WORDS.pattern}|[^\s\w{PLAIN_MARKS}]")
# The same for ASCII: what is no word becomes a blank, and a sign stands alone between blanks.
_CHARS = list(map(chr, range(128)))
_SIGNS = "".join(c for c in _CHARS if TOKENS.fullmatch(c) and not WORDS.fullmatch(c))
_BLANKS = bytes(
    ord(chr(c).lower() if c < 128 and (WORDS.fullmatch(chr(c)) or chr(c) in _SIGNS) else " ")
    for c in range(256)
)
_NO_SIGNS = bytes(c for c in range(256) if chr(c) not in _SIGNS)
MAX_WORDS = 4000
# Source: Lee et al. 2022 keep pairs at Jaccard 0.8, https://arxiv.org/abs/2107.06499
JACCARD = 0.8
SORTED_AT_ONCE = 1 << 22
MIN_SHARED = 50
SHARED_FRACTION = 0.1


class Words:
    """Gives words numbers from 1 on."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = defaultdict(lambda: len(self._numbers) + 1)
        self.num_cut = 0
        """Texts of which only the first `MAX_WORDS` words were taken."""

    def of(self, text: str) -> list[int]:
        """Return the words of a text of any length; the first `MAX_WORDS` are taken."""
        found = tokens_of(text)
        self.num_cut += len(found) > MAX_WORDS
        return list(map(self._numbers.__getitem__, found[:MAX_WORDS]))

    def pairs_of(self, text: str) -> set[int]:
        """Return the pairs of a text as numbers below 2^62; one word alone is its own pair.

        >>> of = Words().pairs_of
        >>> len(of("x = -2")), of("x = 2") <= of("x = -2"), of("..."), of("x")
        (3, False, set(), {1})
        """
        words = self.of(text)
        return set(map(or_, [word << 31 for word in words], words[1:])) if words[1:] else {*words}


class WordPairs:
    """The pairs of neighbouring words of many texts, each once a text, as numbers.

    What texts of the two kinds have is numbered apart.
    """

    def __init__(self, words: "array[int]", ends: "array[int]", kinds: NDArray[np.bool_]) -> None:
        """Pair the words.

        Args:
            words: Of the texts, one after another, from 1 to below 2^31.
            ends: Of each text among the words.
            kinds: Of each text.

        >>> made = WordPairs(array("I", [5, 6, 5, 6, 7]), array("Q", [4, 5]), np.full(2, True))
        >>> made.of(0), made.of(1), made.num_different
        ([1, 2], [0], 3)
        """
        self.num_texts = len(ends)
        bounds = np.array([0, *ends], dtype=np.int64)
        lengths = bounds[1:] - bounds[:-1]
        texts = np.repeat(np.arange(self.num_texts, dtype=np.int32), lengths)
        one = np.array(words, dtype=np.uint64)
        goes_on = np.append(texts[1:] == texts[:-1], np.full(min(1, len(texts)), False))
        other = np.append(one[1:], one[:1])
        # One word alone is its own pair, and less than any other.
        pairs = np.where(goes_on, one << np.uint64(31) | other, one) << np.uint64(1)
        paired = goes_on | (lengths == 1)[texts]
        pairs, texts = pairs[paired] | kinds[texts[paired]], texts[paired]
        numbers, self.num_different = _numbered(pairs)
        keys = texts.astype(np.int64) << 32 | numbers
        keys.sort()
        keys = keys[np.diff(keys, prepend=-1) > 0]
        self.texts = (keys >> 32).astype(np.int32)
        """Of each pair."""
        self.numbers = keys.astype(np.int32)
        self._ends: list[int] = np.cumsum(
            np.bincount(self.texts, minlength=self.num_texts)
        ).tolist()

    def of(self, text: int) -> list[int]:
        """Return the pairs of a text."""
        found: list[int] = self.numbers[self._start(text) : self._ends[text]].tolist()
        return found

    def num_of(self, text: int) -> int:
        """Return how many pairs a text has."""
        return self._ends[text] - self._start(text)

    def _start(self, text: int) -> int:
        return self._ends[text - 1] if text else 0


def _numbered(values: NDArray[np.uint64]) -> tuple[NDArray[np.int32], int]:
    """Return a number for each value, the same for the same one, and how many there are.

    Some are sorted at a time, which takes less memory.
    """
    numbers = np.empty(len(values), dtype=np.int32)
    parts = 1 + len(values) // SORTED_AT_ONCE
    part_of = values % np.uint64(parts)
    count = 0
    for part in range(parts):
        places = np.flatnonzero(part_of == part)
        found, number = np.unique(values[places], return_inverse=True)
        numbers[places] = number + count
        count += len(found)
    return numbers, count


def tokens_of(text: str) -> list[str]:
    """Return the words and signs of a text in lower case.

    >>> tokens_of("C++ isn't C, it's x_1!"), tokens_of("Ça, c'est \u4f60\u597d")
    (['c', '+', '+', 'isn', 't', 'c', 'it', 's', 'x_1'], ['ça', 'c', 'est', '\u4f60', '\u597d'])
    """
    if not text.isascii():
        return TOKENS.findall(text.casefold())
    encoded = text.encode().translate(_BLANKS)
    plain = encoded.decode()
    for sign in set(encoded.translate(None, _NO_SIGNS)):
        plain = plain.replace(chr(sign), f" {chr(sign)} ")
    return plain.split()


def jaccard(one: set[int], other: set[int]) -> float:
    """Return the similarity of two sets; 0 of two empty ones, which say nothing.

    >>> jaccard({1, 2, 3}, {2, 3, 4})
    0.5
    """
    shared = len(one & other)
    return shared / ((len(one) + len(other) - shared) or 1)


def most_of_one(num_examples: int) -> float:
    """Return how many examples may share what is still their own; above, it is a template's.

    >>> most_of_one(100), most_of_one(1000)
    (50, 100.0)
    """
    return max(MIN_SHARED, SHARED_FRACTION * num_examples)
