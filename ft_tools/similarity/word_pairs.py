"""The pairs of neighbouring words of many texts, in arrays: what the lexical search compares."""

from array import array
from typing import Any

import numpy as np
from numpy.typing import NDArray

SORTED_AT_ONCE = 1 << 22


class WordPairs:
    """The pairs of neighbouring words of many texts, each once a text, as numbers.

    What texts of the two kinds have is numbered apart.
    """

    def __init__(self, words: "array[int]", ends: "array[int]", kinds: bytes) -> None:
        """Pair the words.

        Args:
            words: Of the texts, one after another, from 1 to below 2^31.
            ends: Of each text among the words.
            kinds: Of each text, 0 or 1.

        >>> made = WordPairs(array("I", [5, 6, 5, 6, 7]), array("Q", [4, 5]), bytes([1, 1]))
        >>> made.of(0), made.of(1), made.num_different
        ([1, 2], [0], 3)
        """
        self.num_texts = len(ends)
        bounds = np.zeros(self.num_texts + 1, dtype=np.int64)
        bounds[1:] = ends
        lengths = bounds[1:] - bounds[:-1]
        texts = np.repeat(np.arange(self.num_texts, dtype=np.int32), lengths)
        one = np.array(words, dtype=np.uint64)
        goes_on = np.append(texts[1:] == texts[:-1], np.full(min(1, len(texts)), False))
        # In place, because these arrays are what an audit takes most memory for.
        pairs = one << np.uint64(int(one.max(initial=0)).bit_length())
        pairs[:-1] |= one[1:]
        # One word alone is its own pair, and less than any other.
        np.copyto(pairs, one, where=~goes_on)
        del one
        pairs <<= np.uint64(1)
        pairs |= np.frombuffer(kinds, dtype=np.uint8)[texts]
        paired = goes_on | (lengths == 1)[texts]
        pairs, texts = pairs[paired], texts[paired]
        numbers, is_first, self.num_different = _numbered(pairs, texts)
        del pairs
        self.texts = texts[is_first]
        """Of each pair."""
        self.numbers = numbers[is_first]
        pair_ends = np.cumsum(np.bincount(self.texts, minlength=self.num_texts))
        self._ends = array("q", pair_ends.astype(np.int64).tobytes())

    def of(self, text: int) -> list[int]:
        """Return the pairs of a text."""
        found: list[int] = self.numbers[self._start(text) : self._ends[text]].tolist()
        return found

    def num_of(self, text: int) -> int:
        """Return how many pairs a text has."""
        return self._ends[text] - self._start(text)

    def _start(self, text: int) -> int:
        return self._ends[text - 1] if text else 0


def _numbered(
    values: NDArray[np.uint64], texts: NDArray[np.int32]
) -> tuple[NDArray[np.int32], NDArray[np.bool_], int]:
    """Number values, the same for the same one; lower ones first, as long as all fit in memory.

    Some are sorted at a time, which takes less memory.

    Returns:
        The number of each, whether it is the first of its kind in its text, and how many there are.
    """
    numbers = np.empty(len(values), dtype=np.int32)
    is_first = np.empty(len(values), dtype=np.bool_)
    parts = 1 + len(values) // SORTED_AT_ONCE
    count = 0
    for part in range(parts):
        if parts == 1:
            places = _order_of(values)
        else:
            places = np.flatnonzero(values % np.uint64(parts) == part)
            places = places[_order_of(values[places])]
        is_new = _differs(values[places])
        numbers[places] = np.cumsum(is_new) + (count - 1)
        # Equal ones are in the order of the texts.
        is_first[places] = is_new | _differs(texts[places])
        count += int(is_new.sum())
    return numbers, is_first, count


def _order_of(values: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the places of values from the lowest on, equal ones in the order of their places."""
    bits = len(values).bit_length()
    if int(values.max(initial=0)).bit_length() + bits > 64:
        return np.argsort(values, kind="stable")
    # Numbers are sorted faster than places by numbers: the place is in the lower bits.
    keys = values << np.uint64(bits)
    keys |= np.arange(len(values), dtype=np.uint64)
    keys.sort()
    keys &= np.uint64((1 << bits) - 1)
    return keys.astype(np.int64)


def _differs(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Return for each value whether it differs from the one before it."""
    return np.append(np.full(min(1, len(values)), True), values[1:] != values[:-1])
