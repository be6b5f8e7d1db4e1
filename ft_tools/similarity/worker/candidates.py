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
Pairs = tuple[Rows, Rows, Vectors]
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
MOST_PAIRS = 1 << 25
"""Pairs that are held in all, 20 bytes each; when they are that many, no more rows are compared."""
MOST_HELD = 1 << 22
"""Pairs of a block of rows that are held before only the most similar ones are."""
BLOCK_ROWS = 1024
COLUMNS = 8192


class Sketches:
    """Sketches of texts, with the weights of the tokens of some columns."""

    def __init__(self, columns: Sequence[Column], num_tokens: int, longest: int) -> None:
        """Count the tokens."""
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


def similar_pairs(
    rows: Vectors, others: Vectors, lowest: float, tick: Tick = lambda *_: None
) -> tuple[Rows, Rows, int]:
    """Return the pairs of another text and a row with at least this cosine.

    Of rows that are compared with themselves, the other one of each pair comes before it.

    Returns:
        The others, the rows, and how many rows were compared: all, unless there are `MOST_PAIRS`.
    """
    every, known, is_own = torch.from_numpy(rows), torch.from_numpy(others), rows is others
    theirs, mine = [], []
    num_pairs = num_compared = 0
    for start in range(0, len(every), BLOCK_ROWS):
        if num_pairs >= MOST_PAIRS:
            break
        block = every[start : start + BLOCK_ROWS]
        found = []
        end = start + len(block) if is_own else len(known)
        for left in range(0, end, COLUMNS):
            columns = known[left : min(left + COLUMNS, end)]
            before = start - left if is_own else len(columns)
            at, column, scores = _at_least(block @ columns.T, lowest, before)
            found.append((at + start, column + left, scores))
            if sum(len(part) for part, *_ in found) > MOST_HELD:
                found = [_most_similar(found)]
        b, a, _ = _most_similar(found)
        theirs.append(a)
        mine.append(b)
        num_pairs, num_compared = num_pairs + len(a), start + len(block)
        tick(num_compared, len(every))
    return _joined(theirs), _joined(mine), num_compared


def _at_least(scores: torch.Tensor, lowest: float, diagonal: int) -> Pairs:
    """Return (row, column, cosine) of the pairs below a diagonal with at least this cosine.

    Where a row has more than `MOST_EACH` on average, only so many of each are sorted out.
    """
    is_high = torch.tril(scores >= lowest, diagonal - 1)
    if int(torch.count_nonzero(is_high)) <= MOST_EACH * len(scores):
        at, column = torch.nonzero(is_high, as_tuple=True)
    else:
        highest = torch.where(is_high, scores, -2).topk(min(MOST_EACH, scores.shape[1])).indices
        at, place = torch.nonzero(torch.gather(is_high, 1, highest), as_tuple=True)
        column = highest[at, place]
    return at.numpy(), column.numpy(), scores[at, column].numpy()


def _most_similar(found: Sequence[Pairs]) -> Pairs:
    """Join (later rows, earlier rows, cosines), and keep the highest `MOST_EACH` of each row."""
    b, a, scores = (np.concatenate(part) for part in zip(*found, strict=True))
    kept = _highest(b, scores)
    return b[kept], a[kept], scores[kept]


def _highest(rows: Rows, scores: Vectors) -> Rows:
    """Return the places of the `MOST_EACH` pairs of each row with the highest scores."""
    order = np.lexsort((-scores, rows))
    ordered = rows[order]
    rank = np.arange(len(order)) - np.searchsorted(ordered, ordered)
    return order[rank < MOST_EACH]


def _joined(parts: list[Rows]) -> Rows:
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)
