"""Find the rows that share enough of their telling words to be near by meaning.

A text is a sketch: the sum of a random vector per token, frequent tokens weighted down, of length
one. The cosine of two sketches estimates that of their tf-idf vectors. Of the pairs that MiniLM
puts above 0.95 in prompt and answer, 99.8% or more share enough; of those above 0.9, 99.3%.

Source: Achlioptas 2003, https://doi.org/10.1016/S0022-0000(03)00025-4 (random signs); measured,
benchmarks/audit.py
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ft_tools.similarity.token_store import Column, Rows, TokenStore

Vectors = NDArray[np.float32]
Tick = Callable[[int, int], None]
SIZE = 128
"""Directions of a sketch. With 96, 0.1% more pairs are lost; 256 find as many."""
BELOW = 0.5
"""How far the cosine of the sketches may be below that of MiniLM, which knows synonyms."""
CONSTANT = 0.1
"""Weight of a token that every text has."""
MOST_EACH = 64
"""Earlier rows that a row is compared with, the most similar ones: texts that are alike in bulk
would make billions of pairs."""
BLOCK_ROWS = 1024
COLUMNS = 8192


class Sketches:
    """Sketches of texts, with the weights of the tokens of some columns."""

    def __init__(self, columns: Sequence[Column], num_tokens: int, longest: int) -> None:
        """Count the tokens.

        Args:
            columns: The texts whose tokens decide which ones are telling.
            num_tokens: Size of the vocabulary.
            longest: Tokens of a text that are read.
        """
        self._longest = longest
        found, total = np.zeros(num_tokens, dtype=np.int64), 0
        for column in columns:
            for start in range(0, len(column.store), COLUMNS):
                numbers = np.arange(start, min(start + COLUMNS, len(column.store)))
                _, tokens, _ = column.store.counted(numbers, longest)
                found += np.bincount(tokens, minlength=num_tokens)
            total += len(column.store)
        weights = np.log(max(1, total) / np.maximum(found, 1)) + CONSTANT
        self._weights = weights.astype(np.float32)
        signs = np.random.default_rng(0).choice([-1, 1], size=(num_tokens, SIZE))
        self._table = torch.from_numpy(signs.astype(np.float32))

    def of(self, store: TokenStore) -> Vectors:
        """Return the sketches of all texts of a store, (n, 128), of length one."""
        made = np.empty((len(store), SIZE), dtype=np.float32)
        for start in range(0, len(store), COLUMNS):
            numbers = np.arange(start, min(start + COLUMNS, len(store)))
            rows, tokens, counts = store.counted(numbers, self._longest)
            weights = (1 + np.log(counts)).astype(np.float32) * self._weights[tokens]
            starts = np.searchsorted(rows, np.arange(len(numbers)))
            sums = torch.nn.functional.embedding_bag(
                torch.from_numpy(tokens),
                self._table,
                torch.from_numpy(starts),
                mode="sum",
                per_sample_weights=torch.from_numpy(weights),
            )
            made[numbers] = torch.nn.functional.normalize(sums, dim=1).numpy()
        return made

    def side_by_side(self, columns: Sequence[Column]) -> Vectors:
        """Return a sketch per row: the cosine of two is the mean of the cosines of the columns."""
        made = np.empty((len(columns[0].numbers), SIZE * len(columns)), dtype=np.float32)
        for at, column in enumerate(columns):
            part = self.of(column.store) / np.float32(len(columns) ** 0.5)
            made[:, at * SIZE : (at + 1) * SIZE] = part[column.numbers]
        return made


def similar_pairs(vectors: Vectors, lowest: float, tick: Tick) -> tuple[Rows, Rows]:
    """Return the pairs of rows with at least this cosine, the earlier row of each first."""
    every = torch.from_numpy(vectors)
    earlier, later = [], []
    for start in range(0, len(every), BLOCK_ROWS):
        block = every[start : start + BLOCK_ROWS]
        found = []
        for left in range(0, start + len(block), COLUMNS):
            columns = every[left : min(left + COLUMNS, start + len(block))]
            scores = block @ columns.T
            at, column = torch.nonzero(scores >= lowest, as_tuple=True)
            rows, others = at.numpy() + start, column.numpy() + left
            before = others < rows
            found.append((rows[before], others[before], scores[at, column].numpy()[before]))
        b, a, scores_of = (np.concatenate(part) for part in zip(*found, strict=True))
        kept = _highest(b, scores_of)
        earlier.append(a[kept])
        later.append(b[kept])
        tick(start + len(block), len(every))
    return _joined(earlier), _joined(later)


def similar_across(rows: Vectors, others: Vectors, lowest: float) -> tuple[Rows, Rows]:
    """Return the pairs of a row and another text with at least this cosine."""
    known, mine, theirs = torch.from_numpy(others), [], []
    for start in range(0, len(rows), BLOCK_ROWS):
        scores = torch.from_numpy(rows[start : start + BLOCK_ROWS]) @ known.T
        at, column = (part.numpy() for part in torch.nonzero(scores >= lowest, as_tuple=True))
        kept = _highest(at, scores[at, column].numpy())
        mine.append(at[kept] + start)
        theirs.append(column[kept])
    return _joined(mine), _joined(theirs)


def _highest(rows: Rows, scores: Vectors) -> Rows:
    """Return the places of the `MOST_EACH` pairs of each row with the highest scores."""
    order = np.lexsort((-scores, rows))
    ordered = rows[order]
    rank = np.arange(len(order)) - np.searchsorted(ordered, ordered)
    return order[rank < MOST_EACH]


def _joined(parts: list[Rows]) -> Rows:
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)
