"""Which rows could have a near-duplicate, by cheap vectors; numpy, loaded in workers only.

Up to `CELL_ROWS` rows all are compared; above, only rows in the nearest cells of an inverted file.
Pairs a little below the gate are drawn at random, so that what the gate misses can be measured.

Source: Jegou et al. 2011, https://doi.org/10.1109/TPAMI.2010.57 (inverted file)
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ft_tools.data.neighbours import (
    BLOCK_ROWS,
    COLUMNS,
    Mask,
    Product,
    Rows,
    Vectors,
    plain_product,
)

# An index pays above about this many rows. Source: facts/dataset section 2 (57 s at 100,000 rows).
CELL_ROWS = 150_000
KMEANS_ROUNDS = 4
KMEANS_SAMPLE = 32
PROBES = 6
# Pairs taken from one block, so that data that is alike in bulk does not fill the memory.
DRAWN_A_BLOCK = 2048
Tick = Callable[[int], None]


@dataclass
class Drawn:
    """Pairs drawn at random from those whose score is in [lowest, highest)."""

    lowest: float
    highest: float
    size: int
    num_pairs: int = 0
    pairs: NDArray[np.int64] = field(default_factory=lambda: np.empty((0, 2), dtype=np.int64))
    _keys: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    _numbers: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def take(self, mask: Mask, rows: Rows, columns: Rows) -> None:
        """Add the pairs of a block; each is taken from one side only."""
        found = np.flatnonzero(mask & (rows[:, None] < columns[None, :]))
        if not len(found):
            return
        self.num_pairs += len(found)
        drawn = found
        if len(found) > DRAWN_A_BLOCK:
            drawn = self._numbers.choice(found, DRAWN_A_BLOCK, replace=False)
        # The key of the best of k uniform draws: a pair that stands for k of them.
        keys = self._numbers.random(len(drawn)) ** (len(drawn) / len(found))
        at, column = np.unravel_index(drawn, mask.shape)
        pairs = np.stack([rows[at], columns[column]], axis=1)
        every = np.concatenate([self._keys, keys])
        best = np.argsort(-every, kind="stable")[: self.size]
        self.pairs = np.concatenate([self.pairs, pairs])[best]
        self._keys = every[best]


@dataclass(frozen=True)
class Gate:
    """How rows are compared with one another."""

    lowest: float
    """The score that a pair needs."""
    product: Product = plain_product
    tick: Tick = lambda _: None
    drawn: tuple[Drawn, ...] = ()

    def near(self, here: Vectors, there: Vectors, rows: Rows, columns: Rows) -> Mask:
        """Return the pairs of two different rows that reach the gate."""
        scores = self.product(here, there)
        near: Mask = scores >= min([self.lowest, *(band.lowest for band in self.drawn)])
        near &= rows[:, None] != columns[None, :]
        if not self.drawn or not near.any():
            return near
        for band in self.drawn:
            band.take(near & (scores >= band.lowest) & (scores < band.highest), rows, columns)
        return near & (scores >= self.lowest)


Visit = Callable[[Mask, Rows, Rows], None]
"""Called with which rows reach the gate with which columns."""


def has_neighbour(vectors: Vectors, gate: Gate) -> Mask:
    """Tell for each row whether any other row reaches the gate."""
    found = np.zeros(len(vectors), dtype=np.bool_)

    def mark(near: Mask, rows: Rows, columns: Rows) -> None:
        found[rows] |= near.any(axis=1)
        found[columns] |= near.any(axis=0)

    _visit(vectors, gate, mark)
    return found


def linked(vectors: Vectors, gate: Gate) -> Rows:
    """Return for each row the first row that a chain of pairs at the gate connects it with."""
    parents = np.arange(len(vectors))

    def roots(rows: Rows) -> Rows:
        while True:
            above = parents[rows]
            if np.array_equal(above, rows):
                return rows
            rows = above

    def join(near: Mask, rows: Rows, columns: Rows) -> None:
        at, column = np.nonzero(near)
        while len(at):
            a, b = roots(rows[at]), roots(columns[column])
            apart = a != b
            at, column, a, b = at[apart], column[apart], a[apart], b[apart]
            # Of several pairs for one row one wins; the others come again.
            parents[np.maximum(a, b)] = np.minimum(a, b)

    _visit(vectors, gate, join)
    return roots(np.arange(len(parents)))


def _visit(vectors: Vectors, gate: Gate, visit: Visit) -> None:
    """Compare every row with every other one; above `CELL_ROWS`, with those of near cells."""
    count = len(vectors)
    if count > CELL_ROWS:
        _visit_cells(vectors, gate, visit)
        return
    for start in range(0, count, BLOCK_ROWS):
        rows = np.arange(start, min(start + BLOCK_ROWS, count))
        for left in range(start, count, COLUMNS):
            columns = np.arange(left, min(left + COLUMNS, count))
            there = vectors[left : left + COLUMNS]
            visit(gate.near(vectors[rows], there, rows, columns), rows, columns)
        gate.tick(int(rows[-1]) + 1)


def _visit_cells(vectors: Vectors, gate: Gate, visit: Visit) -> None:
    """Look only where the vectors are close to the same centres.

    Rows sit in one cell and ask `PROBES` cells.
    """
    count = len(vectors)
    centres = _centres(vectors, int(4 * count**0.5), gate.product)
    probes = np.empty((count, PROBES), dtype=np.int32)
    for start in range(0, count, BLOCK_ROWS):
        scores = gate.product(vectors[start : start + BLOCK_ROWS], centres)
        top = np.argpartition(scores, -PROBES, axis=1)[:, -PROBES:]
        order = np.argsort(np.take_along_axis(scores, top, axis=1), axis=1)[:, ::-1]
        probes[start : start + BLOCK_ROWS] = np.take_along_axis(top, order, axis=1)
    members = _members(probes[:, 0], len(centres))
    askers = [_members(probes[:, at], len(centres)) for at in range(PROBES)]
    for cell, inside in enumerate(members):
        asking = np.concatenate([asker[cell] for asker in askers])
        for left in range(0, len(inside), COLUMNS):
            columns = inside[left : left + COLUMNS]
            there = vectors[columns]
            for start in range(0, len(asking), BLOCK_ROWS):
                rows = asking[start : start + BLOCK_ROWS]
                visit(gate.near(vectors[rows], there, rows, columns), rows, columns)
        if cell % 64 == 0:
            gate.tick(int(count * cell / len(centres)))


def _centres(vectors: Vectors, count: int, product: Product) -> Vectors:
    """Return k-means centres of a sample, of length one; deterministic."""
    numbers = np.random.default_rng(0)
    drawn = np.sort(numbers.permutation(len(vectors))[: count * KMEANS_SAMPLE])
    sample = vectors[drawn]
    centres: Vectors = sample[numbers.permutation(len(sample))[:count]]
    for _ in range(KMEANS_ROUNDS):
        sums = np.zeros_like(centres)
        for start in range(0, len(sample), BLOCK_ROWS):
            part = sample[start : start + BLOCK_ROWS]
            np.add.at(sums, product(part, centres).argmax(axis=1), part)
        length = np.linalg.norm(sums, axis=1, keepdims=True)
        centres = np.where(length > 0, sums / np.maximum(length, 1e-12), centres).astype(np.float32)
    return centres


def _members(cells: NDArray[np.int32], count: int) -> list[Rows]:
    """Return the rows of each cell."""
    order = np.argsort(cells, kind="stable")
    ends = np.searchsorted(cells[order], np.arange(count + 1))
    return [order[ends[at] : ends[at + 1]] for at in range(count)]
