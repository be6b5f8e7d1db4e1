"""launch_sft, launch_dpo and launch_grpo: a plan; once it is confirmed, a run."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ft_tools import workspace
from ft_tools.advice.launches import LaunchAdvice, require_advised
from ft_tools.contract import NextStep
from ft_tools.errors import Missing
from ft_tools.formats.origin import describe_made
from ft_tools.formats.training_rows import task_of
from ft_tools.formats.trl_formats import Task
from ft_tools.next_steps import launch_tool, next_step
from ft_tools.runs.launch import Launch, launch, require_same
from ft_tools.runs.processes import start
from ft_tools.runs.state import directory
from ft_tools.runs.state.records import State
from ft_tools.runs.state.training_run import unseen_file
from ft_tools.training import arguments
from ft_tools.training.checks import data_quality
from ft_tools.training.checks.engine import require_machine
from ft_tools.training.exports.export import export
from ft_tools.training.exports.script import TRAINED
from ft_tools.training.findings import refusal, warning
from ft_tools.training.grpo import probe
from ft_tools.training.grpo.plan import GrpoPlan, plan_grpo
from ft_tools.training.grpo.request import GrpoRequest
from ft_tools.training.plan import plan_dpo, plan_kto, plan_sft
from ft_tools.training.request import DpoRequest, SftRequest, TrainingRequest
from ft_tools.training.train_further import continued
from ft_tools.training.training_plan import Estimate, TrainingPlan

UNDER_WAY: frozenset[State] = frozenset({"validating", "queued", "running", "stalled"})
"""States of a probe whose result is waited for."""


def launch_sft(request: SftRequest) -> Launch:
    """Plan a supervised fine-tuning run, or start the confirmed plan.

    Raises:
        FineTuningError: A check refused it, or an argument, file or model cannot be used.
    """
    _require_usable(request)
    arguments.require_known("sft", request.training)
    request = continued(request)
    # The earlier run's engine may not train where this one is asked to.
    require_machine(request)
    advised = _advised("sft", request)
    return _launch("sft", request, plan_sft(request), advised)


def launch_dpo(request: DpoRequest) -> Launch:
    """Plan a preference run, or start the confirmed plan.

    Raises:
        FineTuningError: A check refused it, or an argument, file or model cannot be used.
    """
    _require_usable(request)
    if _has_marks(request):
        arguments.require_known("kto", request.training)
        advised = _advised("kto", request)
        return _launch("kto", request, plan_kto(request), advised)
    listed, loss = request, request.training.get("loss_type")
    if isinstance(loss, str):
        # As DPOConfig makes it.
        listed = request.model_copy(update={"training": {**request.training, "loss_type": [loss]}})
    arguments.require_known("dpo", listed.training)
    advised = _advised("dpo", listed)
    return _launch("dpo", request, plan_dpo(listed), advised)


def launch_grpo(request: GrpoRequest) -> Launch:
    """Plan a reinforcement run, or start the confirmed plan; measure the model first.

    Raises:
        FineTuningError: A check refused it, or an argument, file, reward or model cannot be used.
    """
    _require_usable(request)
    arguments.require_known("grpo", request.training)
    if request.export_dir is not None or request.backend_options.get("gpu"):
        raise refusal("grpo_not_exported")
    advised = _advised("grpo", request)
    plan = plan_grpo(request)
    if request.probe and request.is_here and plan.probe is None and not plan.missing:
        return _probed(request, plan)
    if not request.probe:
        plan = plan.model_copy(update={"warnings": [warning("probe_skipped"), *plan.warnings]})
    return _launch("grpo", request, plan, advised)


def _require_usable(request: TrainingRequest) -> None:
    """Refuse what no launch can use, before anything else is asked of the caller."""
    arguments.require_packages()
    require_machine(request)
    arguments.require_known("lora", request.peft)
    data_quality.require_known(request.accept_findings)


def _probed(request: GrpoRequest, plan: GrpoPlan) -> Launch:
    """Start the probe of a plan, or find the one that is running."""
    known = probe.runs_of(plan.probe_key)
    if known and known[0][1] not in UNDER_WAY:
        raise refusal("probe_ended", run=known[0][0].name, state=known[0][1])
    run_id = known[0][0].name if known else start.start(
        probe.KIND, request, plan, name=request.name, lineage=_lineage(plan), **_where(plan)
    )  # fmt: skip
    limits = {"seconds": probe.SECONDS, "most": probe.MOST_SECONDS, "least": probe.LEAST_PROMPTS}
    told = warning("probe_started", prompts=probe.PROMPTS, **limits)
    step = next_step("poll", {"run_id": run_id})
    shown = plan.model_dump(mode="json", include={"model", "rewards", "reward_test", "estimate"})
    said = f"Measures {plan.model.name} first; the same call returns the plan after that."
    return Launch(
        summary=said, plan_hash="", plan=shown, warnings=[told], run_id=run_id, next_steps=[step]
    )


def _advised(task: Task, request: SftRequest | DpoRequest | GrpoRequest) -> LaunchAdvice | None:
    """Return what the advice says of this launch.

    Raises:
        Refused: By the rule `advised_against`, unless each rule is accepted.
    """
    return require_advised(
        task,
        request.advice,
        request.accept_findings,
        model=request.model,
        dataset=request.dataset,
        from_sft=getattr(request, "sft_run", None) is not None,
    )


def _has_marks(request: DpoRequest) -> bool:
    """Return whether the dataset has marks; its loss has to be one of marks, then."""
    marks = task_of(workspace.existing(request.dataset)) == "kto"
    loss = request.training.get("loss_type")
    known = arguments.choices("kto", "loss_type")
    if loss and (isinstance(loss, str) and loss in known) != marks:
        found, choice = "pairs of answers", "a loss of pairs, such as sigmoid"
        if marks:
            found, choice = "single answers with a label", ", ".join(known)
        fields = {"loss": loss, "dataset": request.dataset}
        raise refusal("loss_of_other_data", **fields, found=found, choice=choice)
    return marks


def _launch(
    kind: Task, request: TrainingRequest, plan: TrainingPlan, advised: LaunchAdvice | None
) -> Launch:
    warnings = plan.warnings if advised else [*plan.warnings, warning("no_advice")]
    warnings = [*_early_end(request.budget_hours, plan.estimate), *warnings]
    plan = plan.model_copy(update={"advice": advised, "warnings": warnings})
    elsewhere = plan.place.exported_for
    if request.confirm is not None and request.export_dir is not None:
        raise refusal("export_and_confirm")
    if request.confirm is not None and elsewhere:
        raise refusal("exported_elsewhere", elsewhere=elsewhere)
    if request.confirm is not None and plan.missing:
        require_same(request, plan)
        raise Missing(f"nothing was started: {'; '.join(plan.missing)}")
    found = launch(
        launch_tool(kind),
        kind,
        request,
        plan,
        warnings=[*plan.missing, *plan.warnings],
        backend=request.backend,
        backend_options=request.backend_options,
        lineage=_lineage(plan),
        **_where(plan),
    )
    if elsewhere:
        found = found.model_copy(update={"next_steps": [_after_export_plan(found, plan, request)]})
    if found.started or request.export_dir is None:
        return found
    exported, notes = export(request.export_dir, plan)
    return found.model_copy(
        update={
            "plan": {**found.plan, "export": exported},
            "warnings": [*found.warnings, *notes],
        }
    )


def _early_end(hours: float | None, estimate: Estimate) -> Iterator[str]:
    """Yield how many of the steps fit into a budget, where not all of them surely do."""
    if hours is None or estimate.duration is None:
        return
    took = estimate.duration.high_seconds, estimate.duration.low_seconds
    least, most = (min(1.0, hours * 3600 / max(seconds, 1e-9)) for seconds in took)
    if least < 1:
        steps = estimate.steps
        fit = {"least": int(least * steps), "most": int(most * steps), "steps": steps}
        yield warning("budget_ends_early", hours=hours, **fit)


def _lineage(plan: TrainingPlan) -> dict[str, str]:
    lineage = {"base_model": plan.model.base_model, "dataset": plan.dataset.path}
    if made := describe_made(Path(plan.dataset.path)):
        lineage["made_rows"] = made
    if directory.RUN_ID.fullmatch(plan.model.name):
        lineage["parent_run"] = plan.model.name
    return lineage


def _where(plan: TrainingPlan) -> dict[str, Any]:
    """Return the device of the run, and the slots it waits for here; a scheduler has its own."""
    is_local, cards = plan.place.backend == "local", plan.device.cards
    names = cards or ["cpu"] if is_local else []
    count = plan.place.processes if cards or not is_local else 1
    return {"device": plan.device.name, "slots": names, "num_slots": count}


def _after_export_plan(found: Launch, plan: TrainingPlan, request: TrainingRequest) -> NextStep:
    """Return the call that exports a plan for elsewhere, or that measures what it trained there."""
    place = plan.place.exported_for
    if request.export_dir is None:
        (confirming,) = found.next_steps
        given = {k: v for k, v in confirming.arguments.items() if k != "confirm"}
        given["export_dir"] = f"export-{found.plan_hash}"
        return next_step("export", given, tool=confirming.tool, place=place)
    asked = workspace.existing(request.dataset or plan.dataset.path)
    chosen_on = [workspace.existing(request.validation)] if request.validation else []
    test = None if plan.task == "dpo" else unseen_file([asked], chosen_on)
    measured = {
        "model": f"{request.export_dir}/{TRAINED}",
        "baseline": plan.model.name,
        "dataset": str(test or ""),
    }
    also = "" if test else "add_rows"
    return next_step("measure_elsewhere", measured, also, place=place, trained=TRAINED)
