"""How long a training run may be silent before it is called stalled."""

import statistics
from collections import deque

# Promise: a hung run is called stalled within the larger of these two.
LEAST_SECONDS = 60.0
STEPS = 20.0
"""Median steps."""
SAVE_SECONDS = 300.0
"""What a checkpoint may take before any has been written, and a step before there is a median."""
SAVES = 20.0
RECENT = 50
KNOWN = 3
"""Steps until there is a median to speak of."""


class Patience:
    """Step and save times of an attempt -> the silence that is too long, in seconds."""

    def __init__(self) -> None:
        self._steps: deque[float] = deque(maxlen=RECENT)
        self._slowest_save = 0.0

    def step_took(self, seconds: float) -> None:
        """Count a step, without the evaluation and the save after it."""
        self._steps.append(seconds)

    def save_took(self, seconds: float) -> None:
        """Count the writing of a checkpoint."""
        self._slowest_save = max(self._slowest_save, seconds)

    def for_a_step(self) -> float:
        """Return what a step, or a batch of an evaluation, may take."""
        if len(self._steps) < KNOWN:
            return SAVE_SECONDS
        return max(LEAST_SECONDS, STEPS * statistics.median(self._steps))

    def for_a_save(self) -> float:
        """Return what a step with a checkpoint after it may take."""
        save = SAVES * self._slowest_save if self._slowest_save else SAVE_SECONDS
        return max(self.for_a_step(), save)
