"""Measure an SFT run of this package against plain TRL, and against a recipe that is often copied.

`python -m benchmarks.training DATASET [MODEL] [STEPS]`: DATASET is a file of short texts that
audit_dataset reads, MODEL a Hub id that is in the cache or a folder. Four ways train the same model
with the same adapter, rate and precision:

- ours: the worker of this package, its defaults;
- packed: the same with `packing`, which fills each row up to max_length;
- plain: the script that the plan exports, TRL alone;
- copied: transformers' Trainer, every example padded to max_length, the loss over all logits of
  all positions, prompts included.

Two run at the same time, each on half of the cores, and change places in the next round: whatever
else the machine does slows both. `plain` beside `ours` in each of `ROUNDS`, `copied` beside
`packed` in the first `FEW`. Compared are the seconds of the training loop, real tokens (no padding)
a second, and the peak memory of the process. The ratio of seconds is the median of the rounds'
ratios, with a 95% interval from 10,000 bootstrap samples of the rounds. The result is
`benchmarks/training.json`; quote the ratios. On a GPU, give each its own: this file does not.
"""

import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ft_tools import workspace
from ft_tools.data.request import AuditRequest
from ft_tools.data.tool import audit_dataset
from ft_tools.publish import private_folder, sha256
from ft_tools.runs.state.records import RunInfo
from ft_tools.training.exports import script
from ft_tools.training.plan import plan_sft
from ft_tools.training.request import SftRequest

ROUNDS = int(os.environ.get("ROUNDS", "6"))
FEW = 2
DEMO = "HuggingFaceTB/SmolLM2-135M-Instruct"
PACKAGES = ("torch", "transformers", "trl", "peft")
LENGTH = 512
BATCH = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}
COPIED = """
import json, sys
from pathlib import Path
from datasets import load_dataset
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments
import torch

PLAN = json.loads(Path(sys.argv[1]).read_text())
T = PLAN["training"]
tokenizer = AutoTokenizer.from_pretrained(PLAN["model"]["load_from"])
tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
dtype = getattr(torch, PLAN["weights_dtype"])
model = AutoModelForCausalLM.from_pretrained(PLAN["model"]["load_from"], dtype=dtype)
model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **PLAN["peft"]))


def tokenize(row):
    text = tokenizer.apply_chat_template(row["messages"], tokenize=False)
    made = tokenizer(text, truncation=True, padding="max_length", max_length=T["max_length"])
    made["labels"] = list(made["input_ids"])
    return made


data = load_dataset("json", data_files=PLAN["dataset"]["path"], split="train")
data = data.map(tokenize, remove_columns=data.column_names)
arguments = TrainingArguments(
    output_dir="copied", max_steps=T["max_steps"], learning_rate=T["learning_rate"],
    per_device_train_batch_size=T["per_device_train_batch_size"],
    gradient_accumulation_steps=T["gradient_accumulation_steps"], logging_steps=1,
    use_cpu=PLAN["device"]["name"] == "cpu", bf16=PLAN["device"]["precision"] == "bfloat16",
    save_strategy="no", report_to=[], seed=T["seed"], dataloader_pin_memory=False,
    lr_scheduler_type=T["lr_scheduler_type"], warmup_steps=T["warmup_steps"],
)
seen = [0.0]


class Counting(Trainer):
    def training_step(self, model, inputs, *rest):
        seen[0] += float(inputs["attention_mask"].sum())
        return super().training_step(model, inputs, *rest)


Counting(model=model, args=arguments, train_dataset=data, processing_class=tokenizer).train()
print({"num_tokens": seen[0]})
"""
Measured = dict[str, float]


def at_once(commands: dict[str, list[str]], folder: Path, number: int) -> dict[str, Measured]:
    """Run two processes, each on half of the cores; the halves change with the round's number."""
    cores = sorted(os.sched_getaffinity(0))
    half = len(cores) // 2
    halves = [cores[:half], cores[half:]][:: -1 if number % 2 else 1]
    started = {}
    for (way, command), mine in zip(commands.items(), halves, strict=True):
        log = folder / f"{way}.log"
        with log.open("wb") as stream:
            process = subprocess.Popen(
                ["taskset", "-c", ",".join(map(str, mine)), *command],
                stdout=stream,
                stderr=stream,
                cwd=folder,
                env={**os.environ, "OMP_NUM_THREADS": str(len(mine))},
            )
        started[process.pid] = way, log
    found = {}
    while started:
        pid, status, usage = os.wait3(0)
        way, log = started.pop(pid)
        found[way] = measured(log, status, usage)
    return found


def measured(log: Path, status: int, usage: Any) -> Measured:
    """Return seconds and real tokens of a process's training loop, and its peak memory."""
    text = log.read_text(errors="replace")
    if status:
        raise SystemExit(text[-3000:])
    seconds = float(re.findall(r"'train_runtime': '?([\d.]+)", text)[-1])
    tokens = float(re.findall(r"'num_tokens': '?([\d.e+]+)", text)[-1])
    return {
        "seconds": seconds,
        "tokens": tokens,
        "tokens_per_second": tokens / seconds,
        # Linux counts in KiB.
        "peak_gib": usage.ru_maxrss / 2**20,
    }


def run_dir_of(request: SftRequest, name: str) -> Path:
    """Write a run directory as a launch does."""
    plan = plan_sft(request)
    run_dir = workspace.runs_dir() / f"sft-{name.encode().hex():0>16}"[:20]
    private_folder(run_dir)
    info = RunInfo(run_id=run_dir.name, kind="sft", created_at=time.time())
    for file, record in {"run": info, "request": request, "plan": plan}.items():
        (run_dir / f"{file}.json").write_text(record.model_dump_json(), encoding="utf-8")
    return run_dir


def main() -> None:
    """Measure in a folder of its own."""
    dataset = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else None
    if dataset is None:
        print("left out: name a file of short texts, python -m benchmarks.training DATASET")
        return
    with tempfile.TemporaryDirectory() as folder:
        os.environ[workspace.VARIABLE] = folder
        copy = Path(folder) / dataset.name
        copy.write_bytes(dataset.read_bytes())
        compare(Path(folder), copy)


def compare(folder: Path, dataset: Path) -> None:
    """Measure in turn and write medians and ratios."""
    model = sys.argv[2] if len(sys.argv) > 2 else DEMO
    if Path(model).is_dir():
        model = shutil.copytree(model, folder / Path(model).name).name
    steps = int(sys.argv[3]) if len(sys.argv) > 3 else 4
    audit_dataset(AuditRequest(path=dataset.name, output_dir="clean", near_duplicates="off"))
    training = {**BATCH, "max_length": LENGTH, "max_steps": steps, "save_steps": 1000}
    parts = {"model": model, "dataset": "clean/train.jsonl"}
    ours = SftRequest.model_validate({**parts, "training": {**training, "logging_steps": 1}})
    packed = ours.model_copy(update={"training": {**ours.training, "packing": True}})
    (folder / "plain.py").write_text(script.script(plan_sft(ours)), encoding="utf-8")
    (folder / "copied.py").write_text(COPIED, encoding="utf-8")
    worker = [sys.executable, "-m", "ft_tools.training.worker.sft"]
    taken: dict[str, list[Measured]] = {way: [] for way in ("plain", "ours", "packed", "copied")}
    for number in range(ROUNDS):
        run_dir = run_dir_of(ours, f"o{number}")
        commands = {
            "plain": [sys.executable, "plain.py"],
            "ours": [*worker, str(run_dir)],
            "copied": [sys.executable, "copied.py", str(run_dir / "plan.json")],
            "packed": [*worker, str(run_dir_of(packed, f"p{number}"))],
        }
        for pair in (("plain", "ours"), ("copied", "packed"))[: 2 if number < FEW else 1]:
            found = at_once({way: commands[way] for way in pair}, folder, number)
            for way, row in found.items():
                taken[way].append(row)
            print({way: row["seconds"] for way, row in found.items()}, file=sys.stderr, flush=True)
    write(model, steps, dataset, taken)


def write(model: str, steps: int, dataset: Path, taken: dict[str, list[Measured]]) -> None:
    """Write the medians, their ratios, and what was measured on."""
    medians = {
        way: {key: round(statistics.median(row[key] for row in rows), 3) for key in rows[0]}
        for way, rows in taken.items()
    }

    def ratio(one: str, other: str, key: str) -> float:
        return round(medians[one][key] / medians[other][key], 3)

    ratios = [
        o["seconds"] / p["seconds"] for o, p in zip(taken["ours"], taken["plain"], strict=True)
    ]
    draws = np.random.default_rng(0).choice(ratios, (10_000, len(ratios)))
    interval = np.quantile(np.median(draws, axis=1), (0.025, 0.975))
    result = {
        "model": model,
        "dataset": {"name": dataset.name, "sha256": sha256(dataset)},
        "steps": steps,
        "examples_a_step": 8,
        "max_length": LENGTH,
        "rounds": ROUNDS,
        "medians": medians,
        "ratios": {
            "ours_over_plain_seconds": round(statistics.median(ratios), 4),
            "ours_over_plain_seconds_interval": [round(float(end), 4) for end in interval],
            "ours_over_plain_peak": ratio("ours", "plain", "peak_gib"),
            "packed_over_copied_tokens_per_second": ratio("packed", "copied", "tokens_per_second"),
            "packed_over_copied_peak": ratio("packed", "copied", "peak_gib"),
        },
        "seconds_of_each_round": {
            way: [round(row["seconds"], 2) for row in rows] for way, rows in taken.items()
        },
        "machine": {
            "cpu": platform.machine(),
            "cores": os.cpu_count(),
            "gpu": None,
            "load_when_done": round(os.getloadavg()[0], 2),
        },
        "versions": {name: version(name) for name in PACKAGES},
    }
    text = json.dumps(result, indent=1) + "\n"
    Path(__file__).with_suffix(".json").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
