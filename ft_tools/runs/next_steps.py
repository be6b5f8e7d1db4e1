"""The calls that follow from the state of a run."""

import contextlib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ft_tools.contract import NextStep
from ft_tools.next_steps import next_step
from ft_tools.runs.kinds import KINDS
from ft_tools.runs.state import directory
from ft_tools.runs.state.records import ENDED, TRAINED, Kind, State, Status, Why
from ft_tools.runs.state.training_run import held_out_file

NOT_ASKED_AGAIN = {"confirm", "request_id", "export_dir"}
"""Of a request: they belong to the one plan and run that were made from it."""
ALSO: dict[tuple[bool, Why | None], str] = {
    (True, "budget"): "same_hours",
    (False, "budget"): "same_hours",
    (True, "out_of_memory"): "half_batch",
}
"""Whether a run trains, and why it ended -> with what it is resumed."""
WAITING: dict[State, str] = {"stalled": "stop_stalled", "cancelling": "wait_for_stop"}


def next_steps(
    run_dir: Path, kind: Kind, status: Status, result: dict[str, Any] | None
) -> list[NextStep]:
    """Return the calls that follow from a settled status, and from a finished run's report."""
    state = status.state
    if state == "succeeded":
        return [*_proposed(result), *([_measured(run_dir)] if kind in TRAINED else [])]
    if state == "failed" and status.is_final:
        arguments = _asked(run_dir)
        tool = KINDS[kind].tool if kind in KINDS else ""
        return [next_step("plan_again", arguments, tool=tool)] if tool else []
    step, also = WAITING.get(state, "poll"), ""
    if state == "interrupted" and directory.has_job(run_dir):
        step = "wait_for_scheduler"
    elif state in ENDED:
        step = _resumed_from(run_dir, kind)
        also = ALSO.get((kind in TRAINED, status.reason), "fix_first")
        also = also if state != "cancelled" else ""
    return [next_step(step, {"run_id": run_dir.name}, also)]


def _proposed(result: dict[str, Any] | None) -> list[NextStep]:
    """Return the calls that a finished run's report proposes."""
    found = (result or {}).get("next_steps")
    with contextlib.suppress(ValidationError):
        return [NextStep.model_validate(step) for step in found or ()]
    return []


def _measured(run_dir: Path) -> NextStep:
    """Return the call that compares a result with its base model, on held-out rows if known."""
    dataset, about = held_out_file(run_dir)
    arguments: dict[str, Any] = {"model": run_dir.name, "dataset": dataset}
    step = "measure_trained"
    if rewards := directory.whole_json(run_dir / "plan.json").get("rewards"):
        step, arguments["metrics"], arguments["checks"] = "measure_rewarded", ["checks"], rewards
    return next_step(step, arguments, "" if dataset else "add_rows", about=about and f"; {about}")


def _resumed_from(run_dir: Path, kind: Kind) -> str:
    """Return the row of where another attempt begins."""
    if kind not in TRAINED:
        return "resume"
    has_one = any(path.is_dir() for path in (run_dir / "checkpoints").glob("*"))
    return "resume_checkpoint" if has_one else "resume_start"


def _asked(run_dir: Path) -> dict[str, Any]:
    """Return what a run was asked for, to plan the same work anew."""
    asked = directory.whole_json(run_dir / "request.json")
    return {k: v for k, v in asked.items() if k not in NOT_ASKED_AGAIN and v not in ([], {})}
