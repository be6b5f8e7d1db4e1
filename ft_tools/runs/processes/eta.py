"""How long the rest takes, from the steps so far: a range, because one number would be a guess.

Steps are kept as buckets of equally many steps, at most 64: the memory of a long run is that of a
short one, and what comes now and then (an evaluation, a checkpoint, a busy machine) is in the
buckets and in how much they differ.
"""

import math
import statistics
from typing import NamedTuple

MAX_BUCKETS = 64
GROUPS = 8
"""Groups of neighbouring buckets whose means tell how much the pace drifts."""
# Half-width in standard deviations; Student's t with 7 degrees of freedom, 95 %.
# Source: https://www.itl.nist.gov/div898/handbook/eda/section3/eda3672.htm
WIDTH = 2.365
LEAST_FRACTION = 0.08
"""A range is at least so wide to either side: a machine does other work at times."""
EARLY = 0.25
"""Fraction of the steps until which a range is wider: what has not come yet is in no bucket."""
EARLY_LOW, EARLY_HIGH = 0.12, 0.62
"""Added at the first step, falling to nothing. 92% of 50 recorded runs ended inside the range that
ten steps gave, 36% without it (tests/unit/test_runs_eta.py)."""


class Left(NamedTuple):
    """Seconds that are left: the likely value and the range it lies in."""

    low: float
    likely: float
    high: float

    def plus(self, ahead: "Left") -> "Left":
        """Add what is to come beside steps."""
        return Left(self.low + ahead.low, self.likely + ahead.likely, self.high + ahead.high)


class Pace:
    """The durations of the steps of one phase, without its first: that one warms up."""

    def __init__(self) -> None:
        self.num_steps = 0
        self.seconds = 0.0
        self._size = 1
        self._buckets: list[float] = []
        self._open = 0.0
        self._filled = 0

    def add(self, seconds: float) -> None:
        """Count one step."""
        self.num_steps += 1
        self.seconds += seconds
        self._open += seconds
        self._filled += 1
        if self._filled < self._size:
            return
        self._buckets.append(self._open)
        self._open, self._filled = 0.0, 0
        if len(self._buckets) == MAX_BUCKETS:
            pairs = zip(self._buckets[::2], self._buckets[1::2], strict=True)
            self._buckets = [first + second for first, second in pairs]
            self._size *= 2

    def left(self, steps: int) -> Left:
        """Return how long so many further steps take; at least one step has to be counted.

        Args:
            steps: Further steps.

        The sum of `steps` further steps varies by what a bucket varies, and by what the mean of
        the buckets seen so far is uncertain: sd * sqrt(k + k^2 / n) for k buckets to come and n
        seen (the prediction interval of a sum of independent parts). Neighbouring buckets are not
        independent when a machine gets slower, so the same is asked of groups of them and the
        wider answer counts.

        Source: prediction interval, NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.5.2.
        """
        likely = self.seconds / self.num_steps * steps
        widest = max(self._half_width(steps, 1), self._half_width(steps, self._group()))
        half = max(widest, LEAST_FRACTION * likely)
        done = self.num_steps / (self.num_steps + steps)
        early = likely * max(0.0, 1 - done / EARLY)
        low, high = likely - half - EARLY_LOW * early, likely + half + EARLY_HIGH * early
        return Left(max(0.0, low), likely, high)

    def _group(self) -> int:
        return max(1, len(self._buckets) // GROUPS)

    def _half_width(self, steps: int, group: int) -> float:
        whole = len(self._buckets) // group * group
        parts = [sum(self._buckets[i : i + group]) for i in range(0, whole, group)]
        if len(parts) < 2:
            return 0.0
        ahead = steps / (self._size * group)
        spread = statistics.stdev(parts)
        return WIDTH * spread * math.sqrt(ahead + ahead**2 / len(parts))
