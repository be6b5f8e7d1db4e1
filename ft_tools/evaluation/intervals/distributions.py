"""The few distribution functions that the comparisons need, in plain Python."""

import math
from functools import cache
from statistics import NormalDist

_NORMAL = NormalDist()


def normal_quantile(probability: float) -> float:
    """Return the standard normal quantile.

    >>> round(normal_quantile(0.975), 6)
    1.959964
    """
    return _NORMAL.inv_cdf(probability)


def normal_cdf(value: float) -> float:
    """Return the standard normal distribution function."""
    return _NORMAL.cdf(value)


def t_cdf(value: float, freedom: float) -> float:
    """Return Student's t distribution function.

    P(T <= t) = 1 - I(v / (v + t^2); v/2, 1/2) / 2 for t >= 0, with I the regularised incomplete
    beta function.

    Source: https://dlmf.nist.gov/8.17
    """
    if math.isinf(value):
        return 1.0 if value > 0 else 0.0
    tail = 0.5 * incomplete_beta(freedom / (freedom + value * value), freedom / 2, 0.5)
    return 1.0 - tail if value >= 0 else tail


@cache
def t_quantile(probability: float, freedom: float) -> float:
    """Return the quantile of Student's t, found by bisection.

    >>> round(t_quantile(0.975, 9), 6)
    2.262157
    """
    if probability < 0.5:
        return -t_quantile(1.0 - probability, freedom)
    high = 1.0
    while t_cdf(high, freedom) < probability:
        high *= 2.0
    low = 0.0
    for _ in range(80):
        middle = (low + high) / 2.0
        if t_cdf(middle, freedom) < probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2.0


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


def incomplete_beta(x: float, a: float, b: float) -> float:
    """Return the regularised incomplete beta function I(x; a, b), by its continued fraction.

    Source: https://dlmf.nist.gov/8.17#v
    """
    if x <= 0.0 or x >= 1.0:
        return 0.0 if x <= 0.0 else 1.0
    if x > (a + 1.0) / (a + b + 2.0):
        return 1.0 - incomplete_beta(1.0 - x, b, a)
    log_front = (
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    return math.exp(log_front) * _fraction(x, a, b) / a


def _fraction(x: float, a: float, b: float) -> float:
    """Evaluate 1 / (1 + d1 / (1 + d2 / ...)) forwards, with Lentz's method."""
    tiny = 1e-300
    value, c, d = 1.0, 1.0, 0.0
    for i in range(400):
        m = i // 2
        if i == 0:
            term = 1.0
        elif i % 2 == 0:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        else:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        d = 1.0 + term * d
        d = 1.0 / (d if abs(d) > tiny else tiny)
        c = 1.0 + term / (c if abs(c) > tiny else tiny)
        value *= c * d
        if i and abs(c * d - 1.0) < 1e-15:
            break
    return value - 1.0
