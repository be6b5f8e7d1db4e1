"""Train under a fault, then without it; the libraries are loaded once.

`python -m tests.tiny.faulty RUN_DIR FAULT [RUN_DIR FAULT ...]`: forks a worker for each attempt. A
fault that needs a full disk fills the one the run is on, and the ballast is removed before the
second attempt. Prints a JSON line a run: `{"fault": .., "first": .., "second": ..}`, each attempt
with its state, reason, error code and hint.
"""

import json
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import torch
from transformers import Trainer

from ft_tools.publish import sweep
from ft_tools.runs.processes import worker_session as session_module
from ft_tools.runs.processes.worker_session import Session
from ft_tools.runs.state import directory
from ft_tools.training import checkpoints
from ft_tools.training.worker import artifacts, callbacks, sft
from tests.tiny.killing import ATTEMPT_SECONDS, attempt, ended

BALLAST = "ballast"
# What is about to be written when the disk gets full: (module or class, name).
WRITES = {
    "lock": (artifacts, "write_lock"),
    "status": (directory, "write_status"),
    "event": (directory, "add_event"),
    "metrics": (session_module, "append_line"),
    "page": (callbacks, "write_file"),
    "checkpoint": (Trainer, "_save_checkpoint"),
    "manifest": (checkpoints, "publish"),
    "artifact": (artifacts, "publish_result"),
    "report": (session_module, "write_file"),
}
AT_STEP = 3


def fill(folder):
    """Take all the room that is left, and leave a name to find it by."""
    with suppress(OSError), (folder / BALLAST).open("ab", buffering=0) as stream:
        while True:
            stream.write(b"\0" * 4096)


def full_before(place, name, when):
    """Let a function find a full disk, from its first call on that `when` is true of."""
    usual, done = getattr(place, name), []

    def filled(*arguments, **named):
        if not done and when():
            done.append(True)
            fill(Path(sys.argv[1]))
        return usual(*arguments, **named)

    setattr(place, name, filled)


def at_step(action):
    """Do something once, when the run has made so many steps."""
    usual, done = Session.progress, []

    def progress(self, step, *arguments, **named):
        usual(self, step, *arguments, **named)
        if step == AT_STEP and not done:
            done.append(True)
            action()

    Session.progress = progress


def out_of_memory():
    """Raise as the GPU does, whenever more than one example is taken at once, from a step on."""
    usual = sft.SFTTrainer.training_step

    def step(self, *arguments, **named):
        if self.state.global_step >= AT_STEP and self.args.per_device_train_batch_size > 1:
            raise torch.OutOfMemoryError("CUDA out of memory (injected)")
        return usual(self, *arguments, **named)

    sft.SFTTrainer.training_step = step


def clock_jump():
    """Set the clock far ahead, then far back."""
    usual, jumps = time.time, iter([3e7, -3e7] * 1000)
    at_step(lambda: setattr(time, "time", lambda: usual() + next(jumps)))


def cut_the_last_checkpoint():
    """Cut a file of the last checkpoint in half, and die."""

    def cut():
        last = checkpoints.all_of(Path(sys.argv[1]) / "checkpoints")[-1]
        file = last / "optimizer.pt"
        os.truncate(file, file.stat().st_size // 2)
        os.kill(os.getpid(), signal.SIGKILL)

    at_step(cut)


def is_training():
    """Tell whether the first steps are made, so that what is filled is a disk in use."""
    progress = directory.read_status(Path(sys.argv[1])).progress
    return progress is not None and progress.step >= 1


FAULTS = {
    "none": lambda: None,
    "term": lambda: at_step(lambda: os.kill(os.getpid(), signal.SIGTERM)),
    "kill": lambda: at_step(lambda: os.kill(os.getpid(), signal.SIGKILL)),
    "memory": out_of_memory,
    "clock": clock_jump,
    "cut": cut_the_last_checkpoint,
}


def inject(fault):
    """Put a fault into this process."""
    kind, _, write = fault.partition(":")
    if kind == "full":
        when = (lambda: True) if write in {"lock", "artifact"} else is_training
        full_before(*WRITES[write], when)
    else:
        FAULTS[kind]()


def one(run_dir, fault):
    """Make an attempt; how it ended."""
    pid = attempt(run_dir, lambda: inject(fault))
    code = ended(pid, ATTEMPT_SECONDS)
    status = directory.read_status(run_dir)
    error = status.error
    return {
        "exit": code,
        "state": status.state,
        "reason": status.reason,
        "code": error.code if error else None,
        "hint": error.hint if error else "",
    }


def main(pairs):
    """Make both attempts of each run."""
    for name, fault in pairs:
        run_dir = Path(name)
        directory.reserve_space(run_dir)
        first = one(run_dir, fault)
        (run_dir / BALLAST).unlink(missing_ok=True)
        second = None
        if first["state"] != "succeeded":
            directory.sweep_leftovers(run_dir)
            sweep(run_dir.parent)
            before = directory.read_status(run_dir)
            directory.write_status(run_dir, before.model_copy(update={"attempt": 2}))
            second = one(run_dir, "none")
        line = {"fault": fault, "first": first, "second": second}
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(list(zip(sys.argv[1::2], sys.argv[2::2], strict=True)))
