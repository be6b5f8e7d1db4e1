"""Distinct token sequences in one flat array: two bytes a token and no Python object a text."""

import hashlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


class TokenStore:
    """Token sequences by number; the same sequence has the same number."""

    def __init__(self) -> None:
        self._flat = array("H")
        self._ends = array("q", [0])
        self._numbers: dict[bytes, int] = {}
        self._views: tuple[NDArray[np.uint16], NDArray[np.int64]] | None = None

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
