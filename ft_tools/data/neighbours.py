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
Product = Callable[[Vectors, Vectors], Vectors]
"""(a, b) -> a @ b.T; a worker passes a faster one."""

BLOCK_ROWS = 1024
COLUMNS = 8192
# Above this share of hits in a block, a second whole product is cheaper than gathered ones.
DENSE = 0.02
# An index pays above about this many rows. Source: facts/dataset section 2 (57 s at 100,000 rows).
IVF_ROWS = 150_000
KMEANS_ROUNDS = 4
KMEANS_SAMPLE = 64
PROBES = 6
Tick = Callable[[int], None]


@dataclass(frozen=True)
class Twins:
    """Removed row -> (kept row, cosine), the earliest kept row that is near."""

    of: dict[int, tuple[int, float]]


def plain_product(a: Vectors, b: Vectors) -> Vectors:
    """Return the cosines of unit rows, shaped (len(a), len(b))."""
    return a @ b.T


def find_twins(
    fields: Sequence[Vectors],
    threshold: float,
    product: Product = plain_product,
    tick: Tick = lambda _: None,
) -> Twins:
    """Return which rows a greedy keep-first pass removes, the same set as comparing row by row.

    Each block of rows is compared with the rows kept so far, then within itself; so rows that went
    cost nothing any more.
    """
    count = len(fields[0])
    kept = [np.empty_like(field) for field in fields]
    kept_index = np.empty(count, dtype=np.int64)
    num_kept = 0
    twins: dict[int, tuple[int, float]] = {}
    for start in range(0, count, BLOCK_ROWS):
        rows = np.arange(start, min(start + BLOCK_ROWS, count))
        block = [field[rows] for field in fields]
        near_kept = _first_near(block, [k[:num_kept] for k in kept], threshold, product)
        inside = _near(block, block, threshold, product)
        alive = _stay(start, near_kept, inside, block, kept_index, twins)
        for field, part in zip(kept, block, strict=True):
            field[num_kept : num_kept + len(alive)] = part[alive]
        kept_index[num_kept : num_kept + len(alive)] = rows[alive]
        num_kept += len(alive)
        tick(int(rows[-1]) + 1)
    return Twins(twins)


def _stay(
    start: int,
    near_kept: tuple[NDArray[np.int64], NDArray[np.float32]],
    inside: NDArray[np.bool_],
    block: Sequence[Vectors],
    kept_index: NDArray[np.int64],
    twins: dict[int, tuple[int, float]],
) -> list[int]:
    """Return the rows of a block that stay, by their place in it; add the others to the twins."""
    stays = np.zeros(len(inside), dtype=np.bool_)
    for at in range(len(inside)):
        column = int(near_kept[0][at])
        if column >= 0:
            twins[start + at] = (int(kept_index[column]), float(near_kept[1][at]))
            continue
        before = np.flatnonzero(inside[at, :at] & stays[:at])
        if len(before):
            first = int(before[0])
            twins[start + at] = (start + first, _score(block, at, block, first))
        else:
            stays[at] = True
    return np.flatnonzero(stays).tolist()


def has_neighbour(
    fields: Sequence[Vectors],
    gate: float,
    product: Product = plain_product,
    tick: Tick = lambda _: None,
) -> NDArray[np.bool_]:
    """Tell for each row whether any other row reaches the gate in every field.

    Compares all rows up to `IVF_ROWS`; above, only rows of the nearest cells of an inverted file.
    """
    count = len(fields[0])
    if count > IVF_ROWS:
        return _has_neighbour_by_cells(fields, gate, product, tick)
    found = np.zeros(count, dtype=np.bool_)
    for start in range(0, count, BLOCK_ROWS):
        end = min(start + BLOCK_ROWS, count)
        block = [field[start:end] for field in fields]
        for left in range(start, count, COLUMNS):
            right = min(left + COLUMNS, count)
            near = _near(block, [field[left:right] for field in fields], gate, product, closed=True)
            if left == start:
                # Every row is near itself.
                own = np.arange(end - start)
                near[own, own] = False
            found[start:end] |= near.any(axis=1)
            found[left:right] |= near.any(axis=0)
        tick(end)
    return found


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


def _near(
    a: Sequence[Vectors],
    b: Sequence[Vectors],
    threshold: float,
    product: Product,
    *,
    closed: bool = False,
) -> NDArray[np.bool_]:
    """Return the pairs above the threshold in every field, shaped (len(a), len(b))."""
    scores = product(a[0], b[0])
    near: NDArray[np.bool_] = scores >= threshold if closed else scores > threshold
    for x, y in zip(a[1:], b[1:], strict=True):
        hits = int(np.count_nonzero(near))
        if not hits:
            break
        if hits > DENSE * near.size:
            other = product(x, y)
            near &= (other >= threshold) if closed else (other > threshold)
            continue
        row, column = np.nonzero(near)
        for at in range(0, len(row), 1 << 16):
            r, c = row[at : at + (1 << 16)], column[at : at + (1 << 16)]
            values = np.einsum("ij,ij->i", x[r], y[c])
            near[r, c] = (values >= threshold) if closed else (values > threshold)
    return near


def _first_near(
    block: Sequence[Vectors], kept: Sequence[Vectors], threshold: float, product: Product
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return for each row the first kept row that is near (-1 if none) and the lowest cosine."""
    first = np.full(len(block[0]), -1, dtype=np.int64)
    scores = np.zeros(len(block[0]), dtype=np.float32)
    for left in range(0, len(kept[0]), COLUMNS):
        part = [k[left : left + COLUMNS] for k in kept]
        open_rows = np.flatnonzero(first < 0)
        if not len(open_rows):
            break
        near = _near([b[open_rows] for b in block], part, threshold, product)
        hit = np.flatnonzero(near.any(axis=1))
        columns = near[hit].argmax(axis=1)
        for at, column in zip(open_rows[hit].tolist(), columns.tolist(), strict=True):
            first[at] = left + column
            scores[at] = _score(block, at, part, column)
    return first, scores


def _score(a: Sequence[Vectors], i: int, b: Sequence[Vectors], j: int) -> float:
    return min(float(x[i] @ y[j]) for x, y in zip(a, b, strict=True))


def _has_neighbour_by_cells(
    fields: Sequence[Vectors], gate: float, product: Product, tick: Tick
) -> NDArray[np.bool_]:
    """Look only where the first field's vectors are close to the same centres.

    Rows sit in one cell and ask `PROBES` cells. Source: Jegou et al. 2011 (inverted file).
    """
    first = fields[0]
    count = len(first)
    centres = _centres(first, int(4 * count**0.5), product)
    probes = np.empty((count, PROBES), dtype=np.int32)
    for start in range(0, count, BLOCK_ROWS):
        scores = product(first[start : start + BLOCK_ROWS], centres)
        top = np.argpartition(scores, -PROBES, axis=1)[:, -PROBES:]
        order = np.argsort(np.take_along_axis(scores, top, axis=1), axis=1)[:, ::-1]
        probes[start : start + BLOCK_ROWS] = np.take_along_axis(top, order, axis=1)
    found = np.zeros(count, dtype=np.bool_)
    members = _members(probes[:, 0], len(centres))
    askers = [_members(probes[:, at], len(centres)) for at in range(PROBES)]
    for cell, inside in enumerate(members):
        asking = np.concatenate([asker[cell] for asker in askers])
        if len(inside) and len(asking) > 1:
            _compare_cell(fields, gate, product, inside, asking, found)
        if cell % 64 == 0:
            tick(int(count * cell / len(centres)))
    return found


def _compare_cell(
    fields: Sequence[Vectors],
    gate: float,
    product: Product,
    inside: NDArray[np.int64],
    asking: NDArray[np.int64],
    found: NDArray[np.bool_],
) -> None:
    there = [field[inside] for field in fields]
    for start in range(0, len(asking), COLUMNS):
        rows = asking[start : start + COLUMNS]
        near = _near([field[rows] for field in fields], there, gate, product, closed=True)
        near &= rows[:, None] != inside[None, :]
        found[rows] |= near.any(axis=1)
        found[inside] |= near.any(axis=0)


def _centres(vectors: Vectors, count: int, product: Product) -> Vectors:
    """Return k-means centres of a sample, unit rows; deterministic."""
    numbers = np.random.default_rng(0)
    sample = vectors[numbers.permutation(len(vectors))[: count * KMEANS_SAMPLE]]
    centres = sample[:count].copy()
    for _ in range(KMEANS_ROUNDS):
        sums = np.zeros_like(centres)
        for start in range(0, len(sample), BLOCK_ROWS):
            part = sample[start : start + BLOCK_ROWS]
            np.add.at(sums, product(part, centres).argmax(axis=1), part)
        length = np.linalg.norm(sums, axis=1, keepdims=True)
        centres = np.where(length > 0, sums / np.maximum(length, 1e-12), centres).astype(np.float32)
    return centres


def _members(cells: NDArray[np.int32], count: int) -> list[NDArray[np.int64]]:
    """Return the rows of each cell."""
    order = np.argsort(cells, kind="stable")
    ends = np.searchsorted(cells[order], np.arange(count + 1))
    return [order[ends[at] : ends[at + 1]] for at in range(count)]
