"""What the evaluations of a training run add to the time that is left of it."""

from ft_tools.runs.processes.eta import Left
from ft_tools.training.defaults import planned_evaluations
from ft_tools.training.plan import TrainingPlan

# Of the time of a step, for the same examples without their gradients: 1 of 2 to 3 passes, and
# longer batches. Source: arXiv 2001.08361, appendix B.
EVALUATED = (0.2, 0.4, 0.7)


def evaluations_ahead(plan: TrainingPlan, steps: int, step_seconds: float | None) -> Left | None:
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
    return Left(*(share * times * of_steps * step_seconds for share in EVALUATED))
