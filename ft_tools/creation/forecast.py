"""What the rest will cost and yield, from a pilot: totals of rows not asked yet, with interval.

An interval covers both what the pilot's mean may be off, and what so few or many further rows
scatter by themselves: error = sd sqrt(1/n + 1/m) for the mean of m more, from n of the pilot.
"""

import math
from collections.abc import Sequence
from statistics import fmean

from pydantic import BaseModel, ConfigDict, Field

from ft_tools.metrics.verdicts import ALPHA, normal_quantile


class Estimate(BaseModel):
    """A total, and its 95% interval."""

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


def total_of(values: Sequence[float], num_more: int) -> Estimate:
    """Return the sum over so many more draws like some values.

    Args:
        values: One per prompt of the pilot, at least two.
        num_more: Prompts that are left.

    >>> total_of([2.0, 2.0, 2.0], 10)
    Estimate(likely=20.0, low=20.0, high=20.0)
    """
    # scipy comes with it, which a plan without a forecast does without.
    from ft_tools.metrics.means import skewed_interval, t_interval

    if not num_more:
        return Estimate(likely=0, low=0, high=0)
    import numpy as np

    n, mean = len(values), fmean(values)
    rests = np.array(values) - mean
    spread = math.sqrt(float((rests**2).sum()) / (n - 1))
    low = high = mean
    if spread > 1e-12 * abs(mean):
        error = spread * math.sqrt(1 / n + 1 / num_more)
        ends = [t_interval(mean, error, n - 1), skewed_interval(mean, error, rests)]
        low, high = min(one for one, _ in ends), max(one for _, one in ends)
    return Estimate(likely=num_more * mean, low=num_more * max(0.0, low), high=num_more * high)


def kept_of(values: Sequence[float], num_more: int) -> Estimate:
    """Return how many rows so many more prompts will yield; Wilson's where each yields 0 or 1.

    >>> found = kept_of([1.0] * 15 + [0.0] * 5, 100)
    >>> (found.likely, round(found.low), round(found.high))
    (75.0, 51, 90)
    """
    from ft_tools.metrics.means import wilson_interval

    if not num_more or not {0.0, 1.0}.issuperset(values):
        return total_of(values, num_more)
    n = len(values)
    independent = n * num_more / (n + num_more)
    rate = fmean(values)
    low, high = wilson_interval(rate, independent, normal_quantile(1 - ALPHA / 2))
    return Estimate(likely=num_more * rate, low=num_more * low, high=num_more * high)


def plus(one: Estimate, more: float) -> Estimate:
    """Return an estimate with what is known added."""
    return Estimate(likely=one.likely + more, low=one.low + more, high=one.high + more)
