"""Measure an SFT run of this package against the plain TRL script of the same plan.

`python benchmarks/training.py [MODEL] [STEPS]`, MODEL a folder in the workspace or a Hub id that is
in the cache. Both train the same examples with the same arguments, in turn; the plain script is
the export of the plan. Compared are processor and wall seconds of the whole process, and the
seconds of the training loop. A third way is the recipe that is often copied: every example padded
to max_length, no bfloat16. The result is `benchmarks/training.json`; quote the ratios.
"""

import json
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from ft_tools import workspace
from ft_tools.publish import private_folder
from ft_tools.runs.records import RunInfo
from ft_tools.training import exports
from ft_tools.training.planning import plan_sft
from ft_tools.training.requests import SftRequest

ROUNDS = int(os.environ.get("ROUNDS", "3"))
DEMO = "HuggingFaceTB/SmolLM2-135M-Instruct"
PACKAGES = ("torch", "transformers", "trl", "peft")
LENGTH = 256
BATCH = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2}


def examples(number: int) -> list[dict[str, object]]:
    """Return questions of about 30 tokens with answers of 10 to 60, as short-text data has them."""
    return [
        {
            "messages": [
                {
                    "role": "user",
                    "content": f"Write the ticket for parcel {i}, late by {i % 9} days.",
                },
                {
                    "role": "assistant",
                    "content": json.dumps({"parcel": i, "notes": ["late", "call back"] * (i % 6)}),
                },
            ]
        }
        for i in range(number)
    ]


def measured(command: list[str]) -> dict[str, float]:
    """Run a process; its wall and processor seconds, training seconds and peak memory."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wall = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = re.findall(r"'train_runtime': '?([\d.]+)", done.stdout + done.stderr)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall_seconds": wall, "cpu_seconds": cpu, "loop_seconds": float(found[-1])}


def run_dir_of(request: SftRequest, name: str) -> Path:
    """Write a run directory as a launch does."""
    plan = plan_sft(request)
    run_dir = workspace.runs_dir() / f"sft-{name.encode().hex():0>16}"[:20]
    private_folder(run_dir)
    info = RunInfo(run_id=run_dir.name, kind="sft", created_at=time.time())
    for file, record in {"run": info, "request": request, "plan": plan}.items():
        (run_dir / f"{file}.json").write_text(record.model_dump_json(), encoding="utf-8")
    return run_dir


def copied_recipe(text: str) -> str:
    """Turn the plain script into the recipe that is often copied."""
    text = re.sub(r"'bf16': \w+", "'bf16': False", text)
    return text.replace("TRAINING = {", f"TRAINING = {{'pad_to_multiple_of': {LENGTH}, ", 1)


def main() -> None:
    """Measure in a folder of its own inside the workspace."""
    with tempfile.TemporaryDirectory(dir=workspace.roots()[0]) as folder:
        compare(Path(folder))


def compare(folder: Path) -> None:
    """Measure in turn and write the medians and their ratios."""
    model = sys.argv[1] if len(sys.argv) > 1 else DEMO
    steps = int(sys.argv[2]) if len(sys.argv) > 2 else 20
    rows = "".join(json.dumps(row) + "\n" for row in examples(8 * steps))
    (folder / "train.jsonl").write_text(rows, encoding="utf-8")
    training = {**BATCH, "max_length": LENGTH, "max_steps": steps, "save_steps": steps}
    request = SftRequest(model=model, dataset=str(folder / "train.jsonl"), training=training)
    plain = folder / "plain.py"
    plain.write_text(exports.script(plan_sft(request)), encoding="utf-8")
    copied = folder / "copied.py"
    copied.write_text(copied_recipe(plain.read_text()), encoding="utf-8")
    os.chdir(folder)
    taken: dict[str, list[dict[str, float]]] = {"plain": [], "ours": [], "copied": []}
    for number in range(ROUNDS):
        ours = run_dir_of(request, f"b{number}{os.getpid() % 1000}")
        taken["plain"].append(measured([sys.executable, str(plain)]))
        worker = [sys.executable, "-m", "ft_tools.workers.sft", str(ours)]
        taken["ours"].append(measured(worker))
        taken["copied"].append(measured([sys.executable, str(copied)]))
    medians = {
        way: {key: round(statistics.median(row[key] for row in rows), 2) for key in rows[0]}
        for way, rows in taken.items()
    }
    ratios = {
        f"{way}_over_plain_{key}": round(medians[way][key] / medians["plain"][key], 3)
        for way in ("ours", "copied")
        for key in medians["plain"]
    }
    result = {
        "model": model if not Path(model).exists() else Path(model).name,
        "steps": steps,
        "rounds": ROUNDS,
        "medians": medians,
        "ratios": ratios,
        "machine": {"cpu": platform.machine(), "cores": os.cpu_count(), "load": os.getloadavg()},
        "versions": {name: version(name) for name in PACKAGES},
    }
    text = json.dumps(result, indent=1) + "\n"
    Path(__file__).with_suffix(".json").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
