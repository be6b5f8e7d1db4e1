"""The processes of a run: found by what they inherit, so that none outlives it unnoticed.

A process belongs to a run when its environment has the run's mark (all that the worker starts
inherit it), or when it was handed to the supervisor by the kernel after its parent died (Linux: the
supervisor is a child subreaper).
"""

import contextlib
import ctypes
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil

MARK = "FINE_TUNING_LLM_RUN"
# prctl(2), linux/prctl.h: PR_SET_CHILD_SUBREAPER.
SET_CHILD_SUBREAPER = 36
KILL_SECONDS = 10.0
POLL_SECONDS = 0.02


def become_subreaper() -> None:
    """Have orphaned descendants handed to this process; elsewhere than on Linux, do nothing."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def keep_awake(worker_pid: int) -> None:
    """Keep a Mac from sleeping while a worker lives; elsewhere, do nothing.

    Source: caffeinate(8): -i prevents idle sleep, -w ends it with the process.
    """
    program = shutil.which("caffeinate")
    if sys.platform == "darwin" and program is not None:
        nothing = subprocess.DEVNULL
        argv = [program, "-i", "-w", str(worker_pid)]
        with contextlib.suppress(OSError):
            subprocess.Popen(argv, stdin=nothing, stdout=nothing, stderr=nothing)


def marked(run_dir: Path) -> list[psutil.Process]:
    """Return the living processes with a run's mark: its worker, and what that has started."""
    mark, found = str(run_dir), []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            # A zombie has no environment any more.
            if process.environ().get(MARK) == mark:
                found.append(process)
    return found


def members(run_dir: Path) -> list[psutil.Process]:
    """Return the living processes that the supervisor of a run, this one, has to end."""
    here = psutil.Process()
    mine = {here, *here.parents()}
    return [process for process in {*_descendants(here), *marked(run_dir)} if process not in mine]


def end(run_dir: Path) -> int:
    """Kill every process of a run until none is left; whoever started them collects their status.

    Returns:
        How many could not be ended within some seconds (the kernel holds them), usually 0.
    """
    until = time.monotonic() + KILL_SECONDS
    while (left := members(run_dir)) and time.monotonic() < until:
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        time.sleep(POLL_SECONDS)
    return len(left)


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    found = []
    for one in process.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if one.status() != psutil.STATUS_ZOMBIE:
                found.append(one)
    return found
