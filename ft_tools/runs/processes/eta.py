"""How long the rest takes, from the steps so far: a range, because one number would be a guess."""

from typing import NamedTuple

LOW, HIGH = 0.15, 0.2
"""Of the likely value, how far the range goes to either side: evaluations, checkpoints and a busy
machine are in the mean of the steps, but not evenly."""
FIRST_STEPS, FIRST_SECONDS = 10, 30.0
"""Nothing is said before so many steps, or so long: the first ones compile and warm caches."""
EARLY = 0.25
"""Fraction of the steps until which a range is wider: what has not come yet is in no step."""
EARLY_LOW, EARLY_HIGH = 0.12, 0.5
"""Added at the first step, falling to nothing. Of 50 recorded runs 94% ended inside the range that
ten steps gave, and all inside that of a quarter (tests/unit/test_runs_eta.py)."""


class TimeLeft(NamedTuple):
    """Seconds that are left: the likely value and the range it lies in."""

    low: float
    likely: float
    high: float


class Pace:
    """The steps of one phase so far, without its first: that one warms up."""

    def __init__(self) -> None:
        self.num_steps = 0
        self.seconds = 0.0
        self._last: tuple[int, float] | None = None

    def add(self, steps: int, seconds: float) -> None:
        """Count steps and what they took together."""
        self.num_steps += steps
        self.seconds += seconds

    def at(self, step: int, now: float) -> None:
        """Count the steps since the last call; those of another phase begin anew."""
        if self._last is None or step < self._last[0]:
            self.num_steps, self.seconds, self._last = 0, 0.0, (step, now)
        if done := step - self._last[0]:
            self.add(done, now - self._last[1])
            self._last = (step, now)

    def left(self, steps: int) -> TimeLeft | None:
        """Return how long so many further steps take; None before enough of them are counted."""
        if self.num_steps < FIRST_STEPS and (not self.num_steps or self.seconds < FIRST_SECONDS):
            return None
        likely = self.seconds / self.num_steps * steps
        done = self.num_steps / (self.num_steps + steps)
        early = max(0.0, 1 - done / EARLY)
        low, high = LOW + EARLY_LOW * early, HIGH + EARLY_HIGH * early
        return TimeLeft(likely * (1 - low), likely, likely * (1 + high))
