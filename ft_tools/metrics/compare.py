"""Compare two systems on the same examples: difference, interval, p value, detectable effect."""

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

from scipy.special import bdtr

from ft_tools.metrics.means import compare_means
from ft_tools.metrics.sample_size import detectable_effect
from ft_tools.metrics.table import Interval
from ft_tools.metrics.verdicts import ALPHA, PairedComparison, normal_quantile


def compare(
    before: Sequence[float],
    after: Sequence[float],
    interval: Interval = "mean",
    *,
    clusters: Sequence[str] | None = None,
    span: float = 1.0,
    seed: int = 0,
    alpha: float = ALPHA,
) -> PairedComparison:
    """Compare paired values.

    Args:
        before: A value for each example, higher is better or not.
        after: The same examples in the same order.
        interval: The metric's kind.
        clusters: Group of each example, when examples of a group resemble each other.
        span: Largest difference that an example can show; it bounds the interval where the
            examples hardly differ.
        seed: Of the resampling.
        alpha: How often the interval may miss.

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
        found = compare_means(differences, clusters, span, seed, alpha=alpha)
    return replace(found, before=fmean(before), after=fmean(after))


def compare_proportions(differences: Sequence[float], alpha: float = ALPHA) -> PairedComparison:
    """Compare outcomes that differ by -1, 0 or 1 on each example."""
    n = len(differences)
    better, worse = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    mean = (better - worse) / n
    low, high = tango_interval(better, worse, n, alpha)
    # One discordant pair more than was seen: none seen does not mean that there are none.
    discordance = min(1.0, (better + worse + 1) / (n + 2))
    return PairedComparison(
        num_examples=n,
        num_better=better,
        num_worse=worse,
        difference=mean,
        low=low,
        high=high,
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
    z = normal_quantile(1 - alpha / 2)
    at = (num_better - num_worse) / num_examples

    def limit(sign: int) -> float:
        near, far = at, float(sign)
        for _ in range(60):
            middle = (near + far) / 2
            if sign * _tango_score(middle, num_better, num_worse, num_examples) > -z:
                near = middle
            else:
                far = middle
        return (near + far) / 2

    return limit(-1), limit(1)


def _tango_score(delta: float, b: int, c: int, n: int) -> float:
    linear = -b - c + (2 * n - b + c) * delta
    root = math.sqrt(max(0.0, linear**2 + 8 * n * c * delta * (1 - delta)))
    q = (root - linear) / (4 * n)
    variance = n * (2 * q + delta * (1 - delta))
    distance = b - c - n * delta
    if variance <= 0:
        return math.copysign(math.inf, distance) if distance else 0.0
    return distance / math.sqrt(variance)
