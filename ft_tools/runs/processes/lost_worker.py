"""How a run ended, written by whoever outlived its worker.

That is the supervisor on one machine, the job's own process in a scheduler's job, and the
supervisor's look at the scheduler where that process died too.
"""

import contextlib
import time
from pathlib import Path

from ft_tools.errors import DiskFull, PlanChanged, Refused
from ft_tools.runs.hardware import memory
from ft_tools.runs.state import directory, ranks
from ft_tools.runs.state.records import ENDED, RunError, State, Status, Why

OUT_OF_MEMORY_HINT = (
    "free some memory, or launch again with a smaller configuration; estimate_vram shows what fits"
)
FINAL = frozenset({"diverged", Refused.code, PlanChanged.code})
"""Codes of failures that another attempt at the same plan meets again."""


def record(run_dir: Path, return_code: int | None, kills_before: int | None = None) -> None:
    """Write the end that the worker could not write itself; one that it wrote stays.

    Args:
        run_dir: The run.
        return_code: Of the worker, or of the program that started its ranks; None: not known.
        kills_before: `memory.oom_kills()` from before the worker started.

    Raises:
        DiskFull: It cannot be written.
    """
    if return_code is not None:
        directory.note(run_dir, f"worker ended with {return_code}")
    status = directory.read_status(run_dir)
    if status.state in ENDED:
        return
    if (run_dir / "cancel").exists():
        write(run_dir, "cancelled", "user")
    elif return_code == DiskFull.exit_code:
        record_full_disk(run_dir, "the disk is full or refuses to be written")
    elif _memory_ended(run_dir, return_code, kills_before):
        hint = status.if_out_of_memory or OUT_OF_MEMORY_HINT
        message = "the kernel killed the worker because memory ran out"
        error = RunError(code="out_of_memory", message=message, hint=hint, retryable=True)
        write(run_dir, "interrupted", "out_of_memory", error)
    else:
        write(run_dir, "interrupted", "crash", _death(return_code))


def unrecorded(state: State) -> RunError | None:
    """Return the error of a run whose end nobody was left to write."""
    return _death(None) if state == "interrupted" else None


def record_full_disk(run_dir: Path, message: str) -> None:
    """Write that the disk was full, into the room that was kept for it."""
    hint = "free some space, then resume_run"
    error = RunError(code="disk_full", message=message, hint=hint, retryable=True)
    directory.free_reserve(run_dir)
    # If even this fails, a reader sees `interrupted`: nobody holds the run.
    with contextlib.suppress(DiskFull):
        write(run_dir, "interrupted", "disk_full", error)


def write(run_dir: Path, state: State, reason: Why, error: RunError | None = None) -> None:
    """Replace a run's state by an end.

    Raises:
        DiskFull: It cannot be written.
    """
    status = directory.read_status(run_dir)
    update = {"state": state, "reason": reason, "error": error, "ended_at": time.time()}
    directory.write_status(run_dir, status.model_copy(update=update))


def starts_again(run_dir: Path) -> bool:
    """Tell whether the worker asked for fresh processes and may have them; the sign is removed."""
    sign = run_dir / ranks.AGAIN
    if not sign.exists():
        return False
    may = not any((run_dir / other).exists() for other in ("cancel", ranks.PREEMPT))
    ranks.clear_signs(run_dir)
    return may and directory.read_status(run_dir).state not in ENDED


def is_final(status: Status) -> bool:
    """Tell whether another attempt would end in the same way: the plan itself has to change."""
    return status.state == "failed" and status.error is not None and status.error.code in FINAL


def _memory_ended(run_dir: Path, return_code: int | None, kills_before: int | None) -> bool:
    """Tell whether a rank said so, or the kernel has killed for memory meanwhile.

    torchrun ends with 1 and srun with 137 when the kernel kills what they started, so the code
    only has to be that of a failure.
    """
    if (run_dir / ranks.OUT_OF_MEMORY).exists():
        return True
    if not return_code or kills_before is None:
        return False
    return (memory.oom_kills() or 0) > kills_before


def _death(return_code: int | None) -> RunError:
    hint = "see the last log lines with get_run and log_lines; resume_run continues it"
    message = _how_it_ended(return_code)
    return RunError(code="worker_died", message=message, hint=hint, retryable=True)


def _how_it_ended(return_code: int | None) -> str:
    if return_code is None:
        return "the worker and its supervisor were killed, or the machine restarted"
    if return_code < 0:
        return f"the worker was ended by signal {-return_code}"
    return f"the worker exited with {return_code} without reporting a reason"
