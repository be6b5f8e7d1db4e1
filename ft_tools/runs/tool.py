"""get_run, cancel_run and resume_run."""

import contextlib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ft_tools.contract import NextStep
from ft_tools.errors import BadData
from ft_tools.runs.processes import endings, process_tree
from ft_tools.runs.processes.start import adopt, supervise
from ft_tools.runs.report import RunLine, RunList, RunReport
from ft_tools.runs.request import CancelRequest, ResumeRequest, RunRequest
from ft_tools.runs.state import directory, ranks
from ft_tools.runs.state.log import log_tail
from ft_tools.runs.state.records import ENDED, Kind, State, Status, Why
from ft_tools.runs.state.run_state import (
    moved_from,
    read_result,
    settled,
    shown_events,
    with_place,
)
from ft_tools.runs.state.training_run import evaluations, held_out_file, plan_settings

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
TRAINED: frozenset[Kind] = frozenset({"sft", "dpo", "kto"})
DERIVED_REASONS: dict[State, Why] = {"interrupted": "crash", "cancelled": "user"}


def get_run(request: RunRequest) -> RunReport | RunList:
    """Read a run's directory, or list the runs of this workspace.

    Raises:
        NotFound: There is no such run.
        BadData: Its run.json is damaged.
    """
    if request.run_id:
        return read_run(request.run_id, request.log_lines, request.events_after)
    found = directory.all_runs()
    page = found[request.offset : request.offset + request.limit]
    return RunList(
        runs=[_line(run_dir) for run_dir in page],
        total=len(found),
        has_more=request.offset + len(page) < len(found),
    )


def read_run(run_id: str, log_lines: int = 0, events_after: int | None = None) -> RunReport:
    """Read a run's directory.

    Raises:
        NotFound: There is no such run.
        BadData: Its run.json is damaged.
    """
    run_dir = directory.find(run_id)
    info = directory.read_info(run_dir)
    status, state = settled(run_dir)
    result, damage = read_result(run_dir) if state == "succeeded" else (None, [])
    place = moved_from(run_dir, status)
    made = {"artifacts": [a.model_dump() for a in status.artifacts], "result": result}
    page = run_dir / "report.html"
    if info.kind in TRAINED:
        made |= {"evaluations": evaluations(run_dir), "settings": plan_settings(run_dir)}
    return RunReport(
        **status.model_dump(include=set(RunReport.model_fields) & set(Status.model_fields))
        | {
            "state": state,
            "reason": status.reason or DERIVED_REASONS.get(state),
            "error": status.error or endings.unrecorded(state),
            "health": [*status.health, *damage],
        }
        | (with_place(made, place, str(run_dir)) if place else made),
        run_id=run_dir.name,
        kind=info.kind,
        name=info.name,
        report_html=str(page) if page.exists() else None,
        events=shown_events(run_dir, events_after),
        log_tail=log_tail(run_dir, log_lines),
        attempts=status.attempt,
        lineage=info.lineage,
        created_at=info.created_at,
        resumable=state in {"interrupted", "cancelling", "cancelled", "failed"}
        and not ranks.has_job(run_dir)
        and not endings.is_final(status),
        next_steps=[
            *(_proposed(result) if info.kind in TRAINED else []),
            *_next_steps(run_dir, info.kind, state, final=endings.is_final(status)),
        ],
    )


def cancel_run(request: CancelRequest) -> RunReport:
    """Ask a run to save and stop.

    Raises:
        NotFound: There is no such run.
        DiskFull: The disk has no room for the sign of a cancel.
    """
    run_dir = directory.find(request.run_id)
    now = read_run(request.run_id)
    if now.state not in ENDED or ranks.has_job(run_dir):
        if directory.mark_cancel(run_dir):
            directory.add_event(run_dir, "cancel requested")
    elif not process_tree.is_remembered(run_dir):
        return now
    # Also after an end: a supervisor that was killed has left the worker's children alone.
    adopt(run_dir)
    return read_run(request.run_id)


def resume_run(request: ResumeRequest) -> RunReport:
    """Continue a run.

    Raises:
        NotFound: There is no such run.
        Refused: It has succeeded already.
        RunBusy: It is still running.
        DiskFull: There is no space for its own files.
    """
    run_dir = directory.find(request.run_id)
    directory.read_info(run_dir)
    if ranks.has_job(run_dir):
        # Its scheduler has the job still: it only needs somebody who looks after it again.
        adopt(run_dir)
    else:
        supervise(run_dir)
    return read_run(request.run_id)


def _line(run_dir: Path) -> RunLine:
    status, state = settled(run_dir)
    fraction = status.progress.fraction if status.progress else None
    about = {"run_id": run_dir.name, "state": state, "fraction": fraction}
    try:
        info = directory.read_info(run_dir)
    except BadData:
        # One damaged folder must not hide the others; get_run says what is wrong with it.
        about |= {"kind": run_dir.name.rpartition("-")[0], "name": "(damaged run.json)"}
        about |= {"state": "failed", "created_at": run_dir.stat().st_mtime}
        return RunLine.model_validate(about)
    about |= {"kind": info.kind, "name": info.name, "created_at": info.created_at}
    return RunLine.model_validate(about)


def _proposed(result: dict[str, Any] | None) -> list[NextStep]:
    """Return the calls that a finished run's report proposes."""
    found = (result or {}).get("next_steps")
    with contextlib.suppress(ValidationError):
        return [NextStep.model_validate(step) for step in found or ()]
    return []


def _next_steps(run_dir: Path, kind: Kind, state: State, *, final: bool) -> list[NextStep]:
    run_id = run_dir.name
    if state == "failed" and final:
        return _plan_again(run_dir, kind)
    if state == "interrupted" and ranks.has_job(run_dir):
        why = "the scheduler still has its job and may restart it"
        return [NextStep(tool="get_run", arguments={"run_id": run_id}, why=why)]
    if state in {"interrupted", "failed", "cancelled"}:
        why = _resumed_from(run_dir, kind)
        if state != "cancelled":
            why += ", with the same settings: fix the cause first, unless it was a restart"
        return [NextStep(tool="resume_run", arguments={"run_id": run_id}, why=why)]
    if state == "succeeded" and kind in TRAINED:
        return [_measure(run_dir)]
    if state == "stalled":
        why = "it has stopped responding: stop it, then continue it with resume_run"
        return [NextStep(tool="cancel_run", arguments={"run_id": run_id}, why=why)]
    if state not in ENDED:
        why = "shows the progress; poll at most once a minute"
        if state == "cancelling":
            why = "shows when it has stopped; resume_run can continue it then"
        return [NextStep(tool="get_run", arguments={"run_id": run_id}, why=why)]
    return []


def _measure(run_dir: Path) -> NextStep:
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


def _plan_again(run_dir: Path, kind: Kind) -> list[NextStep]:
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
