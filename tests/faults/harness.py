"""What the fault tests share: real runs that are cheap, bounded polls, and a look at processes."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
from pydantic import BaseModel

from ft_tools import workspace
from ft_tools.runs.launchers.launcher import WORKER as RUNNER
from ft_tools.runs.processes import process_tree
from ft_tools.runs.processes.start import start
from ft_tools.runs.request import RunRequest
from ft_tools.runs.state import directory
from ft_tools.runs.tool import get_run

HERE = Path(__file__).parent
PYTHON = [sys.executable, "-P"]
WORKER = "fault_workers.steps"
# A machine with other work takes long; what never comes takes for ever.
PATIENCE_SECONDS = 120.0
ENDED = {"succeeded", "failed", "cancelled", "interrupted"}


class Moves(BaseModel):
    moves: list[str]


def launch(*moves: str, **options) -> str:
    plan = Moves(moves=list(moves))
    return start("audit", plan, plan, worker=WORKER, **options)


def run_dir_of(run_id: str) -> Path:
    return workspace.runs_dir() / run_id


def report(run_id: str):
    return get_run(RunRequest(run_id=run_id))


def messages(run_id: str) -> list[str]:
    return [event.message for event in directory.read_events(run_dir_of(run_id))]


def until(claim, seconds: float = PATIENCE_SECONDS, pause: float = 0.01):
    """Poll until a claim is true, and return what it said."""
    end = time.monotonic() + seconds
    while not (said := claim()):
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(pause)
    return said


def until_state(run_id: str, *states: str, seconds: float = PATIENCE_SECONDS) -> str:
    return until(lambda: (now := report(run_id).state) in states and now, seconds)


def until_phase(run_id: str, phase: str) -> None:
    status = run_dir_of(run_id)
    until(lambda: directory.read_status(status).phase == phase)


def worker_pid(run_id: str) -> int:
    """Return the process that a supervisor started; what it forks has the same arguments."""

    def found() -> int | None:
        started = {
            process.pid: process.ppid()
            for process in process_tree.marked(run_dir_of(run_id))
            if RUNNER in process.cmdline()
        }
        return next((pid for pid, parent in started.items() if parent not in started), None)

    return until(found)


def supervisor_pid(run_id: str) -> int:
    return psutil.Process(worker_pid(run_id)).ppid()


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def starts(run_id: str) -> list[int]:
    """Return the pids of the workers that signed in."""
    path = run_dir_of(run_id) / "starts.log"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def processes_naming(path: Path) -> list[psutil.Process]:
    """Return the processes that have a path in their arguments or environment."""
    found = []
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), *process.environ().values()]
            if process.pid != os.getpid() and any(str(path) in word for word in words):
                found.append(process)
        except psutil.Error:
            continue
    return [process for process in found if is_alive(process.pid)]


def race(num_racers: int, what: str, argument: str) -> list[str]:
    """Let processes do the same at the same moment; returns what each got."""
    argv = [*PYTHON, str(HERE / "racers.py"), str(num_racers), what, argument]
    return json.loads(subprocess.run(argv, check=True, capture_output=True, timeout=120).stdout)
