"""The calls that follow from the state of a run."""

import contextlib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ft_tools.contract import NextStep
from ft_tools.runs.processes import endings
from ft_tools.runs.state import directory, ranks
from ft_tools.runs.state.records import ENDED, TRAINED, Kind, State, Status
from ft_tools.runs.state.training_run import held_out_file

LAUNCH_TOOLS: dict[Kind, str] = {
    "sft": "launch_sft",
    "dpo": "launch_dpo",
    "kto": "launch_dpo",
    "ship": "merge_and_quantize",
    "evaluate": "evaluate",
    "audit": "audit_dataset",
    "prepare": "prepare_dataset",
}
NOT_ASKED_AGAIN = {"confirm", "request_id", "export_dir"}
"""Of a request: they belong to the one plan and run that were made from it."""
SAME_SETTINGS = ", with the same settings: fix the cause first, unless it was a restart"
POLL = "shows the progress; poll at most once a minute"


def next_steps(
    run_dir: Path, kind: Kind, state: State, status: Status, result: dict[str, Any] | None
) -> list[NextStep]:
    """Return the calls that follow from a run as it is now.

    Args:
        run_dir: The run.
        kind: What it does.
        state: Its state, as a reader sees it.
        status: What it wrote.
        result: The report of a finished one.
    """
    if state == "succeeded":
        return [*_proposed(result), _measured(run_dir)] if kind in TRAINED else []
    if state == "failed" and endings.is_final(status):
        return _planned_again(run_dir, kind)
    tool, why = _call(run_dir, kind, state, status)
    return [NextStep(tool=tool, arguments={"run_id": run_dir.name}, why=why)]


def _call(run_dir: Path, kind: Kind, state: State, status: Status) -> tuple[str, str]:
    """Return the tool that follows, and why."""
    if state == "interrupted" and ranks.has_job(run_dir):
        return "get_run", "the scheduler still has its job and may restart it"
    if state in ENDED:
        why = _resumed_from(run_dir, kind)
        if status.reason == "budget":
            return "resume_run", f"{why}, for as many hours again"
        return "resume_run", why if state == "cancelled" else why + SAME_SETTINGS
    if state == "stalled":
        return "cancel_run", "it has stopped responding: stop it, then continue it with resume_run"
    if state == "cancelling":
        return "get_run", "shows when it has stopped; resume_run can continue it then"
    return "get_run", POLL


def _proposed(result: dict[str, Any] | None) -> list[NextStep]:
    """Return the calls that a finished run's report proposes."""
    found = (result or {}).get("next_steps")
    with contextlib.suppress(ValidationError):
        return [NextStep.model_validate(step) for step in found or ()]
    return []


def _measured(run_dir: Path) -> NextStep:
    """Return the call that compares a result with its base model, on held-out rows if known."""
    dataset, about = held_out_file(run_dir)
    why = f"compares it with its base model on held-out examples; {about}"
    arguments = {"model": run_dir.name} | ({"dataset": dataset} if dataset else {})
    return NextStep(tool="evaluate", arguments=arguments, why=why)


def _resumed_from(run_dir: Path, kind: Kind) -> str:
    """Return where another attempt begins."""
    if kind not in TRAINED:
        return "continues with what is already done"
    if any(path.is_dir() for path in (run_dir / "checkpoints").glob("*")):
        return "continues from the last valid checkpoint"
    return "starts again at step 0, because no checkpoint was saved"


def _planned_again(run_dir: Path, kind: Kind) -> list[NextStep]:
    """Return the call that plans the same work anew: another attempt would meet the same end."""
    asked = directory.whole_json(run_dir / "request.json")
    arguments = {
        name: value
        for name, value in asked.items()
        if name not in NOT_ASKED_AGAIN and value not in (None, "", [], {})
    }
    why = "another attempt would fail in the same way: fix what the error names, then plan again"
    tool = LAUNCH_TOOLS.get(kind)
    return [NextStep(tool=tool, arguments=arguments, why=why)] if tool else []
