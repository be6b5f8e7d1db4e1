"""Compare two models on the same examples: difference, interval, p value, detectable effect."""

import math
import random
from collections.abc import Callable, Sequence, Set
from itertools import chain
from typing import TypeVar

import numpy as np

from ft_tools.evaluation.intervals.comparison_verdict import (
    ALPHA,
    POWER,
    Paired,
    by_cluster,
    normal_quantile,
)
from ft_tools.evaluation.intervals.means import (
    FEW_DIFFERENCES,
    compare_means,
    t_interval,
    t_quantile,
    widened_percentiles,
)
from ft_tools.evaluation.intervals.proportions import compare_proportions, tango_interval

Answer = TypeVar("Answer")

RESAMPLES = 4000


def compare(
    before: Sequence[float],
    after: Sequence[float],
    *,
    clusters: Sequence[str] | None = None,
    scale: float = 1.0,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Paired:
    """Compare paired values.

    Args:
        before: A value for each example, higher is better or not.
        after: The same examples in the same order.
        clusters: Group of each example, when examples of a group resemble each other.
        scale: Largest difference that an example can show; it bounds the interval where the
            examples hardly differ.
        seed: Of the resampling.
        resamples: Bootstrap samples, and random sign changes.

    Raises:
        ValueError: The lengths differ, or there are no examples.
    """
    if len(before) != len(after) or not before:
        raise ValueError(f"{len(before)} and {len(after)} values are not pairs")
    differences = [b - a for a, b in zip(before, after, strict=True)]
    # Halves are a judge's ties: what counts is that an example changes wholly or not at all.
    whole = {-1.0, 0.0, 1.0}.issuperset(differences)
    if clusters is None and whole and {0.0, 0.5, 1.0}.issuperset((*before, *after)):
        return compare_proportions(differences)
    return compare_means(differences, clusters, scale, np.random.default_rng(seed), resamples)


def compare_statistic(
    before: Sequence[Answer],
    after: Sequence[Answer],
    statistic: Callable[[Sequence[Answer], Sequence[int]], float],
    *,
    clusters: Sequence[str] | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES // 4,
) -> Paired:
    """Compare a measure of a whole set, such as macro F1, which is no mean over examples.

    The interval resamples examples, in pairs; the p value swaps the two answers of examples at
    random. Examples of a cluster are drawn and swapped together.

    Args:
        before: An answer for each example.
        after: The same examples in the same order.
        statistic: Takes answers and the indices of their examples.
        clusters: Group of each example, when examples of a group resemble each other.
        seed: Of the resampling.
        resamples: Bootstrap samples, and random swaps.
    """
    n, chance = len(before), random.Random(seed)
    groups = by_cluster(clusters or range(n))
    if len(after) != n:
        raise ValueError(f"{n} and {len(after)} answers are not pairs")

    def difference(swapped: Set[int], at: Sequence[int]) -> float:
        first, second = with_answers_swapped(before, after, swapped, at)
        return statistic(second, at) - statistic(first, at)

    observed = difference(frozenset(), range(n))
    drawn = [
        difference(frozenset(), list(chain(*chance.choices(groups, k=len(groups)))))
        for _ in range(resamples)
    ]
    hits = 0
    for _ in range(resamples):
        swapped = {i for group in groups if chance.getrandbits(1) for i in group}
        hits += abs(difference(swapped, range(n))) >= abs(observed) - 1e-12
    middle = sum(drawn) / resamples
    error = math.sqrt(sum((d - middle) ** 2 for d in drawn) / max(1, resamples - 1))
    freedom = max(1, len(groups) - 1)
    ends = (
        widened_percentiles(drawn, max(2, len(groups))),
        t_interval(observed, error, freedom),
    )
    low, high = min(low for low, _ in ends), max(high for _, high in ends)
    differing = sum(any(before[i] != after[i] for i in group) for group in groups)
    if differing < FEW_DIFFERENCES:
        # As good as no difference was seen: the bound for a proportion is the honest one.
        rare_low, rare_high = tango_interval(differing, differing, len(groups))
        low, high = min(low, observed + rare_low), max(high, observed + rare_high)
        error = max(error, (rare_high - rare_low) / 2 / normal_quantile(1 - ALPHA / 2))
    reach = t_quantile(1 - ALPHA / 2, freedom) + t_quantile(POWER, freedom)
    return Paired(
        num_examples=n,
        num_better=0,
        num_worse=0,
        difference=observed,
        standard_error=error,
        low=low,
        high=high,
        p_value=(hits + 1) / (resamples + 1),
        minimum_detectable_effect=reach * error,
        method="swapped answers; wider of bootstrap and t interval"
        + (f"; {len(groups)} clusters" if clusters else ""),
    )


def with_answers_swapped(
    before: Sequence[Answer], after: Sequence[Answer], swapped: Set[int], at: Sequence[int]
) -> tuple[list[Answer], list[Answer]]:
    """Return both sides' answers to the examples `at`, exchanged for those in `swapped`.

    >>> with_answers_swapped("abc", "xyz", {1}, [0, 1, 2])
    (['a', 'y', 'c'], ['x', 'b', 'z'])
    """
    first = [after[i] if i in swapped else before[i] for i in at]
    second = [before[i] if i in swapped else after[i] for i in at]
    return first, second
