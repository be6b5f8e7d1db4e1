"""The state of a run: what its files say, checked against its locks and the clock."""

import time
from pathlib import Path
from typing import Any

from ft_tools.errors import BadData
from ft_tools.runs.state import directory, locks, ranks
from ft_tools.runs.state.records import ENDED, Health, RunEvent, State, Status

STALLED_SECONDS = 300.0
"""Silence that is too long where the worker has not said what is."""
LOOKS = 3
EVENTS = 20
"""Events in a report."""


def settled(run_dir: Path) -> tuple[Status, State]:
    """Return what a run wrote, and the state that follows from it, the locks and the clock.

    An end counts once nobody holds the run: its processes are gone then, and it can be resumed.
    Whoever wrote the end, or if nobody did, no time is left in it.
    Writers may write between two looks, so an answer that needs both is looked at again.
    """
    for _ in range(LOOKS):
        held = _is_held(run_dir)
        status = directory.read_status(run_dir)
        if held == (status.state not in ENDED):
            break
    if held:
        return status, _living_state(run_dir, status)
    if status.progress is not None:
        status = status.model_copy(update={"progress": status.progress.ended()})
    if status.state in ENDED:
        return status, status.state
    return status, "cancelled" if (run_dir / "cancel").exists() else "interrupted"


def _is_held(run_dir: Path) -> bool:
    """Return whether a run has a worker or a job, or somebody who looks after what it left."""
    names = (locks.OWNER, locks.SUPERVISOR, locks.WORKER)
    return ranks.has_job(run_dir) or any(locks.is_held(run_dir / name) for name in names)


def _living_state(run_dir: Path, status: Status) -> State:
    if (run_dir / "cancel").exists():
        return "cancelling"
    # Monotonic, because clocks are set. Whoever holds the lock was started since this boot.
    allowed = status.stalled_after_seconds or STALLED_SECONDS
    silent = time.monotonic() - status.heartbeat > allowed
    if ranks.has_job(run_dir):
        # Another machine's monotonic clock says nothing here.
        silent = time.time() - status.updated_at > allowed
        if status.state == "interrupted":
            return "interrupted"
    if status.state in ENDED:
        return "running"
    if status.state == "running" and silent:
        return "queued" if _waits_for_a_machine(run_dir) else "stalled"
    return status.state


def _waits_for_a_machine(run_dir: Path) -> bool:
    """Return whether the scheduler says so, and somebody asks it still."""
    return (run_dir / ranks.WAITING).exists() and locks.is_held(run_dir / locks.SUPERVISOR)


def read_result(run_dir: Path) -> tuple[dict[str, Any] | None, list[Health]]:
    """Return the finished run's own report, or the signal that it is damaged."""
    try:
        return directory.read_json(run_dir / "report.json"), []
    except BadData as error:
        advice = "restore the file, or run it again"
        signal = "damaged_report"
        return None, [Health(signal=signal, severity="error", observed=str(error), advice=advice)]


def shown_events(run_dir: Path, after: int | None) -> list[RunEvent]:
    """Return the first 20 events after a number, or the last 20 of all."""
    if after is None:
        return directory.read_events(run_dir)[-EVENTS:]
    return directory.read_events(run_dir, after)[:EVENTS]


def moved_from(run_dir: Path, status: Status) -> str:
    """Return where the run was when it wrote its paths, if it was moved or mounted since."""
    for artifact in status.artifacts:
        before, is_ours, _ = artifact.path.partition(f"/{run_dir.name}/")
        place = f"{before}/{run_dir.name}"
        if is_ours and place != str(run_dir) and not Path(place).exists():
            return place
    return ""


def with_place(value: Any, old: str, new: str) -> Any:
    """Return nested JSON with one text replaced by another wherever it stands."""
    if isinstance(value, str):
        return value.replace(old, new)
    if isinstance(value, list):
        return [with_place(part, old, new) for part in value]
    if isinstance(value, dict):
        return {key: with_place(part, old, new) for key, part in value.items()}
    return value
