"""Several processes of one run: the first of them writes, the others only compute.

Whoever starts ranks, a supervisor or a job, holds the run's locks and sets `MARK`. Rank 0 holds
`worker.lock` for life, because those who started it may die first, or be on another machine.
"""

import os
import time
from pathlib import Path

from ft_tools.errors import RunBusy
from ft_tools.runs.launchers.launcher import LOCAL, MARK
from ft_tools.runs.state import directory, locks

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
    return is_rank() and int(os.environ.get("WORLD_SIZE", "1")) > 1


def hold(run_dir: Path) -> None:
    """Take the place of the one writer; ranks that do not write have nothing to take.

    Raises:
        RunBusy: The run was given to another job, or its writer does not end.
    """
    if rank():
        return
    if os.environ[MARK] not in {LOCAL, directory.read_token(run_dir)}:
        raise RunBusy(f"run {run_dir.name} was given to another job; this one ends")
    until = time.monotonic() + HOLD_SECONDS
    while (file := locks.take(run_dir / locks.WORKER)) is None:
        if time.monotonic() > until:
            raise RunBusy(
                f"run {run_dir.name} is written by another process; stop it with cancel_run"
            )
        time.sleep(POLL_SECONDS)
    locks.keep_from_forks(file)
