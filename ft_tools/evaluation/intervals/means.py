"""Compare means of values on the same examples, alone or in clusters, by resampling."""

import math
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from ft_tools.evaluation.intervals.comparison_verdict import (
    ALPHA,
    POWER,
    Paired,
    by_cluster,
    normal_cdf,
)

# Up to this many differing examples all sign changes are counted, above it they are drawn.
EXACT_SIGNS = 12
# With fewer differing examples than this, their spread says nothing about the spread of others.
FEW_DIFFERENCES = 6
MOST_DRAWN = 2**20
"""Draws at a time: 8 MiB of them, however many examples there are."""


@cache
def t_quantile(probability: float, freedom: float) -> float:
    """Return the quantile of Student's t.

    >>> round(t_quantile(0.975, 9), 6)
    2.262157
    """
    return float(stdtrit(freedom, probability))


def compare_means(
    differences: Sequence[float],
    clusters: Sequence[str] | None,
    scale: float,
    chance: np.random.Generator,
    resamples: int,
) -> Paired:
    """Compare values that differ by any amount, up to `scale` where that is known."""
    n = len(differences)
    scale = max(scale, *map(abs, differences))
    groups = by_cluster(clusters or range(n))
    sums, sizes = [sum(differences[i] for i in group) for group in groups], list(map(len, groups))
    mean = sum(differences) / n
    error = clustered_error(sums, sizes)
    differing = [s for s in sums if s != 0]
    # Rounding leaves a spread of about 1e-16 where there is none.
    few = len(differing) < FEW_DIFFERENCES or error <= 1e-12 * scale
    if few:
        # One unseen example each way at the largest difference, as for proportions.
        # Source: Bonett and Price, J. Educational and Behavioral Statistics 37 (2012), 479-488
        sums, sizes = [*sums, scale, -scale], [*sizes, 1, 1]
        wide = clustered_error(sums, sizes)
        low, high = t_interval(sum(sums) / sum(sizes), wide, len(sums) - 1)
        low, high = max(-scale, min(low, mean)), min(scale, max(high, mean))
    else:
        wide = error
        rests = [s - size * mean for s, size in zip(sums, sizes, strict=True)]
        ends = (
            bootstrap_interval(sums, sizes, chance, resamples),
            t_interval(mean, error, len(sums) - 1),
            skewed_interval(mean, error, rests),
        )
        low, high = min(low for low, _ in ends), max(high for _, high in ends)
    freedom = max(1, len(sums) - 1)
    reach = t_quantile(1 - ALPHA / 2, freedom) + t_quantile(POWER, freedom)
    return Paired(
        num_examples=n,
        num_better=sum(d > 0 for d in differences),
        num_worse=sum(d < 0 for d in differences),
        difference=mean,
        standard_error=wide if few else error,
        low=low,
        high=high,
        p_value=sign_change_test(differing, chance, resamples),
        minimum_detectable_effect=reach * wide,
        method="sign changes; widest of bootstrap, t and skewness-corrected interval"
        + (f"; {len(groups)} clusters" if clusters else ""),
    )


def bootstrap_interval(
    sums: Sequence[float], sizes: Sequence[int], chance: np.random.Generator, resamples: int
) -> tuple[float, float]:
    """Return the 95% bootstrap interval of a mean over clusters, widened for few of them."""
    n, of_group, weight = len(sums), np.array(sums), np.array(sizes)
    means: list[float] = []
    for count in _parts(resamples, n):
        drawn = chance.integers(n, size=(count, n))
        means += (of_group[drawn].sum(axis=1) / weight[drawn].sum(axis=1)).tolist()
    return widened_percentiles(means, n)


def _parts(resamples: int, n: int) -> Iterator[int]:
    """Split resamples of n values so that each part has at most MOST_DRAWN, or is one."""
    step = max(1, MOST_DRAWN // n)
    for start in range(0, resamples, step):
        yield min(step, resamples - start)


def widened_percentiles(drawn: Sequence[float], num_groups: int) -> tuple[float, float]:
    """Return the limits of a 95% interval out of what was resampled from so many groups.

    Percentiles alone are too narrow by a factor sqrt((n - 1) / n) z / t; taking them further out
    corrects that.

    Source: T. Hesterberg, The American Statistician 69 (2015), 371-386, section 4.4
    """
    n, ordered = num_groups, sorted(drawn)
    tail = normal_cdf(-math.sqrt(n / (n - 1)) * t_quantile(1 - ALPHA / 2, n - 1))
    cut = int(tail * len(ordered))
    return ordered[cut], ordered[-1 - cut]


def sign_change_test(
    differences: Sequence[float], chance: np.random.Generator, resamples: int
) -> float:
    """Return how often random signs make the sum of differences at least as large, two-sided.

    If the two models were the same, which one gave which value would be chance on each example.

    Source: E. W. Noreen, Computer Intensive Methods for Testing Hypotheses (Wiley, 1989)

    >>> sign_change_test([0.5] * 6, np.random.default_rng(0), 1000)
    0.03125
    """
    sizes = np.array([abs(d) for d in differences if d != 0])
    if not len(sizes):
        return 1.0
    # Sums of the same values in another order differ by rounding.
    observed = abs(sum(differences)) - 1e-12 * float(sizes.sum())
    if len(sizes) <= EXACT_SIGNS:
        hits = int((np.abs(_all_signs(len(sizes)) @ sizes) >= observed).sum())
        return float(hits / 2 ** len(sizes))
    hits = 0
    for count in _parts(resamples, len(sizes)):
        signs = 2.0 * chance.integers(2, size=(count, len(sizes))) - 1.0
        hits += int((np.abs(signs @ sizes) >= observed).sum())
    return float((hits + 1) / (resamples + 1))


@cache
def _all_signs(n: int) -> NDArray[np.float64]:
    """Return every choice of n signs, (2 ** n, n)."""
    return np.array(list(product((-1.0, 1.0), repeat=n)))


def t_interval(mean: float, standard_error: float, freedom: int) -> tuple[float, float]:
    """Return Student's 95% interval of a mean."""
    reach = t_quantile(1 - ALPHA / 2, freedom) * standard_error
    return mean - reach, mean + reach


def skewed_interval(mean: float, error: float, rests: Sequence[float]) -> tuple[float, float]:
    """Return the 95% interval of a mean of skewed values: Student's, bent by their skewness.

    With g the skewness and h(q) = 3 / g ((1 + g (q / sqrt(n) - g / (6 n)))^(1/3) - 1), the limits
    are mean - sd h(t) and mean - sd h(-t).

    Args:
        mean: Of the values.
        error: Its standard error.
        rests: Each value less the mean; for clusters, each sum less its size times the mean.

    Source: P. Hall, Journal of the Royal Statistical Society B 54 (1992), 221-228
    """
    n = len(rests)
    t = t_quantile(1 - ALPHA / 2, n - 1)
    skewness = (sum(r**3 for r in rests) / n) / math.pow(sum(r**2 for r in rests) / n, 1.5)

    def bent(quantile: float) -> float:
        straight = quantile / math.sqrt(n)
        if abs(skewness) < 1e-6:
            return straight
        inner = 1 + skewness * (straight - skewness / (6 * n))
        return 3 / skewness * (math.cbrt(inner) - 1)

    spread = error * math.sqrt(n)
    return mean - spread * bent(t), mean - spread * bent(-t)


def clustered_error(sums: Sequence[float], sizes: Sequence[int]) -> float:
    """Return the standard error of a mean over clusters of unequal size.

    sqrt(G / (G - 1) sum_g (sum_g - size_g mean)^2) / n; with clusters of one it is sd / sqrt(n).

    Source: Miller 2024, equation 4, with the usual correction for few clusters
    """
    groups, total = len(sums), sum(sizes)
    mean = sum(sums) / total
    spread = sum((s - size * mean) ** 2 for s, size in zip(sums, sizes, strict=True))
    return math.sqrt(groups / (groups - 1) * spread) / total if groups > 1 else math.inf
