"""What a paired comparison found, what may be claimed of it, and how many examples that takes.

Everything is paired: what counts is the difference on each example, not two separate means.
Source: E. Miller, Adding Error Bars to Evals, https://arxiv.org/abs/2411.00640
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

Verdict = Literal[
    "improved", "regressed", "no_detectable_change", "underpowered", "not_confirmed", "changed"
]
"""not_confirmed: the interval excludes zero, but not after the correction for several measures.
changed: shown to differ in a measure of which neither direction is better."""
TargetVerdict = Literal["met", "not_met", "not_shown"]

ALPHA = 0.05
POWER = 0.80
_NORMAL = NormalDist()
FEWEST_EXAMPLES = 6
"""Fewer cannot reach p < 0.05 in McNemar's exact test: 5 of 5 one way have p = 2 / 2**5."""


def normal_quantile(probability: float) -> float:
    """Return the standard normal quantile.

    >>> round(normal_quantile(0.975), 6)
    1.959964
    """
    return _NORMAL.inv_cdf(probability)


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


def detectable_effect(num_examples: int, discordance: float, alpha: float = ALPHA) -> float:
    """Return the effect on a yes/no metric that `num_examples` show in 4 of 5 evaluations.

    Solves `examples_needed` for the effect: reach sqrt(discordance / (n + reach^2)).

    >>> round(detectable_effect(150, 0.2), 3)
    0.1
    """
    reach = normal_quantile(1 - alpha / 2) + normal_quantile(POWER)
    return min(1.0, reach * math.sqrt(discordance / (num_examples + reach**2)))


@dataclass(frozen=True)
class PairedComparison:
    """What was found on n examples that both systems answered."""

    num_examples: int
    num_better: int
    """Examples with a higher value after; `num_worse` those with a lower one."""
    num_worse: int
    difference: float
    """Mean of after minus before, in units of the metric."""
    ci_low: float
    ci_high: float
    """Interval of the difference."""
    p_value: float
    minimum_detectable_effect: float
    """True difference that this many such examples would show in 4 of 5 evaluations."""
    before: float = 0.0
    """Mean before; `after` the one after."""

    @property
    def excludes_zero(self) -> bool:
        """Return whether the interval does."""
        return self.ci_low > 0 or self.ci_high < 0

    after: float = 0.0


def verdict(
    paired: PairedComparison,
    adjusted_p: float,
    *,
    higher_is_better: bool | None,
    smallest_effect: float,
) -> Verdict:
    """Return what may be claimed.

    A change is claimed when both the adjusted p value and the interval show it. Otherwise
    `underpowered` means that a change of the size that matters could have been missed.
    """
    if adjusted_p < ALPHA and paired.excludes_zero:
        if higher_is_better is None:
            return "changed"
        return "improved" if (paired.difference > 0) == higher_is_better else "regressed"
    if paired.excludes_zero:
        return "not_confirmed"
    if paired.minimum_detectable_effect > smallest_effect:
        return "underpowered"
    return "no_detectable_change"


def target_verdict(
    low: float, high: float, target: float, *, higher_is_better: bool
) -> TargetVerdict:
    """Return whether an interval lies on the target's good side, on its bad side, or across it.

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


def worst_verdict(verdicts: Iterable[TargetVerdict]) -> TargetVerdict:
    """Return what may be claimed of several requirements together.

    >>> worst_verdict(["met", "not_shown"]), worst_verdict(["not_shown", "not_met"])
    ('not_shown', 'not_met')
    """
    order: tuple[TargetVerdict, ...] = ("met", "not_shown", "not_met")
    return max(verdicts, key=order.index)


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
