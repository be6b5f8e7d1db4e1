"""The pace of a run: how long it may be silent, and what its evaluations add to the time left."""

import statistics
from collections import deque

from ft_tools.runs.processes.eta import TimeLeft
from ft_tools.training.defaults import planned_evaluations
from ft_tools.training.plan import TrainingPlan

# Promise: a hung run is called stalled within the larger of these two.
LEAST_SECONDS = 60.0
STEPS = 20.0
"""Median steps."""
SAVE_SECONDS = 300.0
"""What a checkpoint may take before any has been written."""
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

    @property
    def median(self) -> float | None:
        """Return the median of the last 50 steps, in seconds; None before the third."""
        return statistics.median(self._steps) if len(self._steps) >= KNOWN else None

    def for_a_step(self) -> float | None:
        """Return what a step, or a batch of an evaluation, may take; None before it is known."""
        median = self.median
        return None if median is None else max(LEAST_SECONDS, STEPS * median)

    def for_a_save(self) -> float:
        """Return what a step with a checkpoint after it may take."""
        save = SAVES * self._slowest_save if self._slowest_save else SAVE_SECONDS
        return max(LEAST_SECONDS, self.for_a_step() or SAVE_SECONDS, save)


# Of the time of a step, for the same examples without their gradients: 1 of 2 to 3 passes, and
# longer batches. Source: arXiv 2001.08361, appendix B.
EVALUATED = (0.2, 0.4, 0.7)


def evaluations_ahead(
    plan: TrainingPlan, steps: int, step_seconds: float | None
) -> TimeLeft | None:
    """Return what a run's evaluations take, from the time of a step; for before the first of them.

    Args:
        plan: With validation examples.
        steps: Of the whole run.
        step_seconds: The usual step so far; None before it is known.
    """
    if step_seconds is None or plan.validation is None or plan.training["eval_strategy"] == "no":
        return None
    times = planned_evaluations(plan.training, steps, plan.epochs)
    of_steps = plan.validation.num_examples / plan.effective_batch
    return TimeLeft(*(share * times * of_steps * step_seconds for share in EVALUATED))
