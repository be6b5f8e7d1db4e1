"""Work is a sign of life and waiting is none; a worker that said its pace counts by its steps."""

import subprocess
import sys
import time

import psutil
import pytest

from ft_tools.runs.state import directory
from ft_tools.runs.state.records import RunInfo, Status

PROGRAM = """
import subprocess, sys, time
from pathlib import Path
from ft_tools.runs.processes import signs_of_life
from ft_tools.runs.processes.worker_session import Session
signs_of_life.LOOK_SECONDS, signs_of_life.WORK_SECONDS = 0.25, 0.02
looks, look = [], signs_of_life._work
signs_of_life._work = lambda: looks.append(look()) or looks[-1]
session = Session(Path(sys.argv[1]))
{before}
signs_of_life.watch(session.works)
# The first looks count what came before.
while len(looks) < 3:
    time.sleep(0.05)
print("watching", flush=True)
{work}
"""
BUSY = "while True: pass"
CHILD = f"subprocess.run([sys.executable, '-I', '-S', '-c', {BUSY!r}])"
LOADING = "session.phase('loading')"
SAID = LOADING + "; session.update(stalled_after_seconds=60.0)"
ENDED = "session.end('succeeded')"


@pytest.mark.parametrize(
    ("before", "work", "is_alive"),
    [
        (LOADING, BUSY, True),
        (LOADING, CHILD, True),
        (LOADING, "time.sleep(60)", False),
        (SAID, BUSY, False),
        (ENDED, BUSY, False),
    ],
    ids=["busy", "busy child", "waiting", "pace was said", "ended"],
)
def test_only_work_in_a_phase_without_a_pace_is_a_sign_of_life(workspace, before, work, is_alive):
    run_dir = workspace / "runs" / "sft-0123456789abcdef"
    run_dir.mkdir(parents=True)
    info = RunInfo(run_id=run_dir.name, kind="sft", created_at=1.0)
    (run_dir / "run.json").write_text(info.model_dump_json())
    directory.write_status(run_dir, Status(state="running"))
    argv = [sys.executable, "-c", PROGRAM.format(before=before, work=work), str(run_dir)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as worker:
        try:
            assert worker.stdout.readline() == "watching\n"
            first = directory.read_status(run_dir).heartbeat
            until = time.monotonic() + (120.0 if is_alive else 1.0)
            while time.monotonic() < until:
                time.sleep(0.1)
                if directory.read_status(run_dir).heartbeat > first:
                    break
            assert (directory.read_status(run_dir).heartbeat > first) == is_alive
        finally:
            for process in _family(worker.pid):
                process.kill()


def _family(pid):
    own = psutil.Process(pid)
    return [*own.children(recursive=True), own]
