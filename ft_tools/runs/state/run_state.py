"""The state of a run, and why: what its files say, checked against its locks and the clock."""

import math
import time
from pathlib import Path
from typing import Any

from ft_tools.errors import BadData
from ft_tools.runs.state import directory, locks
from ft_tools.runs.state.records import ENDED, Health, State, Status, run_error

LOOKS = 3
LATE_SECONDS = 60.0
"""Files of a job come within these; until then they are believed before its scheduler is."""


def settled(run_dir: Path) -> Status:
    """Return what a run wrote, with the state, reason and error that follow from locks and clock.

    An end counts once nobody holds the run: its processes are gone then, and it can be resumed.
    Whoever wrote the end, or if nobody did, no time is left in it.
    Writers may write between two looks, so an answer that needs both is looked at again.
    """
    for _ in range(LOOKS):
        names = (locks.OWNER, locks.SUPERVISOR, locks.WORKER)
        held = directory.has_job(run_dir) or any(locks.is_held(run_dir / name) for name in names)
        status = directory.read_status(run_dir)
        if held == (status.state not in ENDED):
            break
    if held:
        return status.model_copy(update={"state": _living_state(run_dir, status)})
    known: dict[str, Any] = {"progress": status.progress and status.progress.ended()}
    if status.state not in ENDED and directory.has(run_dir, "cancel"):
        known |= {"state": "cancelled", "reason": status.reason or "user"}
    elif status.state not in ENDED or status.state == "interrupted":
        known |= {"state": "interrupted", "reason": status.reason or "crash"}
        is_spent = status.reason == "budget"
        known["error"] = status.error if is_spent else status.error or run_error("worker_died")
    return status.model_copy(update=known)


def _living_state(run_dir: Path, status: Status) -> State:
    has_job = directory.has_job(run_dir)
    if directory.has(run_dir, "cancel"):
        return "cancelling"
    if status.state in ENDED:
        return "interrupted" if has_job and status.state == "interrupted" else "running"
    if status.state != "running":
        return status.state
    # Monotonic, because clocks are set. Whoever holds the lock was started since this boot; of
    # another machine it says nothing here.
    silence = time.monotonic() - status.heartbeat
    silence = time.time() - status.updated_at if has_job else silence
    # The scheduler says that it waits, and somebody asks it still.
    waits = directory.whole_json(run_dir / directory.JOB).get("waiting")
    if waits and locks.is_held(run_dir / locks.SUPERVISOR) and silence > LATE_SECONDS:
        return "queued"
    return "stalled" if silence > (status.stalled_after_seconds or math.inf) else "running"


def read_result(run_dir: Path) -> tuple[dict[str, Any] | None, list[Health]]:
    """Return the finished run's own report, or the signal that it is damaged."""
    try:
        return directory.read_json(run_dir / "report.json"), []
    except BadData as error:
        advice = "restore the file, or run it again"
        signal = "damaged_report"
        return None, [Health(signal=signal, severity="error", observed=str(error), advice=advice)]
