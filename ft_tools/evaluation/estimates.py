"""How long an evaluation takes: what it has to read and to write, at the machine's rates."""

from collections.abc import Mapping, Sequence

from ft_tools.evaluation.systems.models import LoadPlan, Models, weight_bytes
from ft_tools.evaluation.systems.plan import SystemPlan
from ft_tools.metrics.general import NEW_TOKENS
from ft_tools.models.machine import first_card
from ft_tools.runs import estimates
from ft_tools.runs.estimates import Duration, Part, Range

# Of a process that starts and of a model that is loaded; on one's own machine and on a busy one.
START_SECONDS: Range = (3.0, 15.0)
LOAD_SECONDS: Range = (3.0, 15.0)
# scikit-learn is imported and learns once, whatever the number of questions.
SIMPLE_SECONDS: Range = (2.0, 15.0)
# A hosted API's answer, from a few words to a page.
CALL_SECONDS: Range = (0.3, 10.0)
# Answers may end after a quarter of their longest length; machines differ by twice at least.
OFF: Range = (0.25, 2.0)


def estimate(
    models: Models,
    systems: Sequence[SystemPlan],
    num_prompts: int,
    batch_size: int,
    loading: LoadPlan | None,
    concurrency: Mapping[str, int],
) -> Duration | None:
    """Estimate the time of all answers; None if a model's size or its device is not known.

    Args:
        models: Those that are loaded here.
        systems: All systems; questions that are answered already take no time.
        num_prompts: Questions of the general suite, for each model.
        batch_size: Prompts answered together.
        loading: Where models are loaded.
        concurrency: Endpoint -> requests at a time.
    """
    pending = {plan.name: plan for plan in systems if plan.num_questions}
    parts: list[Part] = [(1, START_SECONDS)]
    if any(plan.kind not in {"model", "endpoint"} for plan in pending.values()):
        parts.append((1, SIMPLE_SECONDS))
    parts += [
        (-(-pending[name].num_questions // at_once), CALL_SECONDS)
        for name, at_once in concurrency.items()
        if name in pending
    ]
    for name, source in models.by_name.items():
        plan, size = pending.get(name), weight_bytes(source)
        tokens = num_prompts * NEW_TOKENS
        tokens += plan.num_questions * plan.max_new_tokens if plan else 0
        rates = estimates.token_seconds(size or 0, _place(loading), batch_size)
        if size is None or rates is None:
            return None
        seconds = tokens * rates[0] + (plan.estimated_input_tokens * rates[1] if plan else 0.0)
        parts += [(1, LOAD_SECONDS), (seconds, OFF)] if tokens else []
    return estimates.duration(parts, "the table of rates, without lm-eval tasks")


def _place(loading: LoadPlan | None) -> str:
    if loading is None or loading.on_cpu:
        return estimates.CPU
    return estimates.MLX if loading.on_mlx else first_card(loading.device)
