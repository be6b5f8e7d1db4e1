"""Intervals and tests of means and of paired differences, alone or over clusters.

Intervals are closed forms: the wider of Student's and of one that is corrected for skewness covers
as often as a bootstrap does (tests/unit/test_metrics_statistics.py). Distributions are those of
scipy.special: importing scipy.stats takes a second.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import product
from statistics import fmean
from typing import Any

import numpy as np
from scipy.special import bdtr, stdtrit

from ft_tools.metrics.table import Interval
from ft_tools.metrics.verdicts import (
    ALPHA,
    POWER,
    PairedComparison,
    detectable_effect,
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
    return float(stdtrit(max(1, freedom), probability))


def mean_interval(
    values: Sequence[float],
    interval: Interval = "mean",
    *,
    clusters: Sequence[str] | None = None,
    is_fraction: bool = True,
    alpha: float = ALPHA,
) -> tuple[float, float]:
    """Return the interval of a mean: Wilson's for yes/no values, else one by their spread.

    Args:
        values: One per example.
        interval: The metric's kind.
        clusters: Group of each example, when examples of a group resemble each other.
        is_fraction: The values are from 0 to 1, which bounds the interval.
        alpha: How often the interval may miss.

    >>> ends = mean_interval([1.0] * 110, "yes_no")
    >>> round(ends[0], 3), ends[1]
    (0.966, 1.0)
    """
    if interval == "mean":
        found = compare_means(values, clusters, alpha=alpha, resamples=0)
        ends = found.ci_low, found.ci_high
        return (max(0.0, ends[0]), min(1.0, ends[1])) if is_fraction else ends
    rate = sum(value == 1.0 for value in values) / len(values)
    if clusters is None:
        return wilson_interval(rate, len(values), normal_quantile(1 - alpha / 2))
    sums, sizes = grouped(values, clusters)
    error, num = clustered_error(sums, sizes), float(len(sums))
    if 0 < error < math.inf:
        num = min(len(values), max(1.0, rate * (1 - rate) / error**2))
    return wilson_interval(rate, num, t_quantile(1 - alpha / 2, len(sums) - 1))


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


def compare(
    before: Sequence[float],
    after: Sequence[float],
    interval: Interval = "mean",
    *,
    clusters: Sequence[str] | None = None,
    seed: int = 0,
    alpha: float = ALPHA,
) -> PairedComparison:
    """Compare paired values, those of the same examples in the same order; see `mean_interval`.

    Raises:
        ValueError: The lengths differ, there are no examples, or a yes/no value is neither.
    """
    if len(before) != len(after) or not before:
        raise ValueError(f"{len(before)} and {len(after)} values are not pairs")
    differences = [b - a for a, b in zip(before, after, strict=True)]
    if clusters is None and interval == "yes_no":
        # A preference of 0.5 is a tie: an example changes wholly or not at all.
        if not {-1.0, 0.0, 1.0}.issuperset(differences):
            raise ValueError("values of a yes/no metric are 0 and 1")
        found = compare_proportions(differences, alpha)
    else:
        found = compare_means(differences, clusters, seed, alpha=alpha)
    return replace(found, before=fmean(before), after=fmean(after))


def compare_proportions(differences: Sequence[float], alpha: float = ALPHA) -> PairedComparison:
    """Compare outcomes that differ by -1, 0 or 1 on each example."""
    n = len(differences)
    better, worse = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    low, high = tango_interval(better, worse, n, alpha)
    # One discordant pair more than was seen: none seen does not mean that there are none.
    discordance = min(1.0, (better + worse + 1) / (n + 2))
    return PairedComparison(
        num_examples=n,
        num_better=better,
        num_worse=worse,
        difference=(better - worse) / n,
        ci_low=low,
        ci_high=high,
        p_value=mcnemar_p(better, worse),
        minimum_detectable_effect=detectable_effect(n, discordance, alpha),
    )


def mcnemar_p(num_better: int, num_worse: int) -> float:
    """Return the p value of McNemar's exact test.

    >>> round(mcnemar_p(8, 0), 7), mcnemar_p(0, 0)
    (0.0078125, 1.0)
    """
    total = num_better + num_worse
    return min(1.0, 2 * float(bdtr(min(num_better, num_worse), total, 0.5))) if total else 1.0


def tango_interval(
    num_better: int, num_worse: int, num_examples: int, alpha: float = ALPHA
) -> tuple[float, float]:
    """Return the score interval of a difference of paired proportions.

    It has a width even when no pair differs, or all do. The limits are where the score statistic
    (b - c - n d) / sqrt(n (2 q + d (1 - d))) is plus and minus z, with q the maximum-likelihood
    estimate of the rate of c given d.

    Source: T. Tango, Statistics in Medicine 17 (1998), 891-908; recommended for small samples by
    Fagerland, Lydersen and Laake, Statistics in Medicine 33 (2014), 2850-2875

    >>> low, high = tango_interval(0, 0, 30)
    >>> round(low, 3), round(high, 3)
    (-0.114, 0.114)
    """
    z, (b, c, n) = normal_quantile(1 - alpha / 2), (num_better, num_worse, num_examples)

    def score(delta: float) -> float:
        linear = -b - c + (2 * n - b + c) * delta
        root = math.sqrt(max(0.0, linear**2 + 8 * n * c * delta * (1 - delta)))
        variance = n * ((root - linear) / (2 * n) + delta * (1 - delta))
        distance = b - c - n * delta
        if variance <= 0:
            return math.copysign(math.inf, distance) if distance else 0.0
        return distance / math.sqrt(variance)

    def limit(sign: int) -> float:
        near, far = (b - c) / n, float(sign)
        for _ in range(60):
            middle = (near + far) / 2
            near, far = (middle, far) if sign * score(middle) > -z else (near, middle)
        return (near + far) / 2

    return limit(-1), limit(1)


def compare_means(
    differences: Sequence[float],
    clusters: Sequence[str] | None = None,
    seed: int = 0,
    *,
    alpha: float = ALPHA,
    resamples: int = RESAMPLES,
) -> PairedComparison:
    """Compare values that differ by any amount; fractions differ by at most 1."""
    n, mean = len(differences), sum(differences) / len(differences)
    span = max(1.0, *map(abs, differences))
    sums, sizes = grouped(differences, clusters)
    differing, error = sums[sums != 0], clustered_error(sums, sizes)
    # Rounding leaves a spread of about 1e-16 where there is none.
    if len(differing) < FEW_DIFFERENCES or error <= 1e-12 * span:
        # One unseen example each way at the largest difference, as for proportions.
        # Source: Bonett and Price, J. Educational and Behavioral Statistics 37 (2012), 479-488
        sums, sizes = np.append(sums, [span, -span]), np.append(sizes, [1, 1])
        error, middle = clustered_error(sums, sizes), float(sums.sum() / sizes.sum())
        reach = t_quantile(1 - alpha / 2, len(sums) - 1) * error
        low, high = middle - reach, middle + reach
    else:
        low, high = spread_interval(mean, error, sums - sizes * mean, alpha)
    detectable = t_quantile(1 - alpha / 2, len(sums) - 1) + t_quantile(POWER, len(sums) - 1)
    return PairedComparison(
        num_examples=n,
        num_better=sum(d > 0 for d in differences),
        num_worse=sum(d < 0 for d in differences),
        difference=mean,
        ci_low=max(-span, min(mean, low)),
        ci_high=min(span, max(mean, high)),
        p_value=sign_change_test(differing, np.random.default_rng(seed), resamples),
        minimum_detectable_effect=detectable * error,
    )


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


def spread_interval(
    mean: float, error: float, rests: Any, alpha: float = ALPHA
) -> tuple[float, float]:
    """Return the interval of a mean: the wider of Student's and one that is bent by skewness.

    With g the skewness and h(q) = 3 / g ((1 + g (q / sqrt(n) - g / (6 n)))^(1/3) - 1), the limits
    of the second are mean - sd h(t) and mean - sd h(-t).

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
    ends = [mean - error * t, mean + error * t]
    if abs(skewness) >= 1e-6:
        spread = error * math.sqrt(n)
        for quantile in (t, -t):
            inner = 1 + skewness * (quantile / math.sqrt(n) - skewness / (6 * n))
            ends.append(mean - spread * 3 / skewness * (math.cbrt(inner) - 1))
    return min(ends), max(ends)


def grouped(values: Sequence[float], clusters: Sequence[str] | None) -> tuple[Any, Any]:
    """Return sum and size of each cluster; without clusters each value is one.

    >>> [list(map(float, part)) for part in grouped([1.0, 2.0, 4.0], ["a", "b", "a"])]
    [[5.0, 2.0], [2.0, 1.0]]
    """
    if not clusters:
        return np.asarray(values, dtype=float), np.ones(len(values), dtype=int)
    places = np.unique(np.asarray(clusters), return_inverse=True)[1]
    return np.bincount(places, weights=values), np.bincount(places)


def clustered_error(sums: Any, sizes: Any) -> float:
    """Return the standard error of a mean over clusters of unequal size.

    sqrt(G / (G - 1) sum_g (sum_g - size_g mean)^2) / n; with clusters of one it is sd / sqrt(n).

    Source: Miller 2024, equation 4, with the usual correction for few clusters
    """
    groups, total = len(sums), sizes.sum()
    spread = float(((sums - sizes * (sums.sum() / total)) ** 2).sum())
    return math.sqrt(groups / (groups - 1) * spread) / float(total) if groups > 1 else math.inf
