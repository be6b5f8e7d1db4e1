"""Kill a run's worker at random moments until it ends by itself; the libraries are loaded once.

`python -m tests.tiny.killing KILLS SEED RUN_DIR ...`: forks a worker for each attempt, kills it
with SIGKILL after a random time, and lets the attempt after the last kill end. Prints a JSON line a
run:
`{"kills": .., "attempts": .., "return_code": ..}`.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from ft_tools.runs.processes.worker_session import main
from ft_tools.runs.state import directory
from ft_tools.training.worker import dpo, grpo, sft

WORK = {"sft": sft.work, "dpo": dpo.work, "kto": dpo.work, "grpo": grpo.work}
ATTEMPT_SECONDS = 600.0


def attempt(run_dir, prepare=lambda: None, work=WORK):
    """Fork a worker over a run directory, prepared in the child; its process id."""
    pid = os.fork()
    if pid == 0:
        try:
            sys.argv = ["worker", str(run_dir)]
            log = os.open(run_dir / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(log, 1)
            os.dup2(log, 2)
            torch.set_num_threads(1)
            prepare()
            main(work[directory.read_info(run_dir).kind])
        except SystemExit as end:
            os._exit(int(end.code or 0))
        finally:
            os._exit(99)
    return pid


def ended(pid, seconds):
    """Wait so long for a process to end; its exit status, or None."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return status
        time.sleep(0.005)
    return None


def last_step(run_dir):
    """Return the step that the run has shown last."""
    progress = directory.read_status(run_dir).progress
    return progress.step if progress else 0


def kill_and_resume(run_dir, num_kills, seed):
    """Kill so many attempts, each somewhere between loading and a few steps on."""
    dice = random.Random(seed)
    kills = attempts = 0
    while True:
        attempts += 1
        pid = attempt(run_dir)
        if kills == num_kills:
            status = ended(pid, ATTEMPT_SECONDS)
            break
        began = last_step(run_dir)
        until = time.monotonic() + ATTEMPT_SECONDS
        # From the first step of this attempt on, so that kills fall into training and saving.
        while last_step(run_dir) <= began and time.monotonic() < until:
            if ended(pid, 0.01) is not None:
                break
        status = ended(pid, dice.uniform(0.0, 0.8))
        if status is not None:
            break
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        kills += 1
    return {"kills": kills, "attempts": attempts, "return_code": status}


if __name__ == "__main__":
    for number, name in enumerate(sys.argv[3:]):
        answer = kill_and_resume(Path(name), int(sys.argv[1]), int(sys.argv[2]) + number)
        sys.stdout.write(json.dumps(answer) + "\n")
