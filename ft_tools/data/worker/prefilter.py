"""Which rows MiniLM has to see: those that cheap vectors put near another.

What that misses is measured on pairs drawn of the very data.
"""

from collections.abc import Callable, Sequence

import numpy as np

from ft_tools.data.read.token_store import Column, shared_tokens
from ft_tools.data.repeats.near_by_meaning import Mask, Rows, Vectors
from ft_tools.data.repeats.prefilter import Drawn, Prefilter, Sample, every_pair, has_neighbour
from ft_tools.data.worker.minilm import MiniLM, torch_nearest
from ft_tools.data.worker.static_vectors import STATIC_SIZE, StaticVectors

Phase = Callable[[str], None]
Tick = Callable[[int, int], None]

# Cheap cosine below the threshold at which a pair still goes to MiniLM, for one field and for the
# mean of two. Of two fields, that mean and half the share of common tokens must also be together
# this much above the threshold. It passes a third of the texts that the cosine alone passes; of the
# pairs that MiniLM puts above 0.95 in both fields, at most 0.5% are lost. Source:
# benchmarks/audit.py
PREFILTER_BELOW = 0.10
MEAN_PREFILTER_BELOW = 0.08
WITH_TOKENS = 0.27
# Pairs drawn from those that pass, and from those that fail by less than this, to measure what is
# missed.
DRAWN_BELOW = 0.05
DRAWN_FAILED = 256
DRAWN_PASSED = 64


def candidates(
    model: MiniLM,
    static: StaticVectors,
    columns: Sequence[Column],
    threshold: float,
    phase: Phase,
    tick: Tick,
) -> tuple[Rows, Mask, str]:
    """Return which rows the prefilter puts near another, and near another text of the first field.

    And a note about what it may miss, measured on pairs drawn of these rows.
    """
    prefilter = threshold - (PREFILTER_BELOW if len(columns) == 1 else MEAN_PREFILTER_BELOW)
    phase(f"prefilter: static cosine >= {prefilter:.2f}")
    total = len(columns[0].numbers)
    sample = Sample(prefilter - DRAWN_BELOW, Drawn(DRAWN_PASSED), Drawn(DRAWN_FAILED))
    agrees = every_pair
    if len(columns) > 1:
        shared = shared_tokens(columns)

        def agrees(a: Rows, b: Rows, scores: Vectors) -> Mask:
            together: Mask = scores + shared(a, b) / 2 >= threshold + WITH_TOKENS
            return together

    near, unlike = has_neighbour(
        _side_by_side(static, columns),
        Prefilter(
            prefilter,
            model.near,
            lambda at: tick(at, total),
            agrees,
            sample,
            torch_nearest,
        ),
        columns[0].numbers,
    )
    phase("measuring the prefilter")
    failed, passed = sample.failed, sample.passed
    missed = _share_near(model, failed, columns, threshold) * failed.num_pairs
    found = _share_near(model, passed, columns, threshold) * passed.num_pairs
    recall = found / (found + missed) if found + missed else 1.0
    recall *= sample.index_recall
    rows = np.flatnonzero(near)
    note = (
        f"prefilter at static cosine {prefilter:.2f}: {len(rows)} of {total} examples went to "
        "MiniLM; "
        f"pair recall about {recall:.1%}, from {len(failed.pairs)} pairs drawn of "
        f"{failed.num_pairs} that failed by little and {len(passed.pairs)} of "
        f"{passed.num_pairs} that passed"
    )
    return rows, unlike[rows], note


def _share_near(model: MiniLM, drawn: Drawn, columns: Sequence[Column], threshold: float) -> float:
    """Return which share of the drawn pairs MiniLM puts above the threshold."""
    if not len(drawn.pairs):
        return 0.0
    near = np.ones(len(drawn.pairs), dtype=np.bool_)
    for column in columns:
        pairs = column.numbers[drawn.pairs[near]]
        numbers, places = np.unique(pairs, return_inverse=True)
        vectors = model.encode(column.store, numbers)
        a, b = places.reshape(-1, 2).T
        near[near] = np.einsum("ij,ij->i", vectors[a], vectors[b]) > threshold
        if not near.any():
            break
    return float(near.mean())


def _side_by_side(static: StaticVectors, columns: Sequence[Column]) -> Vectors:
    """Return a cheap vector a row: the cosine of two is the mean of the cosines of the fields."""
    size = STATIC_SIZE
    joined = np.empty((len(columns[0].numbers), size * len(columns)), dtype=np.float32)
    for at, column in enumerate(columns):
        vectors = static.of(column.store, np.arange(len(column.store))) / len(columns) ** 0.5
        joined[:, at * size : (at + 1) * size] = vectors[column.numbers]
    return joined
