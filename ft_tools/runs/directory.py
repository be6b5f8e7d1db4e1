"""The files of a run directory and how they are read and written.

run.json        RunInfo, written once          status.json    Status, replaced atomically
request.json    the request, written once      events.jsonl   RunEvent lines
plan.json       the plan, written once         metrics.jsonl  {"step": .., "loss": ..} lines
owner.lock      held while the run is alive    cancel         exists once a cancel was asked
log.txt         stdout and stderr              report.json, report.html, artifacts/, checkpoints/
"""

import json
import re
import time
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ft_tools import workspace
from ft_tools.errors import BadInput, NotFound
from ft_tools.publish import append_line, write_file
from ft_tools.runs.records import RunEvent, RunInfo, Status

RUN_ID = re.compile(r"[a-z_]{2,12}-[0-9a-f]{16}")


def find(run_id: str) -> Path:
    """Return the directory of a run.

    Raises:
        BadInput: It is not a run id.
        NotFound: There is no such run.
    """
    if not RUN_ID.fullmatch(run_id):
        raise BadInput(f"{run_id!r} is not a run id (kind-16 hex digits); list_runs names them")
    run_dir = workspace.runs_dir() / run_id
    if not (run_dir / "run.json").is_file():
        raise NotFound(f"no run {run_id!r} in {workspace.runs_dir()}; list_runs names them")
    return run_dir


def all_runs() -> list[Path]:
    """Return every run directory of the workspace, newest first."""
    found = [path.parent for path in workspace.runs_dir().glob("*/run.json")]
    return sorted(
        (path for path in found if RUN_ID.fullmatch(path.name)),
        key=lambda path: (path / "run.json").stat().st_mtime,
        reverse=True,
    )


def read_info(run_dir: Path) -> RunInfo:
    """Read run.json."""
    return RunInfo.model_validate_json((run_dir / "run.json").read_bytes())


def read_status(run_dir: Path) -> Status:
    """Read status.json; a run that has none yet is queued."""
    try:
        return Status.model_validate_json((run_dir / "status.json").read_bytes())
    except FileNotFoundError:
        return Status(state="queued")


def write_status(run_dir: Path, status: Status) -> Status:
    """Replace status.json; only the process that holds the run's lock may call this."""
    stamped = status.model_copy(update={"updated_at": time.time()})
    write_file(run_dir / "status.json", stamped.model_dump_json(indent=1))
    return stamped


def add_event(run_dir: Path, message: str, level: str = "info") -> None:
    """Append an event with the next sequence number."""
    last = read_events(run_dir)
    event = RunEvent.model_validate(
        {"seq": last[-1].seq + 1 if last else 1, "at": time.time(), "level": level}
        | {"message": message}
    )
    append_line(run_dir / "events.jsonl", event.model_dump_json())


def read_events(run_dir: Path, after: int = 0) -> list[RunEvent]:
    """Return the events with a sequence number above `after`; a torn last line is dropped."""
    events = []
    for line in _lines(run_dir / "events.jsonl"):
        try:
            event = RunEvent.model_validate_json(line)
        except ValidationError:
            continue
        if event.seq > after:
            events.append(event)
    return events


def read_metrics(run_dir: Path) -> list[dict[str, float]]:
    """Return the lines of metrics.jsonl, oldest first; a torn last line is dropped."""
    rows: list[dict[str, float]] = []
    for line in _lines(run_dir / "metrics.jsonl"):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


def read_json(path: Path) -> dict[str, Any] | None:
    """Read a JSON object; None when the file is not there."""
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    return value if isinstance(value, dict) else None


def _lines(path: Path) -> list[bytes]:
    try:
        return path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
