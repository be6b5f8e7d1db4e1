"""Estimate how long an evaluation takes."""

from collections.abc import Mapping, Sequence

from ft_tools.evaluation.systems.models import LoadPlan, Models, weight_bytes
from ft_tools.evaluation.systems.plan import SystemPlan
from ft_tools.metrics.general import NEW_TOKENS
from ft_tools.models.machine import first_card
from ft_tools.runs import estimates
from ft_tools.runs.estimates import Range

# Of a process that starts and of a model that is loaded; on one's own machine and on a busy one.
START_SECONDS: Range = (3.0, 15.0)
LOAD_SECONDS: Range = (3.0, 15.0)
# scikit-learn is imported and learns once, whatever the number of questions.
SIMPLE_SECONDS: Range = (2.0, 15.0)
# A hosted API's answer, from a few words to a page.
CALL_SECONDS: Range = (0.3, 10.0)
# Answers may end after a quarter of their longest length; machines differ by twice at least.
SHORTEST_FRACTION, SLOWER = 0.25, 2.0


def estimate_seconds(
    models: Models,
    systems: Sequence[SystemPlan],
    num_prompts: int,
    batch_size: int,
    loading: LoadPlan | None,
    concurrency: Mapping[str, int],
) -> Range | None:
    """Estimate the time of all answers.

    Args:
        models: Those that are loaded here.
        systems: All systems; questions that are answered already take no time.
        num_prompts: Questions of the general suite, for each model.
        batch_size: Prompts answered together.
        loading: Where models are loaded.
        concurrency: Endpoint -> requests at a time.

    Returns:
        The range; None if a model's size or its device is not known.
    """
    pending = {plan.name: plan for plan in systems if plan.num_questions}
    parts = [START_SECONDS]
    if any(plan.kind not in {"model", "endpoint"} for plan in pending.values()):
        parts.append(SIMPLE_SECONDS)
    for name, at_once in concurrency.items():
        rounds = -(-pending[name].num_questions // at_once) if name in pending else 0
        parts.append((CALL_SECONDS[0] * rounds, CALL_SECONDS[1] * rounds))
    for name, source in models.by_name.items():
        size = weight_bytes(source)
        per_token = None if size is None else seconds_per_token(size, batch_size, loading)
        if size is None or per_token is None:
            return None
        plan = pending.get(name)
        tokens = num_prompts * NEW_TOKENS
        tokens += plan.num_questions * plan.max_new_tokens if plan else 0
        read = plan.estimated_input_tokens if plan else 0
        seconds = tokens * per_token + read * (seconds_per_read_token(size, loading) or 0.0)
        if tokens:
            parts += [LOAD_SECONDS, (SHORTEST_FRACTION * seconds, SLOWER * seconds)]
    return float(round(sum(low for low, _ in parts))), float(round(sum(high for _, high in parts)))


def seconds_per_token(num_bytes: int, batch_size: int, loading: LoadPlan | None) -> float | None:
    """Return about how long one token of one sequence takes; None: the device is not known."""
    return estimates.seconds_per_token(num_bytes, _place(loading), batch_size)


def seconds_per_read_token(num_bytes: int, loading: LoadPlan | None) -> float | None:
    """Return about how long a token of a prompt takes; None: the device is not known."""
    return estimates.seconds_per_read_token(num_bytes, _place(loading))


def _place(loading: LoadPlan | None) -> str:
    if loading is None or loading.on_cpu:
        return estimates.CPU
    return estimates.MLX if loading.on_mlx else first_card(loading.device)
