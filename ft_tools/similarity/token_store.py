"""Distinct token sequences in one flat array: two bytes per token and no Python object per text."""

import hashlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]
Mask = NDArray[np.bool_]


class TokenStore:
    """Token sequences by number; the same sequence has the same number."""

    def __init__(self) -> None:
        self._flat = array("H")
        self._ends = array("q", [0])
        self._numbers: dict[bytes, int] = {}
        self._views: tuple[NDArray[np.uint16], Rows] | None = None

    def __len__(self) -> int:
        return len(self._ends) - 1

    def add(self, ids: Sequence[int]) -> int:
        """Return the number of a sequence; tokens are below 65,536.

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
        return number

    def lengths(self) -> Rows:
        """Return the tokens of each sequence."""
        return np.diff(self._seen()[1])

    def of(self, number: int) -> NDArray[np.uint16]:
        """Return a sequence."""
        flat, ends = self._seen()
        return flat[ends[number] : ends[number + 1]]

    def padded(self, numbers: Rows, longest: int) -> tuple[NDArray[np.int64], Mask]:
        """Return (ids, mask) of the beginnings of some sequences, each with its last token.

        >>> store = TokenStore()
        >>> store.padded(np.array([store.add([1, 5, 6, 7, 2]), store.add([1, 2])]), 3)[0].tolist()
        [[1, 5, 2], [1, 2, 0]]
        """
        flat, ends = self._seen()
        starts, lasts = ends[numbers], ends[numbers + 1] - 1
        lengths = np.minimum(lasts + 1 - starts, longest)
        columns = np.arange(lengths.max())
        mask = columns < lengths[:, None]
        ids = np.zeros(mask.shape, dtype=np.int64)
        ids[mask] = flat[(starts[:, None] + columns)[mask]]
        ids[np.arange(len(numbers)), lengths - 1] = flat[lasts]
        return ids, mask

    def counted(self, numbers: Rows, longest: int) -> tuple[Rows, Rows, Rows]:
        """Return the different tokens of the beginnings of some sequences.

        Returns:
            The place of the sequence among the numbers, the token, and how often it is there.
        """
        ids, mask = self.padded(numbers, longest)
        rows = np.broadcast_to(np.arange(len(numbers))[:, None], ids.shape)[mask]
        keys, counts = np.unique(rows << 16 | ids[mask], return_counts=True)
        return keys >> 16, keys & 0xFFFF, counts

    def _seen(self) -> tuple[NDArray[np.uint16], Rows]:
        if self._views is None:
            flat = np.frombuffer(self._flat, dtype=np.uint16)
            self._views = flat, np.frombuffer(self._ends, dtype=np.int64)
        return self._views


@dataclass(frozen=True)
class Column:
    """One part of the compared rows: its distinct texts, and which one each row has."""

    store: TokenStore
    numbers: Rows

    @property
    def num_tokens(self) -> int:
        """Return what encoding it costs."""
        return int(self.store.lengths().sum())

    @property
    def is_empty(self) -> bool:
        """Return whether no row has a text: two special tokens are all that an empty one has."""
        return not len(self.store) or int(self.store.lengths().max()) <= 2
