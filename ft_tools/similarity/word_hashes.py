"""The words of many texts at once, each as 64 bits: what `tokens_of` gives, without its strings.

A word of bytes b is the sum of b[i] * p^(i + 1), for all words from one running sum over the texts.
Two of a million different words are alike once in 40 million files.
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ft_tools.similarity.words import BLANK, END, SIGNS, joined

# Odd, so that it has an inverse; without a pattern in its bits.
FACTOR = 0x9E37_79B9_7F4A_7C15
IN_NO_WORD, IN_WORD, SIGN = range(3)
_KINDS = np.array(
    [
        IN_NO_WORD if byte in (BLANK, END[0]) else SIGN if chr(byte) in SIGNS else IN_WORD
        for byte in range(256)
    ],
    dtype=np.uint8,
)
PIECE = 1 << 18
"""Bytes that are looked at together, or one word if it is longer."""
SLOT_BITS = 17


class Tokens(NamedTuple):
    """The words of some texts, one after another."""

    hashes: NDArray[np.uint64]
    ends: NDArray[np.int64]
    """Of each text among them."""


def tokens_in(texts: Iterable[str]) -> Tokens:
    """Return the words and signs of each of some texts.

    >>> tokens = tokens_in(["C++ is", "", "is C"])
    >>> tokens.ends.tolist(), len(set(tokens.hashes.tolist())), len(tokens.hashes)
    ([4, 4, 6], 3, 6)
    """
    hashes, ends, num = [], [], 0
    for read in _pieces(joined(texts)):
        starts, new = _hashed(read)
        hashes.append(new)
        ends.append(num + np.searchsorted(starts, np.flatnonzero(read == END[0])))
        num += len(starts)
    return Tokens(np.concatenate(hashes), np.concatenate(ends))


def _pieces(encoded: bytes) -> Iterator[NDArray[np.uint8]]:
    """Yield some bytes at a time, which take less memory, cut behind blanks."""
    start, last = 0, len(encoded)
    while True:
        end = last
        if last - start > PIECE:
            end = encoded.rfind(b" ", start, start + PIECE) + 1
            end = end or encoded.find(b" ", start + PIECE) + 1 or last
        yield np.frombuffer(encoded, dtype=np.uint8)[start:end]
        if end == last:
            return
        start = end


def _hashed(read: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """Return where the words of some bytes start, and the hash of each."""
    kinds = _KINDS[read]
    edges = np.ones(len(read) + 1, dtype=np.bool_)
    # A sign stands alone.
    edges[1:-1] = (kinds[:-1] != kinds[1:]) | (kinds[1:] == SIGN)
    starts = np.flatnonzero(edges[:-1] & (kinds != IN_NO_WORD))
    ends = np.flatnonzero(edges[1:] & (kinds != IN_NO_WORD)) + 1
    powers, inverses = _powers(max(PIECE, len(read)))
    sums = np.zeros(len(read) + 1, dtype=np.uint64)
    np.cumsum(read * powers[: len(read)], out=sums[1:])
    return starts, (sums[ends] - sums[starts]) * inverses[starts]


@lru_cache(maxsize=1)
def _powers(count: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Return the first powers of the factor, and what takes them back to its first one."""
    one = np.full(count, FACTOR, dtype=np.uint64)
    other = np.full(count, pow(FACTOR, -1, 1 << 64), dtype=np.uint64)
    one[0], other[0] = 1, FACTOR
    return np.cumprod(one), np.cumprod(other)


class WordNumbers:
    """Gives words numbers from 1 on, in their order; each is looked up in a table first."""

    def __init__(self) -> None:
        """Know no word."""
        self._numbers: dict[int, int] = {}
        self._known = np.zeros(1 << SLOT_BITS, dtype=np.uint64)
        self._number_at = np.zeros(1 << SLOT_BITS, dtype=np.uint32)

    def of(self, hashes: NDArray[np.uint64]) -> NDArray[np.uint32]:
        """Return the numbers of words.

        >>> numbers = WordNumbers()
        >>> [numbers.of(tokens_in([text]).hashes).tolist() for text in ("a b a", "c b")]
        [[1, 2, 1], [3, 2]]
        """
        slots = hashes >> np.uint64(64 - SLOT_BITS)
        found: NDArray[np.uint32] = self._number_at[slots]
        missing = np.flatnonzero((self._known[slots] != hashes) | (found == 0))
        # What came first keeps its place: frequent words come early.
        free = missing[found[missing] == 0]
        numbers = self._numbers
        words = hashes[missing].tolist()
        found[missing] = [numbers.setdefault(word, len(numbers) + 1) for word in words]
        self._known[slots[free]] = hashes[free]
        self._number_at[slots[free]] = found[free]
        return found
