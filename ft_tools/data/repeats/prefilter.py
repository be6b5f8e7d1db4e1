"""Which rows could have a near-duplicate, by cheap vectors; numpy, loaded in workers only.

Up to `CELL_ROWS` rows all are compared; above, where a prefilter allows it, only rows in the
nearest cells of an inverted file, as many cells as some rows, compared with all others, show to be
enough. Pairs that fail by a little are drawn at random, so that what the prefilter misses can be
measured.

Source: Jegou et al. 2011, https://doi.org/10.1109/TPAMI.2010.57 (inverted file)
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ft_tools.data.repeats.near_by_meaning import (
    BLOCK_ROWS,
    COLUMNS,
    DENSE,
    Mask,
    Rows,
    Vectors,
    plain_product,
)

# An index pays above about this many rows: comparing 100,000 rows with one another took 57 s, once
# measured on two cores. benchmarks/audit.json has the times of the whole search.
CELL_ROWS = 150_000
KMEANS_ROUNDS = 4
KMEANS_SAMPLE = 32
# Cells that a row asks: the fewest that find enough of the pairs of some rows, these at most.
PROBES = 16
INDEX_RECALL = 0.998
ASKED_ROWS = 1000
# Pairs taken from one block, so that data that is alike in bulk does not fill the memory.
DRAWN_A_BLOCK = 2048
Tick = Callable[[int], None]
Near = Callable[[Vectors, Vectors, float], tuple[Rows, Rows, Vectors]]
"""(a, b, lowest) -> the pairs with at least this cosine: places in a, in b, and the cosines."""
Cells = NDArray[np.int64]
Nearest = Callable[[Vectors, Vectors, int], Cells]
"""(rows, centres, count) -> the places of each row's `count` nearest centres, the nearest first."""


def plain_near(a: Vectors, b: Vectors, lowest: float) -> tuple[Rows, Rows, Vectors]:
    """Return the pairs of rows of a and b with at least this cosine; a worker passes a faster one.

    >>> a = np.eye(2, dtype=np.float32)
    >>> plain_near(a, a[:1], 0.5)
    (array([0]), array([0]), array([1.], dtype=float32))
    """
    scores = plain_product(a, b)
    at, column = np.nonzero(scores >= lowest)
    return at, column, scores[at, column]


@dataclass
class Drawn:
    """Pairs drawn at random."""

    size: int
    num_pairs: int = 0
    """All that they were drawn from."""
    pairs: NDArray[np.int64] = field(default_factory=lambda: np.empty((0, 2), dtype=np.int64))
    _keys: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    _numbers: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def take(self, a: Rows, b: Rows) -> None:
        """Add the pairs of a block; each is taken from one side only."""
        found = np.flatnonzero(a < b)
        if not len(found):
            return
        self.num_pairs += len(found)
        drawn = found
        if len(found) > DRAWN_A_BLOCK:
            drawn = self._numbers.choice(found, DRAWN_A_BLOCK, replace=False)
        # The key of the best of k uniform draws: a pair that stands for k of them.
        keys = self._numbers.random(len(drawn)) ** (len(drawn) / len(found))
        every = np.concatenate([self._keys, keys])
        best = np.argsort(-every, kind="stable")[: self.size]
        self.pairs = np.concatenate([self.pairs, np.stack([a[drawn], b[drawn]], axis=1)])[best]
        self._keys = every[best]


@dataclass
class Sample:
    """Pairs that pass a prefilter, and pairs not far from it that do not."""

    lowest: float
    """The score of those that do not pass."""
    passed: Drawn
    failed: Drawn
    index_recall: float = 1.0
    """Share of the pairs with the score that the index lets be compared, of some rows with all."""


Test = Callable[[Rows, Rows, Vectors], Mask]
"""(a, b, scores) -> which of the pairs pass."""


def every_pair(a: Rows, b: Rows, scores: Vectors) -> Mask:
    """Agree to every pair."""
    return np.ones(len(a), dtype=np.bool_)


@dataclass(frozen=True)
class Prefilter:
    """How rows are compared with one another."""

    lowest: float
    """The score that a pair needs."""
    near: Near = plain_near
    tick: Tick = lambda _: None
    agrees: Test = every_pair
    """A second test, of the pairs that have the score."""
    sample: Sample | None = None
    nearest: Nearest | None = None
    """Finds the cells of an index, by which many rows are then compared; it misses a few pairs."""

    def pairs(self, here: Vectors, there: Vectors, rows: Rows, columns: Rows) -> tuple[Rows, Rows]:
        """Return the pairs of two different rows that pass."""
        sample = self.sample
        at, column, scores = self.near(here, there, sample.lowest if sample else self.lowest)
        a, b = rows[at], columns[column]
        passes = (a != b) & (scores >= self.lowest)
        # Where many pairs have the score, the second test would take longer than what it saves.
        if len(a) <= DENSE * len(rows) * len(columns):
            passes[passes] = self.agrees(a[passes], b[passes], scores[passes])
        if sample:
            sample.passed.take(a[passes], b[passes])
            sample.failed.take(a[~passes], b[~passes])
        return a[passes], b[passes]


Visit = Callable[[Rows, Rows], None]
"""Called with pairs that pass the prefilter."""


def has_neighbour(vectors: Vectors, prefilter: Prefilter, labels: Rows) -> tuple[Mask, Mask]:
    """Tell for each row whether any other row passes the prefilter, and any with another label."""
    found, unlike = np.zeros((2, len(vectors)), dtype=np.bool_)

    def mark(a: Rows, b: Rows) -> None:
        found[a] = found[b] = True
        differ = labels[a] != labels[b]
        unlike[a[differ]] = unlike[b[differ]] = True

    _visit(vectors, prefilter, mark)
    return found, unlike


def partners(
    vectors: Vectors, places: Rows, others: Rows, prefilter: Prefilter
) -> tuple[Mask, Mask]:
    """Tell for each row whether another one is near in this field, or has the same text.

    And whether any of these has another text in the next field; `others` numbers these texts.
    """
    count = len(vectors)
    most, least = np.full(count, -1), np.full(count, np.iinfo(np.int64).max)
    np.maximum.at(most, places, others)
    np.minimum.at(least, places, others)
    mixed = most != least
    # A text whose rows differ in the next field is unlike any other.
    labels = np.where(mixed, -1 - np.arange(count), most)
    near, unlike = has_neighbour(vectors, prefilter, labels)
    copies = np.bincount(places, minlength=count) > 1
    return (near | copies)[places], (unlike | mixed)[places]


def linked(vectors: Vectors, prefilter: Prefilter) -> Rows:
    """Return for each row the first row that a chain of pairs at the prefilter connects it with."""
    parents = np.arange(len(vectors))

    def roots(rows: Rows) -> Rows:
        while True:
            above = parents[rows]
            if np.array_equal(above, rows):
                return rows
            rows = above

    def join(a: Rows, b: Rows) -> None:
        while len(a):
            a, b = roots(a), roots(b)
            apart = a != b
            a, b = a[apart], b[apart]
            # Of several pairs for one row one wins; the others come again.
            parents[np.maximum(a, b)] = np.minimum(a, b)

    _visit(vectors, prefilter, join)
    return roots(np.arange(len(parents)))


def _visit(vectors: Vectors, prefilter: Prefilter, visit: Visit) -> None:
    """Compare every row with every other one; or, of many, with those of near cells."""
    count = len(vectors)
    if prefilter.nearest and count > CELL_ROWS:
        _visit_cells(vectors, prefilter, prefilter.nearest, visit)
        return
    for start in range(0, count, BLOCK_ROWS):
        rows = np.arange(start, min(start + BLOCK_ROWS, count))
        for left in range(start, count, COLUMNS):
            columns = np.arange(left, min(left + COLUMNS, count))
            there = vectors[left : left + COLUMNS]
            visit(*prefilter.pairs(vectors[rows], there, rows, columns))
        prefilter.tick(int(rows[-1]) + 1)


def _visit_cells(vectors: Vectors, prefilter: Prefilter, nearest: Nearest, visit: Visit) -> None:
    """Look only where the vectors are close to the same centres.

    Rows sit in one cell and ask several.
    """
    count = len(vectors)
    centres = _centres(vectors, int(4 * count**0.5), nearest)
    probes = np.empty((count, min(PROBES, len(centres))), dtype=np.int32)
    for start in range(0, count, BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        probes[block] = nearest(vectors[block], centres, probes.shape[1])
    num_probes, recall = _enough_probes(vectors, probes, prefilter)
    if prefilter.sample:
        prefilter.sample.index_recall = recall
    members = _members(probes[:, 0], len(centres))
    askers = [_members(probes[:, at], len(centres)) for at in range(num_probes)]
    for cell, inside in enumerate(members):
        asking = np.concatenate([asker[cell] for asker in askers])
        for left in range(0, len(inside), COLUMNS):
            columns = inside[left : left + COLUMNS]
            there = vectors[columns]
            for start in range(0, len(asking), BLOCK_ROWS):
                rows = asking[start : start + BLOCK_ROWS]
                visit(*prefilter.pairs(vectors[rows], there, rows, columns))
        if cell % 64 == 0:
            prefilter.tick(int(count * cell / len(centres)))


def _enough_probes(
    vectors: Vectors, probes: NDArray[np.int32], prefilter: Prefilter
) -> tuple[int, float]:
    """Return how many cells to ask, and the share of pairs that this finds.

    Some rows are compared with all others, so their pairs are known.
    """
    asked = np.sort(np.random.default_rng(0).permutation(len(vectors))[:ASKED_ROWS])
    found = []
    for start in range(0, len(vectors), COLUMNS):
        there = vectors[start : start + COLUMNS]
        at, column, scores = prefilter.near(vectors[asked], there, prefilter.lowest)
        a, b = asked[at], start + column
        other = a != b
        other[other] = prefilter.agrees(a[other], b[other], scores[other])
        found.append(np.stack([a[other], b[other]]))
    a, b = np.concatenate(found, axis=1)
    meets = (probes[a] == probes[b, :1]) | (probes[b] == probes[a, :1])
    if not len(a):
        return min(PROBES, probes.shape[1]), 1.0
    recalls = np.logical_or.accumulate(meets, axis=1).mean(axis=0)
    enough = int(np.searchsorted(recalls, INDEX_RECALL)) + 1
    enough = min(enough, probes.shape[1])
    return enough, float(recalls[enough - 1])


def _centres(vectors: Vectors, count: int, nearest: Nearest) -> Vectors:
    """Return k-means centres of a sample, of length one; deterministic."""
    numbers = np.random.default_rng(0)
    drawn = np.sort(numbers.permutation(len(vectors))[: count * KMEANS_SAMPLE])
    sample = vectors[drawn]
    centres: Vectors = sample[numbers.permutation(len(sample))[:count]]
    for _ in range(KMEANS_ROUNDS):
        sums = np.zeros_like(centres)
        for start in range(0, len(sample), BLOCK_ROWS):
            part = sample[start : start + BLOCK_ROWS]
            np.add.at(sums, nearest(part, centres, 1)[:, 0], part)
        length = np.linalg.norm(sums, axis=1, keepdims=True)
        centres = np.where(length > 0, sums / np.maximum(length, 1e-12), centres).astype(np.float32)
    return centres


def _members(cells: NDArray[np.int32], count: int) -> list[Rows]:
    """Return the rows of each cell."""
    order = np.argsort(cells, kind="stable")
    ends = np.searchsorted(cells[order], np.arange(count + 1))
    return [order[ends[at] : ends[at + 1]] for at in range(count)]
