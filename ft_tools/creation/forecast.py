"""What the rest will cost and yield, from a pilot; how far a judge agrees with marked rows.

The interval of a total covers both what the pilot's mean may be off, and what so few or many
further rows scatter by themselves: error = sd sqrt(1/n + 1/m) for the mean of m more, from n.
"""

import math
from collections.abc import Sequence
from statistics import fmean

from pydantic import BaseModel, ConfigDict, Field

from ft_tools import facts
from ft_tools.metrics.verdicts import ALPHA, normal_quantile


class Estimate(BaseModel):
    """A number, and its 95% interval."""

    model_config = ConfigDict(frozen=True)

    likely: float
    low: float
    high: float


class Forecast(BaseModel):
    """What the requests that are left will take, from a pilot."""

    model_config = ConfigDict(frozen=True)

    pilot_run: str
    num_pilot_prompts: int
    kept: Estimate = Field(description="Rows that pass the checks, those of the pilot included.")
    completion_tokens: Estimate = Field(description="Of what is left.")
    usd: Estimate | None = Field(None, description="Of what is left; null: no price is known.")
    seconds: Estimate = Field(description="Of what is left.")
    usd_spent: float | None = Field(None, description="By the pilot.")


class Agreement(BaseModel):
    """How often a judge and the user agree."""

    model_config = ConfigDict(frozen=True)

    num_rows: int
    accuracy: Estimate
    kappa: Estimate = Field(description="Agreement beyond chance: 0 none, 1 always (Cohen).")

    @property
    def is_enough(self) -> bool:
        """Return whether the judge may decide alone."""
        return self.kappa.likely >= facts.number("creation.judge_kappa")


def total_of(values: Sequence[float], num_more: int) -> Estimate:
    """Return the sum over so many more draws like some values; at least two are needed.

    >>> total_of([2.0, 2.0, 2.0], 10)
    Estimate(likely=20.0, low=20.0, high=20.0)
    """
    # They import scipy, which a plan without a forecast does without.
    import numpy as np

    from ft_tools.metrics.means import skewed_interval, t_interval

    n, mean = len(values), fmean(values)
    rests = np.array(values) - mean
    spread = math.sqrt(float((rests**2).sum()) / (n - 1))
    low = high = mean
    if num_more and spread > 1e-12 * abs(mean):
        error = spread * math.sqrt(1 / n + 1 / num_more)
        ends = [t_interval(mean, error, n - 1), skewed_interval(mean, error, rests)]
        low, high = min(one for one, _ in ends), max(one for _, one in ends)
    return Estimate(likely=num_more * mean, low=num_more * max(0.0, low), high=num_more * high)


def kept_of(values: Sequence[float], num_more: int, num_known: float = 0) -> Estimate:
    """Return how many rows so many more prompts will yield, beside those that are known.

    The interval is Wilson's where each yields 0 or 1.

    >>> found = kept_of([1.0] * 15 + [0.0] * 5, 100)
    >>> (found.likely, round(found.low), round(found.high))
    (75.0, 51, 90)
    """
    from ft_tools.metrics.means import wilson_interval

    total = total_of(values, num_more)
    ends = total.low, total.high
    if num_more and {0.0, 1.0}.issuperset(values):
        independent = len(values) * num_more / (len(values) + num_more)
        rates = wilson_interval(fmean(values), independent, normal_quantile(1 - ALPHA / 2))
        ends = num_more * rates[0], num_more * rates[1]
    low, high = (num_known + end for end in ends)
    return Estimate(likely=num_known + total.likely, low=low, high=high)


def agreement(marks: Sequence[bool], verdicts: Sequence[bool | None]) -> Agreement:
    """Return how far verdicts agree with marks; no verdict agrees with none.

    kappa = (po - pe) / (1 - pe), with po the rate of agreement and pe that by chance.

    Source: J. Cohen, Educational and Psychological Measurement 20 (1960), 37-46

    >>> found = agreement([True] * 25 + [False] * 25, [True] * 20 + [False] * 30)
    >>> found.accuracy.likely, round(found.kappa.likely, 2)
    (0.9, 0.8)
    """
    from ft_tools.metrics.means import wilson_interval

    n, z = len(marks), normal_quantile(1 - ALPHA / 2)
    observed = sum(a == b for a, b in zip(marks, verdicts, strict=True)) / n
    good, passed, failed = sum(marks) / n, verdicts.count(True) / n, verdicts.count(False) / n
    chance = good * passed + (1 - good) * failed
    kappa = (observed - chance) / (1 - chance)
    reach = z * math.sqrt(observed * (1 - observed) / n) / (1 - chance)
    return Agreement(
        num_rows=n,
        accuracy=_rounded(observed, *wilson_interval(observed, n, z)),
        kappa=_rounded(kappa, max(-1.0, kappa - reach), min(1.0, kappa + reach)),
    )


def _rounded(likely: float, low: float, high: float) -> Estimate:
    return Estimate(likely=round(likely, 4), low=round(low, 4), high=round(high, 4))
