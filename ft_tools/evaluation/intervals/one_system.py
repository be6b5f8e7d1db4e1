"""The interval of one system's own mean."""

import math
from collections.abc import Sequence

import numpy as np

from ft_tools.evaluation.intervals.comparison_verdict import ALPHA, normal_quantile
from ft_tools.evaluation.intervals.means import compare_means


def mean_interval(
    values: Sequence[float],
    *,
    clusters: Sequence[str] | None = None,
    scale: float = 1.0,
    seed: int = 0,
    resamples: int = 2000,
) -> tuple[float, float]:
    """Return the 95% interval of a mean: Wilson's for yes/no values, else resampled.

    Args:
        values: One per example.
        clusters: Group of each example, when examples of a group resemble each other.
        scale: Largest value of an example; the interval of a fraction stays within 0 and it.
        seed: For resampling.
        resamples: Bootstrap samples.

    >>> low, high = mean_interval([1.0] * 110)
    >>> round(low, 3), high
    (0.966, 1.0)
    """
    if clusters is None and {0.0, 1.0}.issuperset(values):
        return wilson_interval(sum(value == 1.0 for value in values), len(values))
    found = compare_means(list(values), clusters, scale, np.random.default_rng(seed), resamples)
    if min(values) >= 0 and max(values) <= scale:
        return max(0.0, found.low), min(scale, found.high)
    return found.low, found.high


def wilson_interval(successes: int, n: int) -> tuple[float, float]:
    """Return the 95% score interval of a proportion.

    Source: E. B. Wilson, Journal of the American Statistical Association 22 (1927), 209-212;
    recommended by Brown, Cai and DasGupta, Statistical Science 16 (2001), 101-133

    >>> low, high = wilson_interval(0, 10)
    >>> low, round(high, 4)
    (0.0, 0.2775)
    """
    z = normal_quantile(1 - ALPHA / 2)
    rate = successes / n
    middle = (rate + z * z / (2 * n)) / (1 + z * z / n)
    reach = z / (1 + z * z / n) * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    low = 0.0 if successes == 0 else max(0.0, middle - reach)
    high = 1.0 if successes == n else min(1.0, middle + reach)
    return low, high
