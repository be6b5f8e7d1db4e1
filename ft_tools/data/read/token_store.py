"""Distinct token sequences in one flat array: two bytes a token and no Python object a text."""

import hashlib
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ft_tools.data.repeats.near_by_meaning import Rows

MARK_BITS = 1024


class TokenStore:
    """Token sequences by number; the same sequence has the same number."""

    def __init__(self) -> None:
        self._flat = array("H")
        self._ends = array("q", [0])
        self._numbers: dict[bytes, int] = {}
        self._cut: set[int] = set()
        self._views: tuple[NDArray[np.uint16], NDArray[np.int64]] | None = None

    def __len__(self) -> int:
        return len(self._ends) - 1

    def add(self, ids: Sequence[int], *, is_cut: bool = False) -> int:
        """Return the number of a sequence; tokens are below 65,536.

        Args:
            ids: The tokens.
            is_cut: Whether the text goes on behind them.

        >>> store = TokenStore()
        >>> store.add([5, 6]), store.add([7]), store.add([5, 6])
        (0, 1, 0)
        """
        part = array("H", ids)
        key = hashlib.blake2b(part.tobytes(), digest_size=16).digest()
        number = self._numbers.setdefault(key, len(self))
        if number == len(self):
            # An array that is looked at cannot grow.
            self._views = None
            self._flat.extend(part)
            self._ends.append(len(self._flat))
        if is_cut:
            self._cut.add(number)
        return number

    def is_cut(self, number: int) -> bool:
        """Tell whether texts with this number go on, each in its way."""
        return number in self._cut

    def lengths(self) -> NDArray[np.int64]:
        """Return the tokens of each sequence."""
        return np.diff(self._seen()[1])

    def padded(self, numbers: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return (ids, mask) of some sequences, shaped (n, longest)."""
        flat, ends = self._seen()
        starts, lengths = ends[numbers], ends[numbers + 1] - ends[numbers]
        columns = np.arange(lengths.max())
        mask = columns < lengths[:, None]
        ids = np.zeros(mask.shape, dtype=np.int64)
        ids[mask] = flat[(starts[:, None] + columns)[mask]]
        return ids, mask

    def joined(self, numbers: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the tokens of some sequences one after another, and where each starts."""
        flat, ends = self._seen()
        lengths = ends[numbers + 1] - ends[numbers]
        starts = np.cumsum(lengths) - lengths
        places = np.repeat(ends[numbers] - starts, lengths) + np.arange(lengths.sum())
        return flat[places].astype(np.int64), starts

    def shortened(self, numbers: NDArray[np.int64], longest: int) -> "TokenStore":
        """Return the beginnings of some sequences, each with its last token.

        >>> store = TokenStore()
        >>> short = store.shortened(np.array([store.add([1, 5, 6, 7, 2])]), 3)
        >>> short.joined(np.arange(1))[0].tolist()
        [1, 5, 2]
        """
        flat, ends = self._seen()
        short = TokenStore()
        for number in numbers.tolist():
            ids = flat[ends[number] : ends[number + 1]].tolist()
            short.add(ids if len(ids) <= longest else [*ids[: longest - 1], ids[-1]])
        return short

    def marks(self, bits: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Return for each sequence the union of its tokens' bits, shaped (n, words).

        `bits` has the place of each token's bit.
        """
        flat, ends = self._seen()
        marks = np.zeros((len(self), MARK_BITS // 64), dtype=np.uint64)
        rows = np.repeat(np.arange(len(self)), np.diff(ends))
        place = bits[flat]
        np.bitwise_or.at(marks, (rows, place // 64), np.uint64(1) << (place % 64))
        return marks

    def counts(self, size: int) -> NDArray[np.int64]:
        """Return how often each token below `size` is in the distinct sequences."""
        return np.bincount(self._seen()[0], minlength=size)[:size]

    def _seen(self) -> tuple[NDArray[np.uint16], NDArray[np.int64]]:
        if self._views is None:
            flat = np.frombuffer(self._flat, dtype=np.uint16)
            self._views = flat, np.frombuffer(self._ends, dtype=np.int64)
        return self._views


@dataclass(frozen=True)
class Column:
    """One field of the compared rows: its distinct texts, and which one each row has."""

    store: TokenStore
    numbers: NDArray[np.int64]

    @property
    def num_tokens(self) -> int:
        """Return what encoding it costs."""
        return int(self.store.lengths().sum())

    @property
    def is_empty(self) -> bool:
        """Tell whether no row has a text: two special tokens are all that an empty one has."""
        return not len(self.store) or int(self.store.lengths().max()) <= 2


def shared_tokens(columns: Sequence[Column]) -> Callable[[Rows, Rows], NDArray[np.float64]]:
    """Return the Jaccard index of the tokens of pairs of rows, all fields as one set.

    A token is one of `MARK_BITS` bits, another one in each field, so it is a little high.

    >>> store = TokenStore()
    >>> column = Column(store, np.array([store.add(ids) for ids in ([1, 2, 3], [1, 2, 4], [9])]))
    >>> shared_tokens([column])(np.array([0, 0]), np.array([1, 2])).tolist()
    [0.5, 0.0]
    """
    numbers = np.random.default_rng(0)
    marks = np.zeros((len(columns[0].numbers), MARK_BITS // 64), dtype=np.uint64)
    for column in columns:
        bits = numbers.integers(MARK_BITS, size=1 << 16, dtype=np.uint64)
        marks |= column.store.marks(bits)[column.numbers]

    def jaccard(a: Rows, b: Rows) -> NDArray[np.float64]:
        both = np.bitwise_count(marks[a] & marks[b]).sum(axis=1, dtype=np.int64)
        either = np.bitwise_count(marks[a] | marks[b]).sum(axis=1, dtype=np.int64)
        index: NDArray[np.float64] = both / np.maximum(either, 1)
        return index

    return jaccard
