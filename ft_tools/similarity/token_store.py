"""Distinct token sequences: two bytes per token, and each sequence once."""

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
        """Hold none."""
        self._numbers: dict[bytes, int] = {}
        self._texts: list[bytes] = []

    def __len__(self) -> int:
        return len(self._texts)

    def add(self, ids: Sequence[int]) -> int:
        """Return the number of a sequence; tokens are below 65,536.

        >>> store = TokenStore()
        >>> store.add([5, 6]), store.add([7]), store.add([5, 6])
        (0, 1, 0)
        """
        text = array("H", ids).tobytes()
        number = self._numbers.setdefault(text, len(self))
        if number == len(self):
            self._texts.append(text)
        return number

    def lengths(self) -> Rows:
        """Return the tokens of each sequence."""
        return np.fromiter(map(len, self._texts), dtype=np.int64, count=len(self)) // 2

    def of(self, number: int) -> NDArray[np.uint16]:
        """Return a sequence."""
        return np.frombuffer(self._texts[number], dtype=np.uint16)

    def padded(self, numbers: Rows, longest: int) -> tuple[NDArray[np.int64], Mask]:
        """Return (ids, mask) of the beginnings of some sequences, each with its last token.

        >>> store = TokenStore()
        >>> store.padded(np.array([store.add([1, 5, 6, 7, 2]), store.add([1, 2])]), 3)[0].tolist()
        [[1, 5, 2], [1, 2, 0]]
        """
        texts = [self.of(number) for number in numbers.tolist()]
        lengths = np.minimum([len(text) for text in texts], longest)
        mask = np.arange(lengths.max()) < lengths[:, None]
        ids = np.zeros(mask.shape, dtype=np.int64)
        ids[mask] = np.concatenate([text[:longest] for text in texts])
        ids[np.arange(len(texts)), lengths - 1] = [text[-1] for text in texts]
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
        return int(self.store.lengths().max(initial=0)) <= 2
