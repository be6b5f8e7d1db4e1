"""How long an evaluation takes: what it has to read and to write, at the machine's rates."""

from collections.abc import Mapping

from ft_tools.evaluation.evaluation_plan import EvaluatePlan
from ft_tools.evaluation.request import EvaluateRequest
from ft_tools.evaluation.systems.answers import earlier_runs
from ft_tools.evaluation.systems.models import LoadPlan
from ft_tools.metrics.general import NEW_TOKENS
from ft_tools.models.machine import first_card
from ft_tools.runs import estimates
from ft_tools.runs.estimates import Duration, Part, Range
from ft_tools.runs.state import directory

# Of a process that starts and of a model that is loaded; on one's own machine and on a busy one.
START_SECONDS: Range = (3.0, 15.0)
LOAD_SECONDS: Range = (3.0, 15.0)
# scikit-learn is imported and learns once, whatever the number of questions.
SIMPLE_SECONDS: Range = (2.0, 15.0)
# A hosted API's answer, from a few words to a page.
CALL_SECONDS: Range = (0.3, 10.0)
# Answers may end after a quarter of their longest length; machines differ by twice at least.
OFF: Range = (0.25, 2.0)
# What an earlier run took for the same model, place and batch may be off by this.
MEASURED: Range = (0.75, 1.5)
TABLE = "the table of rates, not measured here: each answer may end early or run to max_new_tokens"


def estimate(
    request: EvaluateRequest, plan: EvaluatePlan, sizes: Mapping[str, int | None]
) -> Duration | None:
    """Estimate the time of all answers; None if a model's size or its device is not known."""
    parts: list[Part] = [(1, START_SECONDS)]
    sources = set[str]()
    loading, prompts = plan.loading, plan.num_general_prompts
    at_once = {one.name: one.endpoint.max_concurrency for one in request.systems if one.endpoint}
    earlier = seconds_of_earlier(plan.batch_size, loading) if sizes else {}
    place = estimates.CPU
    if loading is not None and not loading.on_cpu:
        place = estimates.MLX if loading.on_mlx else first_card(loading.device)
    for one in plan.systems:
        num = one.num_questions
        if one.name in sizes:
            files = one.model.files_sha256 if one.model else ""
            took = earlier.get((files, one.max_new_tokens))
            tokens = prompts * NEW_TOKENS + num * one.max_new_tokens
            size = sizes[one.name] or 0
            rates = estimates.token_seconds(size, place, plan.batch_size)
            if took is not None:
                parts += [((num + prompts) * took, MEASURED)] if tokens else []
                sources.add("earlier runs")
            elif not size or rates is None:
                return None
            elif tokens:
                parts.append((tokens * rates[0] + one.estimated_input_tokens * rates[1], OFF))
                sources.add(TABLE)
            parts += [(1, LOAD_SECONDS)] if tokens else []
        elif num:
            calls = -(-num // at_once[one.name]) if one.name in at_once else 0
            parts.append((calls, CALL_SECONDS) if calls else (1, SIMPLE_SECONDS))
    return estimates.duration(parts, f"{', '.join(sorted(sources)) or TABLE}; lm-eval tasks apart")


def seconds_of_earlier(batch_size: int, loading: LoadPlan | None) -> dict[tuple[str, int], float]:
    """Return what answers took in this place and batch: model's hash, longest answer -> seconds."""
    found: dict[tuple[str, int], float] = {}
    for run_dir in earlier_runs():
        plan, report = (directory.whole_json(run_dir / f"{n}.json") for n in ("plan", "report"))
        place = (plan.get("loading") or {}).get("place")
        if (place, plan.get("batch_size")) != (loading and loading.place, batch_size):
            continue
        took = {one.get("name"): one.get("seconds_mean") for one in report.get("systems") or ()}
        for one in plan.get("systems") or ():
            if one.get("model") and took.get(one.get("name")):
                key = one["model"]["files_sha256"], one.get("max_new_tokens", 0)
                found.setdefault(key, float(took[one["name"]]))
    return found
