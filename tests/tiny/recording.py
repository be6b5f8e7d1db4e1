"""Record step times of real runs of a tiny model, for the test of the estimated time left (P24).

`python -m tests.tiny.recording OUT [NUM]`, on an idle machine: each run differs in task, batch,
evaluations, saves, and in what disturbs it: nothing, another busy process for a while, or a stop
of some tenths of a second. OUT gets a list of `{"about": .., "seconds": [..]}`, the time of each
step since the start of the phase.
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.small_models import untrained_llama
from ft_tools import workspace
from ft_tools.runs.processes.worker_session import Session
from ft_tools.training.worker import dpo, sft
from tests.tiny.conftest import make_tokenizer
from tests.tiny.trainings import (
    QUICK,
    DpoRequest,
    SftRequest,
    conversations,
    pairs,
    prepared,
    write_jsonl,
)

BUSY = "import time; until = time.time() + {0}\nwhile time.time() < until: pass"
STOP = (
    "import os, signal, time; time.sleep({1}); os.kill({2}, signal.SIGSTOP); time.sleep({0}); "
    "os.kill({2}, signal.SIGCONT)"
)
DISTURBANCES = {"nothing": None, "busy": BUSY, "stopped": STOP}


def uneven(rows, dice):
    """Give answers of very different lengths, so that steps differ as real ones do."""
    for row in rows:
        row["messages"][1]["content"] += " again and again" * dice.randint(0, 12)
    return rows


def request_of(number, dice):
    """Return a request, and what is special about it."""
    is_dpo = number % 5 == 4
    steps = dice.randint(80, 160)
    training = {
        **QUICK,
        "max_steps": steps,
        "per_device_train_batch_size": dice.choice([1, 2, 4]),
        "gradient_accumulation_steps": dice.choice([1, 1, 2]),
        "learning_rate": 1e-5,
        "save_steps": max(2, steps // dice.choice([3, 5, 8])),
        "max_length": 64,
    }
    parts = {"model": "tiny-llama", "training": training, "accept_reason": "a test", "samples": 0}
    parts["accept_findings"] = ["validation_unwatched", "no_quality_filter"]
    if number % 2 == 0 and not is_dpo:
        training["eval_steps"] = training["save_steps"] = max(2, steps // dice.choice([5, 8, 10]))
        parts["validation"] = "held_out.jsonl"
    if is_dpo:
        return DpoRequest(dataset="pairs.jsonl", **parts)
    return SftRequest(dataset="train.jsonl", method=dice.choice(["lora", "full"]), **parts)


def recorded(number, dice):
    """Train once; what was done and the time of each step."""
    request = request_of(number, dice)
    session = prepared(request, f"r{number}")
    began, moments = [], []
    usual = Session.progress

    def progress(self, step, total_steps, *rest):
        if self.info.run_id == session.info.run_id:
            began.append(time.monotonic())
            if step and (not moments or step > moments[-1][0]):
                moments.append((step, began[-1] - began[0]))
        usual(self, step, total_steps, *rest)

    disturbance = list(DISTURBANCES)[number % 3]
    program = DISTURBANCES[disturbance]
    child = None
    if program:
        code = program.format(dice.uniform(0.2, 0.6), dice.uniform(1.5, 5.0), os.getpid())
        child = subprocess.Popen([sys.executable, "-c", code])
    Session.progress = progress
    try:
        (dpo if isinstance(request, DpoRequest) else sft).work(session)
    finally:
        Session.progress = usual
        if child:
            child.wait()
            os.kill(os.getpid(), signal.SIGCONT)
    evaluates = request.training.get("eval_steps", 0)
    about = f"{session.info.kind}, {disturbance}, evaluation every {evaluates}"
    return {"about": about, "seconds": [round(moment, 3) for _, moment in moments]}


def main(out, number):
    """Record so many runs."""
    torch.set_num_threads(1)
    dice = random.Random(5)
    with tempfile.TemporaryDirectory() as folder:
        os.environ[workspace.VARIABLE] = folder
        root = Path(folder)
        make_tokenizer().save_pretrained(root / "tiny-llama")
        untrained_llama().save_pretrained(root / "tiny-llama")
        write_jsonl(root / "train.jsonl", uneven(conversations(60), dice))
        write_jsonl(root / "held_out.jsonl", conversations(30, first=100))
        write_jsonl(root / "pairs.jsonl", pairs(60))
        traces = []
        for i in range(number):
            traces.append(json.dumps(recorded(i, dice)))
            lines = ",\n".join(traces)
            Path(out).write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 50)
