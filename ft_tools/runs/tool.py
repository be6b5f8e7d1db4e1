"""get_run, cancel_run and resume_run."""

from pathlib import Path
from typing import Any

from ft_tools.errors import BadData
from ft_tools.runs.ledger import spent
from ft_tools.runs.next_steps import next_steps
from ft_tools.runs.processes import process_tree
from ft_tools.runs.processes.start import adopt, resume
from ft_tools.runs.report import RunLine, RunList, RunReport
from ft_tools.runs.request import CancelRequest, ResumeRequest, RunRequest
from ft_tools.runs.state import directory
from ft_tools.runs.state.log import log_tail
from ft_tools.runs.state.records import ENDED, TRAINED, Status
from ft_tools.runs.state.run_state import read_result, settled
from ft_tools.runs.state.training_run import evaluations, plan_settings

EVENTS = 20
"""Events in a report: the last ones, or the first after a number."""
MAY_RESUME = frozenset({"interrupted", "cancelling", "cancelled", "failed"})


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
        spent=spent(found),
    )


def read_run(run_id: str, log_lines: int = 0, events_after: int | None = None) -> RunReport:
    """Read a run's directory.

    Raises:
        NotFound: There is no such run.
        BadData: Its run.json is damaged.
    """
    run_dir = directory.find(run_id)
    info = directory.read_info(run_dir)
    status = settled(run_dir)
    result, damage = read_result(run_dir) if status.state == "succeeded" else (None, [])
    page = run_dir / "report.html"
    trained: dict[str, Any] = {}
    if info.kind in TRAINED:
        trained = {"evaluations": evaluations(run_dir), "settings": plan_settings(run_dir)}
    events = directory.read_events(run_dir, events_after or 0)
    has_job = directory.has_job(run_dir)
    return RunReport(
        **status.model_dump(include=set(RunReport.model_fields) & set(Status.model_fields))
        | {"health": [*status.health, *damage]}
        | trained,
        result=result,
        run_id=run_dir.name,
        kind=info.kind,
        name=info.name,
        report_html=str(page) if page.exists() else None,
        events=events[-EVENTS:] if events_after is None else events[:EVENTS],
        log_tail=log_tail(run_dir, log_lines),
        attempts=status.attempt,
        lineage=info.lineage,
        created_at=info.created_at,
        resumable=status.state in MAY_RESUME and not has_job and not status.is_final,
        next_steps=next_steps(run_dir, info.kind, status, result),
    )


def cancel_run(request: CancelRequest) -> RunReport:
    """Ask a run to save and stop.

    Raises:
        NotFound: There is no such run.
        DiskFull: The disk has no room for the sign of a cancel.
    """
    run_dir = directory.find(request.run_id)
    now = read_run(request.run_id)
    if now.state not in ENDED or directory.has_job(run_dir):
        if directory.mark(run_dir, "cancel"):
            directory.add_event(run_dir, "cancel requested")
    elif not process_tree.marked(run_dir):
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
    if directory.has_job(run_dir):
        # Its scheduler has the job still: it only needs somebody who looks after it again.
        adopt(run_dir)
    else:
        resume(run_dir)
    return read_run(request.run_id)


def _line(run_dir: Path) -> RunLine:
    status = settled(run_dir)
    fraction = status.progress.fraction if status.progress else None
    about = {"run_id": run_dir.name, "state": status.state, "fraction": fraction}
    try:
        info = directory.read_info(run_dir)
    except BadData:
        # One damaged folder must not hide the others; get_run says what is wrong with it.
        about |= {"kind": run_dir.name.rpartition("-")[0], "name": "(damaged run.json)"}
        about |= {"state": "failed", "created_at": run_dir.stat().st_mtime}
        return RunLine.model_validate(about)
    about |= {"kind": info.kind, "name": info.name, "created_at": info.created_at}
    return RunLine.model_validate(about)
