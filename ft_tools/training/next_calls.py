"""The calls that follow from what a training run has shown, with their changed arguments."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ft_tools.contract import NextStep
from ft_tools.lora.data_shape import rounded_length
from ft_tools.models import model_folder
from ft_tools.training.plan import TrainingPlan
from ft_tools.training.report import Diagnosis

KEPT = ("model", "sft_run", "method", "engine", "peft", "backend", "backend_options",
        "accept_findings", "accept_reason")  # fmt: skip
"""Of the run's request: what trains the same again."""
ELSEWHERE = ("backend", "backend_options")
"""What a run that is trained further does not take from the earlier one by itself."""


def next_calls(
    found: Sequence[Diagnosis], plan: TrainingPlan, asked: Mapping[str, Any], run_id: str
) -> list[NextStep]:
    """Return the calls that follow from the findings, and from rows that were cut.

    Args:
        found: The findings.
        plan: Of the run.
        asked: The run's request.
        run_id: The run.
    """
    return [*(_next_call(one, plan, asked, run_id) for one in found), *_about_cut(plan, asked)]


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


def _about_cut(plan: TrainingPlan, asked: Mapping[str, Any]) -> list[NextStep]:
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
