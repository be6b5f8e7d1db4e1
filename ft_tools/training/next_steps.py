"""The calls that follow from a plan for elsewhere, and from what a training run has shown."""

from collections.abc import Mapping, Sequence
from typing import Any

from ft_tools import workspace
from ft_tools.contract import NextStep
from ft_tools.next_steps import launch_tool, next_step
from ft_tools.runs.launch import Launch
from ft_tools.runs.state.training_run import unseen_file
from ft_tools.training.exports.script import TRAINED
from ft_tools.training.report import Diagnosis
from ft_tools.training.request import TrainingRequest
from ft_tools.training.training_plan import TrainingPlan

KEPT = ("model", "sft_run", "method", "engine", "peft", "backend", "backend_options",
        "accept_findings", "accept_reason")  # fmt: skip
"""Of the run's request: what trains the same again."""
ELSEWHERE = ("backend", "backend_options")
"""What a run that is trained further does not take from the earlier one by itself."""


def next_steps(
    found: Sequence[Diagnosis], plan: TrainingPlan, asked: Mapping[str, Any], run_id: str
) -> list[NextStep]:
    """Return the calls that follow from the findings."""
    return [_next_call(one, plan, asked, run_id) for one in found]


def _next_call(
    one: Diagnosis, plan: TrainingPlan, asked: Mapping[str, Any], run_id: str
) -> NextStep:
    tool, arguments = launch_tool(plan.task), _again(plan, asked, one.training)
    if one.continues:
        arguments = {"from_run": run_id, "training": one.training}
        if asked.get("backend", "local") != "local" or asked.get("backend_options"):
            arguments |= {name: asked[name] for name in ELSEWHERE if asked.get(name)}
    elif one.id == "noise":
        tool, arguments = "audit_dataset", {"path": plan.dataset.path}
    elif one.id == "nothing_to_learn":
        rows = (plan.validation or plan.dataset).path
        tool, arguments = "evaluate", {"model": plan.model.name, "dataset": rows}
    return next_step("diagnosed", arguments, tool=tool, id=one.id, advice=one.advice)


def _again(
    plan: TrainingPlan, asked: Mapping[str, Any], training: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the arguments of the same launch with some of its trainer's changed."""
    changed = {**asked.get("training", {}), **training}
    return {
        **{name: asked[name] for name in KEPT if asked.get(name)},
        "dataset": plan.dataset.path,
        "validation": plan.validation.path if plan.validation else None,
        "training": {name: value for name, value in changed.items() if value is not None},
    }


def after_export_plan(found: Launch, plan: TrainingPlan, request: TrainingRequest) -> NextStep:
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
