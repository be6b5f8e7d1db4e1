"""Exact greedy near-duplicate search over embeddings, in blocks; numpy, loaded in workers only.

Vectors are float32 rows of length one, shaped (n, d); a pair is near if the cosine of every field
is above the threshold. Greedy keep-first: a row goes if it is near an earlier row that stays. The
blocks change the order of the arithmetic, not the pairs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Rows = NDArray[np.int64]
Mask = NDArray[np.bool_]
Product = Callable[[Vectors, Vectors], Vectors]
"""(a, b) -> a @ b.T; a worker passes a faster one."""

BLOCK_ROWS = 1024
COLUMNS = 8192
# Above this share of hits in a block, a second whole product is cheaper than gathered ones.
DENSE = 0.02
GATHERED = 1 << 16
Tick = Callable[[int], None]


@dataclass(frozen=True)
class Matches:
    """Removed row -> (kept row, cosine), the earliest kept row that is surely near."""

    of: dict[int, tuple[int, float]]


@dataclass
class Rounding:
    """Vectors that are a little off, and how to get them right where it decides.

    A pair whose cosine is within `margin` of the threshold is decided on exact vectors.
    """

    margin: float
    sharpen: Callable[[int, Rows], None]
    """Overwrites the vectors of these rows in one of the fields by exact ones."""
    worst: float = 0.0
    """The largest error seen among pairs that were made exact."""


def plain_product(a: Vectors, b: Vectors) -> Vectors:
    """Return the cosines of unit rows, shaped (len(a), len(b))."""
    return a @ b.T


def find_matches(
    fields: Sequence[Vectors],
    threshold: float,
    product: Product = plain_product,
    tick: Tick = lambda _: None,
    rounding: Rounding | None = None,
) -> Matches:
    """Return which rows a greedy keep-first pass removes, the same set as comparing row by row.

    Each block of rows is compared with the rows kept so far, then within itself; so rows that went
    cost nothing any more.
    """
    search = _Search(fields, threshold, product, rounding)
    for start in range(0, len(fields[0]), BLOCK_ROWS):
        end = min(start + BLOCK_ROWS, len(fields[0]))
        search.block(np.arange(start, end))
        tick(end)
    return Matches(search.matches)


class _Search:
    """The rows kept so far, and the matches of those that went."""

    def __init__(
        self,
        fields: Sequence[Vectors],
        threshold: float,
        product: Product,
        rounding: Rounding | None,
    ) -> None:
        self._fields = fields
        self._threshold = threshold
        self._product = product
        self._rounding = rounding
        self._kept = [np.empty_like(field) for field in fields]
        self._kept_rows = np.empty(len(fields[0]), dtype=np.int64)
        self._num_kept = 0
        self.matches: dict[int, tuple[int, float]] = {}

    def block(self, rows: Rows) -> None:
        """Decide on the next rows."""
        left = self._against_kept(rows)
        near = self._inside(left)
        stays = np.zeros(len(left), dtype=np.bool_)
        for at in range(len(left)):
            before = np.flatnonzero(near[at, :at] & stays[:at])
            if len(before):
                self._remove(int(left[at]), int(left[before[0]]))
            else:
                stays[at] = True
        alive = left[stays]
        end = self._num_kept + len(alive)
        for kept, field in zip(self._kept, self._fields, strict=True):
            kept[self._num_kept : end] = field[alive]
        self._kept_rows[self._num_kept : end] = alive
        self._num_kept = end

    def _against_kept(self, rows: Rows) -> Rows:
        """Remove the rows that are near a kept one; return the others."""
        for start in range(0, self._num_kept, COLUMNS):
            if not len(rows):
                break
            end = min(start + COLUMNS, self._num_kept)
            there = [kept[start:end] for kept in self._kept]
            near = self._near(rows, there, np.arange(start, end))
            hit = near.any(axis=1)
            first = near[hit].argmax(axis=1)
            for row, column in zip(rows[hit].tolist(), first.tolist(), strict=True):
                self._remove(row, int(self._kept_rows[start + column]))
            rows = rows[~hit]
        return rows

    def _inside(self, rows: Rows) -> Mask:
        """Return which rows are near which, both of the same block."""
        there = [field[rows] for field in self._fields]
        return self._near(rows, there, None)

    def _near(self, rows: Rows, there: list[Vectors], columns: Rows | None) -> Mask:
        """Return the pairs above the threshold, made exact where blurred vectors do not decide.

        `columns` are places among the kept rows; without them, `there` are the rows themselves.
        """
        here = [field[rows] for field in self._fields]
        scores = self._product(here[0], there[0])
        if self._rounding is None:
            return near_pairs(scores, here, there, self._threshold, self._product)
        margin = self._rounding.margin
        maybe = near_pairs(scores, here, there, self._threshold - margin, self._product)
        if not maybe.any():
            return maybe
        near = near_pairs(scores, here, there, self._threshold + margin, self._product)
        unsure = maybe & ~near
        if columns is not None:
            # A row that is surely near a kept one goes, whatever else it may be near.
            unsure[near.any(axis=1)] = False
        else:
            np.fill_diagonal(unsure, val=False)
        mine = np.flatnonzero(unsure.any(axis=1))
        if not len(mine):
            return near
        self._sharpen(rows, there, unsure, columns)
        here = [field[rows[mine]] for field in self._fields]
        again = self._product(here[0], there[0])
        near[mine] = near_pairs(again, here, there, self._threshold, self._product)
        return near

    def _sharpen(
        self, rows: Rows, there: list[Vectors], unsure: Mask, columns: Rows | None
    ) -> None:
        """Make exact, field by field, both vectors of the pairs that this field leaves unsure."""
        assert self._rounding is not None
        mine, theirs = np.nonzero(unsure)
        a = rows[mine]
        b = rows[theirs] if columns is None else self._kept_rows[columns[theirs]]
        for at, (field, part) in enumerate(zip(self._fields, there, strict=True)):
            scores = cosines(field, a, part, theirs)
            close = np.abs(scores - self._threshold) <= self._rounding.margin
            if not close.any():
                continue
            wanted = np.union1d(a[close], b[close])
            self._rounding.sharpen(at, wanted)
            # Views of the kept rows, or copies of the block: either way the product sees them.
            part[theirs[close]] = field[b[close]]
            exact = cosines(field, a[close], field, b[close])
            error = float(np.abs(exact - scores[close]).max())
            self._rounding.worst = max(self._rounding.worst, error)

    def _remove(self, row: int, kept: int) -> None:
        score = min(float(field[row] @ field[kept]) for field in self._fields)
        self.matches[row] = (kept, score)


def near_pairs(
    scores: Vectors,
    a: Sequence[Vectors],
    b: Sequence[Vectors],
    threshold: float,
    product: Product = plain_product,
) -> Mask:
    """Return the pairs above the threshold in every field, shaped (len(a), len(b)).

    `scores` are those of the first field; the others are computed where it leaves something.
    """
    near: Mask = scores > threshold
    for x, y in zip(a[1:], b[1:], strict=True):
        hits = int(np.count_nonzero(near))
        if not hits:
            break
        if hits > DENSE * near.size:
            near &= product(x, y) > threshold
            continue
        row, column = np.nonzero(near)
        near[row, column] = cosines(x, row, y, column) > threshold
    return near


def cosines(x: Vectors, a: Rows, y: Vectors, b: Rows) -> Vectors:
    """Return the cosine of each pair of a row of x and a row of y."""
    scores = np.empty(len(a), dtype=np.float32)
    for at in range(0, len(a), GATHERED):
        part = slice(at, at + GATHERED)
        scores[part] = np.einsum("ij,ij->i", x[a[part]], y[b[part]])
    return scores


def best_match(rows: Vectors, questions: Vectors, product: Product = plain_product) -> Vectors:
    """Return each row's highest cosine with any question, shaped (n,)."""
    best = np.full(len(rows), -1, dtype=np.float32)
    for start in range(0, len(rows), BLOCK_ROWS):
        part = rows[start : start + BLOCK_ROWS]
        for left in range(0, len(questions), COLUMNS):
            scores = product(part, questions[left : left + COLUMNS])
            best[start : start + len(part)] = np.maximum(
                best[start : start + len(part)], scores.max(axis=1)
            )
    return best
