"""The calls that follow from a plan for elsewhere, and from what a training run has shown."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ft_tools import workspace
from ft_tools.contract import NextStep
from ft_tools.lora.data_shape import rounded_length
from ft_tools.models import model_folder
from ft_tools.runs.launch import Launch
from ft_tools.runs.state.training_run import ADD_ROWS, unseen_file
from ft_tools.training.exports.script import TRAINED
from ft_tools.training.plan import TrainingPlan
from ft_tools.training.report import Diagnosis
from ft_tools.training.request import TrainingRequest

KEPT = ("model", "sft_run", "method", "engine", "peft", "backend", "backend_options",
        "accept_findings", "accept_reason")  # fmt: skip
"""Of the run's request: what trains the same again."""
ELSEWHERE = ("backend", "backend_options")
"""What a run that is trained further does not take from the earlier one by itself."""


def next_steps(
    found: Sequence[Diagnosis], plan: TrainingPlan, asked: Mapping[str, Any], run_id: str
) -> list[NextStep]:
    """Return the calls that follow from the findings, and from rows that were cut.

    Args:
        found: The findings.
        plan: Of the run.
        asked: The run's request.
        run_id: The run.
    """
    return [
        *(_next_call(one, plan, asked, run_id) for one in found),
        *_steps_for_cut_rows(plan, asked),
    ]


def _next_call(
    one: Diagnosis, plan: TrainingPlan, asked: Mapping[str, Any], run_id: str
) -> NextStep:
    why = f"{one.id}: {one.advice}"
    if one.continues:
        arguments: dict[str, Any] = {"from_run": run_id, "training": one.training}
        if asked.get("backend", "local") != "local" or asked.get("backend_options"):
            arguments |= {name: asked[name] for name in ELSEWHERE if asked.get(name)}
        return NextStep(tool="launch_sft", arguments=arguments, why=why)
    if one.id == "noise":
        return NextStep(tool="audit_dataset", arguments={"path": plan.dataset.path}, why=why)
    if one.id == "nothing_to_learn":
        rows = (plan.validation or plan.dataset).path
        measured = {"model": plan.model.name, "dataset": rows}
        return NextStep(tool="evaluate", arguments=measured, why=why)
    return _again(plan, asked, one.training, why)


def _again(
    plan: TrainingPlan, asked: Mapping[str, Any], training: Mapping[str, Any], why: str
) -> NextStep:
    """Return the same launch with some arguments of its trainer changed."""
    changed = {**asked.get("training", {}), **training}
    arguments = {name: asked[name] for name in KEPT if asked.get(name)}
    arguments["dataset"] = plan.dataset.path
    if plan.validation is not None:
        arguments["validation"] = plan.validation.path
    arguments["training"] = {name: value for name, value in changed.items() if value is not None}
    tool = "launch_sft" if plan.task == "sft" else "launch_dpo"
    return NextStep(tool=tool, arguments=arguments, why=why)


def _steps_for_cut_rows(plan: TrainingPlan, asked: Mapping[str, Any]) -> list[NextStep]:
    """Return the call that cuts no row, or the one that lists those too long for the model."""
    length = plan.training.get("max_length")
    if plan.counts is None or not plan.counts.data.num_truncated or length is None:
        return []
    longest, folder = plan.counts.lengths.longest_tokens, Path(plan.model.load_from)
    limit = model_folder.max_positions(folder) if folder.is_dir() else None
    if limit is None or longest <= limit:
        whole = rounded_length(longest, limit or longest)
        why = f"rows_cut: at max_length {whole} every answer is trained to its end"
        return [_again(plan, asked, {"max_length": whole}, why)]
    arguments = {"path": plan.dataset.path, "model": plan.model.name, "max_length": length}
    why = f"rows_cut: finds the rows that are longer than the model's {limit} positions"
    return [NextStep(tool="audit_dataset", arguments=arguments, why=why)]


def after_export_plan(found: Launch, plan: TrainingPlan, request: TrainingRequest) -> NextStep:
    """Return the call that exports a plan for elsewhere, or that measures what it trained there."""
    elsewhere = plan.place.exported_for
    if request.export_dir is not None:
        trained = f"{request.export_dir}/{TRAINED}"
        measured = {"model": trained, "baseline": plan.model.name}
        asked = workspace.existing(request.dataset or plan.dataset.path)
        chosen_on = [workspace.existing(request.validation)] if request.validation else []
        if plan.task != "dpo" and (test := unseen_file([asked], chosen_on)):
            measured["dataset"] = str(test)
        why = (
            f"measures the result beside its base, here or where it was trained: copy the folder "
            f"to {elsewhere}, install what train.py names in its first lines, run python train.py "
            f"in it, and copy {TRAINED} back"
        )
        why += "" if "dataset" in measured else f"; {ADD_ROWS}"
        return NextStep(tool="evaluate", arguments=measured, why=why)
    (confirming,) = found.next_steps
    given = {k: v for k, v in confirming.arguments.items() if k != "confirm"}
    given["export_dir"] = f"export-{found.plan_hash}"
    why = f"writes what trains this plan on {elsewhere}"
    return confirming.model_copy(update={"arguments": given, "why": why})
