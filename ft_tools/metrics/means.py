"""Intervals and tests of means, alone or over clusters.

Intervals are closed forms: the wider of Student's and of one that is corrected for skewness covers
as often as a bootstrap does (tests/unit/test_metrics_statistics.py). Distributions are those of
scipy.special: importing scipy.stats takes a second.
"""

import math
from collections.abc import Sequence
from functools import cache
from itertools import product
from typing import Any

import numpy as np
from scipy.special import stdtrit

from ft_tools.metrics.table import Interval
from ft_tools.metrics.verdicts import (
    ALPHA,
    POWER,
    PairedComparison,
    by_cluster,
    normal_quantile,
)

# With fewer differing examples than this, their spread says nothing about the spread of others.
FEW_DIFFERENCES = 6
RESAMPLES = 4000
# Up to this many differing examples all sign changes are counted, above it they are drawn.
EXACT_SIGNS = 12
MOST_DRAWN = 2**20
"""Draws at a time: 8 MiB of them, however many examples there are."""


@cache
def t_quantile(probability: float, freedom: float) -> float:
    """Return the quantile of Student's t.

    >>> round(t_quantile(0.975, 9), 6)
    2.262157
    """
    return float(stdtrit(freedom, probability))


def mean_interval(
    values: Sequence[float],
    interval: Interval = "mean",
    *,
    clusters: Sequence[str] | None = None,
    low: float = 0.0,
    high: float | None = 1.0,
    alpha: float = ALPHA,
) -> tuple[float, float]:
    """Return the interval of a mean: Wilson's for yes/no values, else one by their spread.

    Args:
        values: One per example.
        interval: The metric's kind.
        clusters: Group of each example, when examples of a group resemble each other.
        low: Smallest possible value, which bounds the interval.
        high: Largest possible value; None: not known.
        alpha: How often the interval may miss.

    >>> ends = mean_interval([1.0] * 110, "yes_no")
    >>> round(ends[0], 3), ends[1]
    (0.966, 1.0)
    """
    if interval == "yes_no":
        rate = sum(value == 1.0 for value in values) / len(values)
        if clusters is None:
            return wilson_interval(rate, len(values), normal_quantile(1 - alpha / 2))
        groups = by_cluster(clusters)
        sizes = np.array([len(group) for group in groups])
        error = clustered_error(
            np.array([sum(values[i] for i in group) for group in groups]), sizes
        )
        num = float(len(groups))
        if 0 < error < math.inf:
            num = min(len(values), max(1.0, rate * (1 - rate) / error**2))
        return wilson_interval(rate, num, t_quantile(1 - alpha / 2, max(1, len(groups) - 1)))
    span = 1.0 if high is None else high - low
    paired = compare_means(list(values), clusters, span, alpha=alpha, resamples=0)
    return max(low, paired.low), paired.high if high is None else min(high, paired.high)


def wilson_interval(rate: float, n: float, quantile: float) -> tuple[float, float]:
    """Return the score interval of a proportion.

    Of groups that resemble each other, n is the number of independent examples that would be as
    uncertain, and the quantile is Student's.

    Source: E. B. Wilson, Journal of the American Statistical Association 22 (1927), 209-212; for
    groups E. L. Korn and B. I. Graubard, Survey Methodology 24 (1998), 193-201

    >>> low, high = wilson_interval(0, 10, normal_quantile(0.975))
    >>> low, round(high, 4)
    (0.0, 0.2775)
    """
    squared = quantile * quantile
    middle = (rate + squared / (2 * n)) / (1 + squared / n)
    spread = math.sqrt(rate * (1 - rate) / n + squared / (4 * n * n))
    reach = quantile / (1 + squared / n) * spread
    low = max(0.0, middle - reach) if rate > 0 else 0.0
    return low, min(1.0, middle + reach) if rate < 1 else 1.0


def compare_means(
    differences: Sequence[float],
    clusters: Sequence[str] | None = None,
    span: float = 1.0,
    seed: int = 0,
    *,
    alpha: float = ALPHA,
    resamples: int = RESAMPLES,
) -> PairedComparison:
    """Compare values that differ by any amount, up to `span` where that is known."""
    n = len(differences)
    span = max(span, *map(abs, differences))
    groups = by_cluster(clusters or range(n))
    sums = np.array([sum(differences[i] for i in group) for group in groups])
    sizes = np.array([len(group) for group in groups])
    mean = sum(differences) / n
    error = clustered_error(sums, sizes)
    differing = sums[sums != 0]
    # Rounding leaves a spread of about 1e-16 where there is none.
    if len(differing) < FEW_DIFFERENCES or error <= 1e-12 * span:
        # One unseen example each way at the largest difference, as for proportions.
        # Source: Bonett and Price, J. Educational and Behavioral Statistics 37 (2012), 479-488
        sums, sizes = np.append(sums, [span, -span]), np.append(sizes, [1, 1])
        error = clustered_error(sums, sizes)
        ends = [t_interval(float(sums.sum() / sizes.sum()), error, len(sums) - 1, alpha)]
    else:
        ends = [
            t_interval(mean, error, len(sums) - 1, alpha),
            skewed_interval(mean, error, sums - sizes * mean, alpha),
        ]
    low, high = (min(mean, *(low for low, _ in ends)), max(mean, *(high for _, high in ends)))
    return PairedComparison(
        num_examples=n,
        num_better=sum(d > 0 for d in differences),
        num_worse=sum(d < 0 for d in differences),
        difference=mean,
        low=max(-span, low),
        high=min(span, high),
        p_value=sign_change_test(differing, np.random.default_rng(seed), resamples),
        minimum_detectable_effect=detectable_reach(len(sums) - 1, alpha) * error,
    )


def detectable_reach(freedom: int, alpha: float = ALPHA) -> float:
    """Return how many standard errors a difference has to have to be detected in 4 of 5 cases."""
    freedom = max(1, freedom)
    return t_quantile(1 - alpha / 2, freedom) + t_quantile(POWER, freedom)


def sign_change_test(differences: Any, rng: np.random.Generator, resamples: int) -> float:
    """Return how often random signs make the sum of differences at least as large, two-sided.

    If the two models were the same, which one gave which value would be chance on each example.

    Source: E. W. Noreen, Computer Intensive Methods for Testing Hypotheses (Wiley, 1989)

    >>> sign_change_test(np.array([0.5] * 6), np.random.default_rng(0), 1000)
    0.03125
    """
    sizes = np.abs(differences[differences != 0])
    if not len(sizes):
        return 1.0
    # Sums of the same values in another order differ by rounding.
    observed = abs(float(differences.sum())) - 1e-12 * float(sizes.sum())
    if len(sizes) <= EXACT_SIGNS:
        signs = np.array(list(product((-1.0, 1.0), repeat=len(sizes))))
        return float((np.abs(signs @ sizes) >= observed).mean())
    step, hits = max(1, MOST_DRAWN // len(sizes)), 0
    for start in range(0, resamples, step):
        shape = (min(step, resamples - start), len(sizes))
        signs = 2.0 * rng.integers(2, size=shape) - 1.0
        hits += int((np.abs(signs @ sizes) >= observed).sum())
    return float((hits + 1) / (resamples + 1))


def t_interval(
    mean: float, standard_error: float, freedom: int, alpha: float = ALPHA
) -> tuple[float, float]:
    """Return Student's interval of a mean."""
    reach = t_quantile(1 - alpha / 2, max(1, freedom)) * standard_error
    return mean - reach, mean + reach


def skewed_interval(
    mean: float, error: float, rests: Any, alpha: float = ALPHA
) -> tuple[float, float]:
    """Return the interval of a mean of skewed values: Student's, bent by their skewness.

    With g the skewness and h(q) = 3 / g ((1 + g (q / sqrt(n) - g / (6 n)))^(1/3) - 1), the limits
    are mean - sd h(t) and mean - sd h(-t).

    Args:
        mean: Of the values.
        error: Its standard error.
        rests: Each value less the mean; for clusters, each sum less its size times the mean.
        alpha: How often the interval may miss.

    Source: P. Hall, Journal of the Royal Statistical Society B 54 (1992), 221-228
    """
    n = len(rests)
    t = t_quantile(1 - alpha / 2, n - 1)
    skewness = float((rests**3).mean() / (rests**2).mean() ** 1.5)

    def bent(quantile: float) -> float:
        straight = quantile / math.sqrt(n)
        if abs(skewness) < 1e-6:
            return straight
        inner = 1 + skewness * (straight - skewness / (6 * n))
        return 3 / skewness * (math.cbrt(inner) - 1)

    spread = error * math.sqrt(n)
    return mean - spread * bent(t), mean - spread * bent(-t)


def clustered_error(sums: Any, sizes: Any) -> float:
    """Return the standard error of a mean over clusters of unequal size.

    sqrt(G / (G - 1) sum_g (sum_g - size_g mean)^2) / n; with clusters of one it is sd / sqrt(n).

    Source: Miller 2024, equation 4, with the usual correction for few clusters
    """
    groups, total = len(sums), sizes.sum()
    spread = float(((sums - sizes * (sums.sum() / total)) ** 2).sum())
    return math.sqrt(groups / (groups - 1) * spread) / float(total) if groups > 1 else math.inf
