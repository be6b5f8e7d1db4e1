"""The processes of a run: found by what they inherit, so that none outlives it unnoticed.

A process belongs to a run when its environment has the run's mark (all that the worker starts
inherit it), or when it was handed to the supervisor by the kernel after its parent died (Linux: the
supervisor is a child subreaper).
"""

import contextlib
import ctypes
import os
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
    if sys.platform != "darwin" or program is None:
        return
    with contextlib.suppress(OSError):
        subprocess.Popen(
            [program, "-i", "-w", str(worker_pid)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


def marked(run_dir: Path) -> list[psutil.Process]:
    """Return the living processes with a run's mark: its worker, and what that has started."""
    mark, found = str(run_dir), []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(MARK) == mark and _is_alive(process):
                found.append(process)
    return found


def members(run_dir: Path) -> list[psutil.Process]:
    """Return the living processes that the supervisor of a run, this one, has to end."""
    here = psutil.Process()
    mine = {here, *here.parents()}
    handed = [process for process in here.children(recursive=True) if _is_alive(process)]
    return [process for process in {*handed, *marked(run_dir)} if process not in mine]


def ask_to_end(run_dir: Path) -> None:
    """Send TERM to every process of a run."""
    for process in members(run_dir):
        with contextlib.suppress(psutil.Error):
            process.terminate()


def end_all(run_dir: Path, except_reaping: int | None = None) -> int:
    """Kill every process of a run until none is left.

    Args:
        run_dir: The run.
        except_reaping: A child whose exit status somebody else collects.

    Returns:
        How many could not be ended within some seconds (the kernel holds them), usually 0.
    """
    until = time.monotonic() + KILL_SECONDS
    while left := members(run_dir):
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        _reap(except_reaping)
        if time.monotonic() > until:
            return len(left)
        time.sleep(POLL_SECONDS)
    _reap(except_reaping)
    return 0


def _is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _reap(except_pid: int | None) -> None:
    """Collect the exit status of orphans that were handed to this process."""
    for child in psutil.Process().children():
        if child.pid == except_pid or _is_alive(child):
            continue
        with contextlib.suppress(ChildProcessError):
            os.waitpid(child.pid, os.WNOHANG)
