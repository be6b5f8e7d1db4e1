"""evaluate: plan a comparison of two models, and start it when the plan is confirmed."""

from ft_tools.contract import NextStep
from ft_tools.evaluation.plan import make_plan
from ft_tools.evaluation.request import EvaluateRequest
from ft_tools.evaluation.systems.models import find_baseline
from ft_tools.models.resolve import resolve_model
from ft_tools.runs.plan import Launch, plan_hash, require_same
from ft_tools.runs.start import start


def evaluate(request: EvaluateRequest) -> Launch:
    """Compare a tuned model with its baseline on held-out examples.

    Without `confirm` the plan is returned: counts, metrics and why, contamination, the smallest
    change that this many examples can detect. With it the run starts.

    Raises:
        BadData: A held-out line has no reference, or cannot be read.
        BadInput: A task path is not a folder or lacks a task, a model folder has no weights, or a
            chat template is requested and there is none.
        NotFound: A model is neither on this machine nor on the Hub.
        Refused: Held-out examples were trained on, and this was not accepted.
        PlanChanged: `confirm` belongs to another plan.
        MissingExtra: A package that this evaluation needs is not installed.
    """
    tuned = resolve_model(request.model)
    baseline = find_baseline(tuned, request.baseline)
    plan = make_plan(request, tuned, baseline)
    launch = Launch(
        plan_hash=plan_hash(plan),
        plan=plan.model_dump(mode="json"),
        warnings=[*([plan.size_warning] if plan.size_warning else []), *plan.warnings],
    )
    if request.confirm is None:
        arguments = request.model_dump(exclude_defaults=True) | {"confirm": launch.plan_hash}
        step = NextStep(tool="evaluate", arguments=arguments, why="Starts exactly this plan.")
        return launch.model_copy(update={"next_steps": [step]})
    require_same(request.confirm, plan)
    lineage = {"model": request.model, "baseline": baseline.name}
    if tuned.run_id:
        lineage["parent_run"] = tuned.run_id
    if plan.dataset:
        lineage["dataset"] = plan.dataset
    run_id = start(
        "evaluate",
        request,
        plan,
        request_id=request.request_id,
        name=request.name,
        lineage=lineage,
    )
    step = NextStep(tool="get_run", arguments={"run_id": run_id}, why="Shows its progress.")
    return launch.model_copy(update={"started": True, "run_id": run_id, "next_steps": [step]})
