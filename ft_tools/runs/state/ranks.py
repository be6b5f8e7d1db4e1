"""Several processes of one run: the first of them writes, the others only compute.

Whoever starts ranks, a supervisor or a job, holds the run's locks and sets `MARK`. Rank 0 holds
`worker.lock` for life, because those who started it may die first, or be on another machine.
"""

import json
import os
import time
from pathlib import Path

from ft_tools.errors import RunBusy
from ft_tools.runs.launchers.launcher import LOCAL, MARK
from ft_tools.runs.state import locks

JOB_FILE = "job.json"
PREEMPT = "preempt"
"""Exists once all ranks are to save and stop."""
OUT_OF_MEMORY = "out_of_memory"
"""Exists once memory ended in any rank; rank 0 may learn of it only by being ended."""
AGAIN = "again"
"""Exists once a rank asks for fresh processes: what they do differently is written down already."""
WAITING = "waiting"
"""Exists while the scheduler says that the run's job waits."""
HOLD_SECONDS = 60.0
"""How long a new rank 0 waits for the one of an earlier attempt to be gone."""
POLL_SECONDS = 0.2


def is_rank() -> bool:
    """Return whether this process was started as one of a run's ranks."""
    return MARK in os.environ


def rank() -> int:
    """Return this process's place among all ranks of the run; 0 is the one that writes."""
    return int(os.environ.get("RANK", "0")) if is_rank() else 0


def are_several() -> bool:
    """Return whether other processes compute the same run."""
    return world() > 1


def world() -> int:
    """Return how many ranks the run has."""
    return int(os.environ.get("WORLD_SIZE", "1")) if is_rank() else 1


def hold(run_dir: Path) -> None:
    """Take the place of the one writer; ranks that do not write have nothing to take.

    Raises:
        RunBusy: The run was given to another job, or its writer does not end.
    """
    if rank():
        return
    token = os.environ[MARK]
    if token != LOCAL and token != read_token(run_dir):
        raise RunBusy(f"run {run_dir.name} was given to another job; this one ends")
    until = time.monotonic() + HOLD_SECONDS
    while (file := locks.take(run_dir / locks.WORKER)) is None:
        if time.monotonic() > until:
            raise RunBusy(
                f"run {run_dir.name} is written by another process; stop it with cancel_run"
            )
        time.sleep(POLL_SECONDS)
    locks.keep_from_forks(file)


def clear_signs(run_dir: Path) -> None:
    """Begin an attempt without what was asked of, or happened to, the one before it."""
    for sign in (PREEMPT, OUT_OF_MEMORY, AGAIN, WAITING):
        (run_dir / sign).unlink(missing_ok=True)


def has_job(run_dir: Path) -> bool:
    """Return whether a scheduler has a job of this run, as far as is known."""
    return (run_dir / JOB_FILE).exists()


def read_token(run_dir: Path) -> str:
    """Return the token of the job that the run was given to last; empty when there is none."""
    try:
        return str(json.loads((run_dir / JOB_FILE).read_bytes())["token"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
