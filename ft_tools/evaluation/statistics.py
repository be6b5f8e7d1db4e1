"""Compare two models on the same examples: difference, interval, p value, power, verdict.

Everything is paired: what counts is the difference on each example, not two separate means.
Source: E. Miller, Adding Error Bars to Evals, https://arxiv.org/abs/2411.00640
"""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from operator import mul
from typing import Literal, TypeVar

from ft_tools.evaluation.distributions import (
    normal_cdf,
    normal_quantile,
    sign_test,
    t_quantile,
)

Answer = TypeVar("Answer")
Verdict = Literal["improved", "regressed", "no_detectable_change", "underpowered"]

ALPHA = 0.05
POWER = 0.80
RESAMPLES = 4000
# Up to this many differing examples all sign changes are counted, above it they are drawn.
EXACT_SIGNS = 12
# With fewer differing examples than this, their spread says nothing about the spread of others.
FEW_DIFFERENCES = 6


@dataclass(frozen=True)
class Paired:
    """What was found on n examples that both models answered."""

    num_examples: int
    num_better: int
    """Examples with a higher value after; `num_worse` those with a lower one."""
    num_worse: int
    difference: float
    """Mean of after minus before, in units of the metric."""
    standard_error: float
    low: float
    high: float
    """95% interval of the difference."""
    p_value: float
    minimum_detectable_effect: float
    """True difference that this many such examples would show in 4 of 5 evaluations."""
    method: str


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
    if clusters is None and set(before) | set(after) <= {0.0, 1.0}:
        return _binary(differences)
    return _continuous(differences, clusters, scale, random.Random(seed), resamples)


def verdict(
    paired: Paired, adjusted_p: float, *, higher_is_better: bool, smallest_effect: float
) -> Verdict:
    """Say what may be claimed.

    A change is claimed when both the adjusted p value and the interval say so. Otherwise nothing is
    claimed, and `underpowered` says that a change of the size that matters could have been missed.
    """
    excludes_zero = paired.low > 0 or paired.high < 0
    if adjusted_p < ALPHA and excludes_zero:
        return "improved" if (paired.difference > 0) == higher_is_better else "regressed"
    if paired.minimum_detectable_effect > smallest_effect:
        return "underpowered"
    return "no_detectable_change"


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p values for there being several, in their order.

    Source: S. Holm, Scandinavian Journal of Statistics 6 (1979), 65-70

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = highest
    return adjusted


def examples_needed(effect: float, discordance: float) -> int:
    """Return how many examples show an effect on a yes/no metric in 4 of 5 evaluations.

    n = (z_{1-alpha/2} + z_{power})^2 (discordance - effect^2) / effect^2

    Args:
        effect: True difference of the two rates.
        discordance: Fraction of examples on which the models differ, at least `effect`.

    Source: R. J. Connor, Biometrics 43 (1987), 207-211

    >>> examples_needed(0.1, 0.2), examples_needed(0.05, 0.2)
    (150, 621)
    """
    reach = (normal_quantile(1 - ALPHA / 2) + normal_quantile(POWER)) ** 2
    return math.ceil(reach * (max(discordance, effect) - effect**2) / effect**2)


def detectable_effect(num_examples: int, discordance: float) -> float:
    """Return the effect on a yes/no metric that `num_examples` show in 4 of 5 evaluations.

    Solves `examples_needed` for the effect: reach sqrt(discordance / (n + reach^2)).

    >>> round(detectable_effect(150, 0.2), 3)
    0.1
    """
    reach = normal_quantile(1 - ALPHA / 2) + normal_quantile(POWER)
    return min(1.0, reach * math.sqrt(discordance / (num_examples + reach**2)))


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


def t_interval(mean: float, standard_error: float, freedom: int) -> tuple[float, float]:
    """Return Student's 95% interval of a mean."""
    reach = t_quantile(1 - ALPHA / 2, freedom) * standard_error
    return mean - reach, mean + reach


def clustered_error(sums: Sequence[float], sizes: Sequence[int]) -> float:
    """Return the standard error of a mean over clusters of unequal size.

    sqrt(G / (G - 1) sum_g (sum_g - size_g mean)^2) / n; with clusters of one it is sd / sqrt(n).

    Source: Miller 2024, equation 4, with the usual correction for few clusters
    """
    groups, total = len(sums), sum(sizes)
    mean = sum(sums) / total
    spread = sum((s - size * mean) ** 2 for s, size in zip(sums, sizes, strict=True))
    return math.sqrt(groups / (groups - 1) * spread) / total if groups > 1 else math.inf


def _tango_score(delta: float, b: int, c: int, n: int) -> float:
    linear = -b - c + (2 * n - b + c) * delta
    root = math.sqrt(max(0.0, linear**2 + 8 * n * c * delta * (1 - delta)))
    q = (root - linear) / (4 * n)
    variance = n * (2 * q + delta * (1 - delta))
    distance = b - c - n * delta
    if variance <= 0:
        return math.copysign(math.inf, distance) if distance else 0.0
    return distance / math.sqrt(variance)


def _binary(differences: Sequence[float]) -> Paired:
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


def _continuous(
    differences: Sequence[float],
    clusters: Sequence[str] | None,
    scale: float,
    chance: random.Random,
    resamples: int,
) -> Paired:
    n = len(differences)
    sums, sizes = _by_cluster(differences, clusters)
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
        low, high = bootstrap_interval(sums, sizes, chance, resamples)
        by_t = t_interval(mean, error, len(sums) - 1)
        low, high = min(low, by_t[0]), max(high, by_t[1])
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
        method="sign changes; bootstrap and t interval"
        + (f"; {len(set(clusters))} clusters" if clusters else ""),
    )


def bootstrap_interval(
    sums: Sequence[float], sizes: Sequence[int], chance: random.Random, resamples: int
) -> tuple[float, float]:
    """Return the 95% bootstrap interval of a mean over clusters, widened for few of them.

    Percentiles alone are too narrow by a factor sqrt((n - 1) / n) z / t; taking them further out
    corrects that.

    Source: T. Hesterberg, The American Statistician 69 (2015), 371-386, section 4.4
    """
    n = len(sums)
    even = len(set(sizes)) == 1
    pairs = list(zip(sums, sizes, strict=True))
    total = sum(sizes)
    means = []
    for _ in range(resamples):
        if even:
            means.append(sum(chance.choices(sums, k=n)) / total)
        else:
            drawn = chance.choices(pairs, k=n)
            means.append(sum(s for s, _ in drawn) / sum(size for _, size in drawn))
    means.sort()
    tail = normal_cdf(-math.sqrt(n / (n - 1)) * t_quantile(1 - ALPHA / 2, n - 1))
    cut = min(int(tail * resamples), resamples - 1)
    return means[cut], means[-1 - cut]


def sign_change_test(
    differences: Sequence[float], chance: random.Random, resamples: int = RESAMPLES
) -> float:
    """Return how often random signs make the sum of differences at least as large, two-sided.

    If the two models were the same, which one gave which value would be chance on each example.

    Source: E. W. Noreen, Computer Intensive Methods for Testing Hypotheses (Wiley, 1989)

    >>> sign_change_test([0.5] * 6, random.Random(0))
    0.03125
    """
    sizes = [abs(d) for d in differences if d != 0]
    if not sizes:
        return 1.0
    observed = abs(sum(differences)) * (1 - 1e-12)
    if len(sizes) <= EXACT_SIGNS:
        hits = sum(
            abs(sum(map(mul, sizes, signs))) >= observed
            for signs in product((-1, 1), repeat=len(sizes))
        )
        return float(hits / 2 ** len(sizes))
    hits = sum(
        abs(sum(map(mul, sizes, chance.choices((-1, 1), k=len(sizes))))) >= observed
        for _ in range(resamples)
    )
    return float((hits + 1) / (resamples + 1))


def _by_cluster(
    differences: Sequence[float], clusters: Sequence[str] | None
) -> tuple[list[float], list[int]]:
    if clusters is None:
        return list(differences), [1] * len(differences)
    sums: dict[str, float] = {}
    sizes: dict[str, int] = {}
    for difference, cluster in zip(differences, clusters, strict=True):
        sums[cluster] = sums.get(cluster, 0.0) + difference
        sizes[cluster] = sizes.get(cluster, 0) + 1
    return list(sums.values()), list(sizes.values())


def compare_statistic(
    before: Sequence[Answer],
    after: Sequence[Answer],
    statistic: Callable[[Sequence[Answer], Sequence[int]], float],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES // 4,
) -> Paired:
    """Compare a measure of a whole set, such as macro F1, which is no mean over examples.

    The interval resamples examples, in pairs; the p value swaps the two answers of examples at
    random.

    Args:
        before: An answer for each example.
        after: The same examples in the same order.
        statistic: Takes answers and the indices of their examples.
        seed: Of the resampling.
        resamples: Bootstrap samples, and random swaps.
    """
    n, chance = len(before), random.Random(seed)
    everything = range(n)

    def difference(first: Sequence[Answer], second: Sequence[Answer], at: Sequence[int]) -> float:
        return statistic([second[i] for i in at], at) - statistic([first[i] for i in at], at)

    observed = difference(before, after, everything)
    drawn = sorted(
        difference(before, after, chance.choices(everything, k=n)) for _ in range(resamples)
    )
    differing = sum(a != b for a, b in zip(before, after, strict=True))
    hits = 0
    for _ in range(resamples):
        swap = chance.getrandbits(n) if n else 0
        first = [
            b if swap >> i & 1 else a for i, (a, b) in enumerate(zip(before, after, strict=True))
        ]
        second = [
            a if swap >> i & 1 else b for i, (a, b) in enumerate(zip(before, after, strict=True))
        ]
        hits += abs(difference(first, second, everything)) >= abs(observed) - 1e-12
    middle = sum(drawn) / resamples
    error = math.sqrt(sum((d - middle) ** 2 for d in drawn) / max(1, resamples - 1))
    low, high = drawn[int(0.025 * resamples)], drawn[-1 - int(0.025 * resamples)]
    if differing < FEW_DIFFERENCES:
        # As good as no difference was seen: the bound for a proportion is the honest one.
        rare_low, rare_high = tango_interval(differing, differing, n)
        low, high = min(low, observed + rare_low), max(high, observed + rare_high)
        error = max(error, (rare_high - rare_low) / 2 / normal_quantile(1 - ALPHA / 2))
    reach = normal_quantile(1 - ALPHA / 2) + normal_quantile(POWER)
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
        method="swapped answers; bootstrap interval",
    )
