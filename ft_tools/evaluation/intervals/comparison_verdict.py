"""What a paired comparison found, what may be claimed of it, and of several at once.

Everything is paired: what counts is the difference on each example, not two separate means.
Source: E. Miller, Adding Error Bars to Evals, https://arxiv.org/abs/2411.00640
"""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

Verdict = Literal["improved", "regressed", "no_detectable_change", "underpowered"]
TargetVerdict = Literal["met", "not_met", "not_shown"]

ALPHA = 0.05
POWER = 0.80
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


def target_verdict(
    low: float, high: float, target: float, *, higher_is_better: bool
) -> TargetVerdict:
    """Say whether an interval lies on the target's good side, on its bad side, or across it.

    >>> target_verdict(0.92, 0.99, 0.9, higher_is_better=True)
    'met'
    >>> target_verdict(0.85, 0.99, 0.9, higher_is_better=True)
    'not_shown'
    """
    if not higher_is_better:
        low, high, target = -high, -low, -target
    if low >= target:
        return "met"
    return "not_met" if high < target else "not_shown"


def by_cluster(clusters: Iterable[Hashable]) -> list[list[int]]:
    """Return the indices of the examples of each cluster.

    >>> by_cluster(["a", "b", "a"])
    [[0, 2], [1]]
    """
    groups: dict[Hashable, list[int]] = {}
    for i, cluster in enumerate(clusters):
        groups.setdefault(cluster, []).append(i)
    return list(groups.values())
