"""The files of a run directory and how they are read and written.

run.json        RunInfo, written once          status.json     Status, replaced atomically
request.json    the request, written once      events.jsonl    RunEvent lines
plan.json       the plan, written once         metrics.jsonl   {"step": .., "loss": ..} lines
report.json, report.html, artifacts/, checkpoints/             log.txt   stdout and stderr
owner.lock, supervisor.lock, worker.lock                       see `locks`
job.json        the job that has the run       job.*           what was submitted to a scheduler
reserve         room for an end on a full disk
cancel, preempt, again, out_of_memory                          see `Sign`
"""

import contextlib
import json
import os
import re
import shutil
import time
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import ValidationError

from ft_tools import workspace
from ft_tools.errors import BadData, BadInput, DiskFull, NotFound, brief
from ft_tools.publish import (
    STAGING,
    append_line,
    disk_full_is_named,
    read_rows,
    whole_lines,
    write_file,
)
from ft_tools.runs.state.records import Kind, RunEvent, RunInfo, Status, run_error

RUN_ID = re.compile(rf"(?:{'|'.join(get_args(Kind))})-[0-9a-f]{{16}}")
RESERVE_BYTES = 64 * 1024
UNREADABLE = "unreadable_status"
JOB = "job.json"
Sign = Literal["cancel", "preempt", "again", "out_of_memory"]
"""Empty files: a cancel was asked; all ranks are to save and stop; a rank asks for fresh processes,
what they do differently is written down already; memory ended in any rank, rank 0 may learn of it
only by being ended."""


def find(run_id: str) -> Path:
    """Return the directory of a run.

    Raises:
        BadInput: It is not a run id.
        NotFound: There is no such run.
    """
    if not RUN_ID.fullmatch(run_id):
        raise BadInput(
            f"{brief(repr(run_id))} is not a run id (kind-16 hex digits); get_run lists them"
        )
    run_dir = workspace.runs_dir() / run_id
    if run_dir.is_symlink() or not (run_dir / "run.json").is_file():
        raise NotFound(f"no run {run_id!r} in {workspace.runs_dir()}; get_run lists them")
    return run_dir


def all_runs() -> list[Path]:
    """Return every run directory of the workspace, newest first.

    Raises:
        PermissionError: This user may not read the folder of the runs.
    """
    runs, found = workspace.runs_dir(), []
    for name in os.listdir(runs) if runs.exists() else ():
        if not RUN_ID.fullmatch(name) or (runs / name).is_symlink():
            continue
        # Without a run.json it is no run, and another user's is not shown.
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            found.append(((runs / name / "run.json").stat().st_mtime_ns, runs / name))
    return [run_dir for _, run_dir in sorted(found, reverse=True)]


def read_info(run_dir: Path) -> RunInfo:
    """Read run.json.

    Raises:
        BadData: It is damaged.
    """
    path = run_dir / "run.json"
    try:
        return RunInfo.model_validate_json(path.read_bytes())
    except (ValidationError, OSError) as error:
        cure = "restore it, or remove the run's folder and start the run again"
        raise BadData(path, f"is damaged ({type(error).__name__})", cure) from error


def read_status(run_dir: Path) -> Status:
    """Read status.json; a run that has none yet is queued, a damaged one says so in its error."""
    try:
        return Status.model_validate_json((run_dir / "status.json").read_bytes())
    except FileNotFoundError:
        return Status(state="queued")
    except (ValidationError, OSError):
        return Status(state="interrupted", reason="crash", error=run_error(UNREADABLE))


def write_status(run_dir: Path, status: Status) -> Status:
    """Replace status.json; only a process that holds the run's lock may call this.

    Raises:
        DiskFull: It cannot be written; the old one is intact.
    """
    now = {"updated_at": time.time(), "heartbeat": time.monotonic()}
    stamped = status.model_copy(update=now)
    write_file(run_dir / "status.json", stamped.model_dump_json(indent=1))
    return stamped


def update_status(run_dir: Path, **fields: object) -> None:
    """Replace fields of status.json; as `write_status`."""
    write_status(run_dir, read_status(run_dir).model_copy(update=fields))


def has(run_dir: Path, sign: Sign) -> bool:
    """Return whether a run has a sign."""
    return (run_dir / sign).exists()


def mark(run_dir: Path, sign: Sign) -> bool:
    """Leave a sign; returns False when it was there already.

    Raises:
        DiskFull: It cannot be made.
    """
    with disk_full_is_named(run_dir / sign):
        try:
            (run_dir / sign).touch(mode=0o600, exist_ok=False)
        except FileExistsError:
            return False
    return True


def clear_signs(run_dir: Path) -> None:
    """Begin an attempt without what was asked of, or happened to, the one before it."""
    for sign in get_args(Sign):
        if sign != "cancel":
            (run_dir / sign).unlink(missing_ok=True)


def has_job(run_dir: Path) -> bool:
    """Return whether a scheduler has a job of this run, as far as is known."""
    return (run_dir / JOB).exists()


def read_token(run_dir: Path) -> str:
    """Return the token of the job that the run was given to last; empty when there is none."""
    return str(whole_json(run_dir / JOB).get("token", ""))


def reserve_space(run_dir: Path) -> None:
    """Set aside space that `free_reserve` gives back when the disk is full."""
    if not (run_dir / "reserve").exists():
        # Random bytes: a file system that compresses would reserve nothing for zeros.
        write_file(run_dir / "reserve", os.urandom(RESERVE_BYTES))


def free_reserve(run_dir: Path) -> None:
    """Make room for the last words of a run on a full disk."""
    with contextlib.suppress(OSError):
        (run_dir / "reserve").unlink(missing_ok=True)


def sweep_leftovers(run_dir: Path) -> None:
    """Remove what killed writers of this run left; only for who holds its lock, alone."""
    for folder in (run_dir, run_dir / "artifacts", run_dir / "checkpoints"):
        for path in () if folder.is_symlink() else list(folder.glob(f"{STAGING}*")):
            with contextlib.suppress(OSError):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()


def add_event(run_dir: Path, message: str, level: str = "info") -> None:
    """Append an event.

    Its number is its place in the file, so writers in several processes cannot collide.

    Raises:
        DiskFull: It cannot be written.
    """
    event = {"at": time.time(), "level": level, "message": message}
    append_line(run_dir / "events.jsonl", json.dumps(event))


def note(run_dir: Path, message: str, level: str = "info") -> None:
    """Append an event if that is possible: looking after the run matters more."""
    with contextlib.suppress(DiskFull):
        add_event(run_dir, message, level)


def read_events(run_dir: Path, after: int = 0) -> list[RunEvent]:
    """Return the events with a sequence number above `after`; torn lines are dropped."""
    events = []
    for seq, line in enumerate(whole_lines(run_dir / "events.jsonl"), start=1):
        if seq > after:
            with contextlib.suppress(ValueError, TypeError, RecursionError):
                events.append(RunEvent.model_validate(json.loads(line) | {"seq": seq}))
    return events


def read_metrics(run_dir: Path) -> list[dict[str, float]]:
    """Return the lines of metrics.jsonl, oldest first; torn lines are dropped."""
    return read_rows(run_dir / "metrics.jsonl")


def read_json(path: Path) -> dict[str, Any] | None:
    """Read a JSON object; None when the file is not there.

    Raises:
        BadData: It is damaged.
    """
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        cure = "restore it, or run it again under a new request_id"
        raise BadData(path, "is damaged", cure) from error
    return value if isinstance(value, dict) else None


def whole_json(path: Path) -> dict[str, Any]:
    """Return a JSON object; empty where the file is not there or damaged."""
    try:
        return read_json(path) or {}
    except BadData:
        return {}


def plan_of(run_id: str | None) -> dict[str, Any]:
    """Return the plan of a run; empty without a run, or where it has none.

    Raises:
        NotFound: There is no such run.
        BadData: Its plan is damaged.
    """
    return (read_json(find(run_id) / "plan.json") or {}) if run_id is not None else {}
