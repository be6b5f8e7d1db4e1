"""Compare yes and no on the same examples: exact test, score interval."""

import math
from collections.abc import Sequence

from ft_tools.evaluation.intervals.comparison_verdict import ALPHA, Paired, normal_quantile
from ft_tools.evaluation.intervals.sample_size import detectable_effect


def compare_proportions(differences: Sequence[float]) -> Paired:
    """Compare outcomes that differ by -1, 0 or 1 on each example."""
    n = len(differences)
    better, worse = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    mean = (better - worse) / n
    low, high = tango_interval(better, worse, n)
    # One discordant pair more than was seen: none seen does not mean that there are none.
    discordance = min(1.0, (better + worse + 1) / (n + 2))
    spread = sum((d - mean) ** 2 for d in differences)
    return Paired(
        num_examples=n,
        num_better=better,
        num_worse=worse,
        difference=mean,
        standard_error=math.sqrt(spread / max(1, n - 1) / n),
        low=low,
        high=high,
        p_value=sign_test(better, worse),
        minimum_detectable_effect=detectable_effect(n, discordance),
        method="McNemar exact; Tango score interval",
    )


def sign_test(num_up: int, num_down: int) -> float:
    """Return the two-sided exact probability of a split at least as uneven, both sides equal.

    With the discordant pairs of two classifiers this is McNemar's exact test.

    >>> sign_test(8, 0), sign_test(0, 0)
    (0.0078125, 1.0)
    """
    total, fewer = num_up + num_down, min(num_up, num_down)
    ways = sum(math.comb(total, k) for k in range(fewer + 1))
    # Integers until the end: 2 ** total overflows a float from 1,024 pairs on.
    return min(1.0, 2 * ways / (1 << total)) if total else 1.0


def tango_interval(num_better: int, num_worse: int, num_examples: int) -> tuple[float, float]:
    """Return the 95% score interval of a difference of paired proportions.

    It has a width even when no pair differs, or all do. The limits are where the score statistic
    (b - c - n d) / sqrt(n (2 q + d (1 - d))) is plus and minus z, with q the maximum-likelihood
    estimate of the rate of c given d.

    Source: T. Tango, Statistics in Medicine 17 (1998), 891-908; recommended for small samples by
    Fagerland, Lydersen and Laake, Statistics in Medicine 33 (2014), 2850-2875

    >>> low, high = tango_interval(0, 0, 30)
    >>> round(low, 3), round(high, 3)
    (-0.114, 0.114)
    """
    z = normal_quantile(1 - ALPHA / 2)
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
