"""How well the time that a plan names covers what its run takes: twelve trainings of other shapes.

`python -m benchmarks.times` plans and starts each by the command, in a workspace and a cache of its
own, as a user's first run of that shape, and writes benchmarks/times.json. The model is the whole
SmolLM2-135M-Instruct, the rows are made here. It takes about half an hour of an idle machine with
two cores; on a busy one the times mean little.
"""

import json
import os
import platform
import random
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.audit import processor
from ft_tools.models import demo

OUT = Path(__file__).with_name("times.json")
SEED = 5
WORDS = ("red", "blue", "parcel", "late", "order", "kettle", "street", "invoice", "refund", "shop")


@dataclass(frozen=True)
class Shape:
    """A training to estimate and to time."""

    name: str
    words: tuple[int, int]
    """Of a question and of its answer."""
    steps: int
    training: dict[str, Any] = field(default_factory=dict)
    kind: str = "sft"
    options: tuple[str, ...] = ()
    rows: int = 400


def _batch(size: int, accumulation: int, **more: Any) -> dict[str, Any]:
    return {"per_device_train_batch_size": size, "gradient_accumulation_steps": accumulation} | more


SHAPES = (
    Shape("short rows, batch 4", (12, 4), 16, _batch(4, 1)),
    Shape("short rows, batch 8 x 2", (12, 4), 10, _batch(8, 2)),
    Shape("single rows", (20, 10), 30, _batch(1, 1)),
    Shape("middle rows, batch 4", (60, 30), 10, _batch(4, 1)),
    Shape("long answers, batch 2", (40, 160), 10, _batch(2, 1)),
    Shape("long rows, batch 1 x 4", (300, 60), 6, _batch(1, 4)),
    Shape("checkpointed", (60, 30), 8, _batch(4, 1, gradient_checkpointing=True)),
    Shape("full", (20, 10), 12, _batch(4, 1), options=("--method", "full")),
    Shape("evaluated every 4 steps", (20, 10), 16, _batch(4, 1, eval_steps=4)),
    Shape("float32, rank 64", (30, 15), 10, _batch(4, 1, bf16=False), options=("--peft.r", "64")),
    Shape("pairs", (20, 12), 8, _batch(4, 1), kind="dpo"),
    Shape("marks", (20, 12), 8, _batch(4, 1), kind="kto"),
)  # fmt: skip


def rows_of(shape: Shape) -> list[dict[str, Any]]:
    """Return rows of about the words of a shape, no two alike."""
    chance = random.Random(SEED)

    def text(words: int) -> str:
        number = max(1, round(words * chance.uniform(0.6, 1.4)))
        return " ".join([str(chance.randrange(10**6)), *chance.choices(WORDS, k=number)])

    made: list[dict[str, Any]] = []
    for at in range(shape.rows):
        question = {"role": "user", "content": text(shape.words[0])}
        answer, other = ([{"role": "assistant", "content": text(shape.words[1])}] for _ in range(2))
        row: dict[str, dict[str, Any]] = {
            "sft": {"messages": [question, *answer]},
            "dpo": {"prompt": [question], "chosen": answer, "rejected": other},
            "kto": {"prompt": [question], "completion": answer, "label": at % 2 == 0},
        }
        made.append(row[shape.kind])
    return made


def measure(shape: Shape, folder: Path) -> dict[str, Any]:
    """Return what the plan of a shape says its run takes, and what that takes."""
    work = folder / "work"
    work.mkdir(parents=True)
    text = "".join(json.dumps(row) + "\n" for row in rows_of(shape))
    (work / "train.jsonl").write_text(text, encoding="utf-8")
    environment = os.environ | {
        "FINE_TUNING_LLM_WORKSPACE": f"{work}{os.pathsep}{demo.folder()}",
        "XDG_CACHE_HOME": str(folder / "cache"),
        "HF_HUB_OFFLINE": "1",
    }
    tool = "launch-dpo" if shape.kind in ("dpo", "kto") else "launch-sft"
    training = json.dumps(shape.training | {"max_steps": shape.steps})
    command = [
        *(sys.executable, "-m", "ft_tools", tool, str(demo.folder()), "train.jsonl"),
        *("--training", training, *shape.options, "--json"),
    ]

    def call(*more: str) -> Any:
        done = subprocess.run(
            [*command, *more],
            cwd=work,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{shape.name}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        return json.loads(done.stdout)

    planned = call()["plan"]["estimate"]["duration"]
    report = call("--yes")
    seconds = report["progress"]["elapsed_seconds"]
    low, high = planned["low_seconds"], planned["high_seconds"]
    return {
        "shape": shape.name,
        "steps": shape.steps,
        "low_seconds": low,
        "high_seconds": high,
        "seconds": round(seconds, 1),
        "covered": low <= seconds <= high,
        "high_over_low": round(high / low, 2),
        "source": planned["source"],
    }


def main() -> None:
    """Measure all shapes, or those whose names begin with an argument."""
    if not demo.is_ready():
        raise SystemExit("run `fine-tuning-llm demo --only-model` first")
    wanted = sys.argv[1:]
    found = []
    for shape in SHAPES:
        if wanted and not any(shape.name.startswith(one) for one in wanted):
            continue
        with tempfile.TemporaryDirectory() as folder:
            found.append(measure(shape, Path(folder)))
        print(json.dumps(found[-1]), flush=True)
    if not wanted:
        made = {
            "machine": f"{processor()}, {os.cpu_count()} cores",
            "python": platform.python_version(),
            "versions": {name: version(name) for name in ("torch", "transformers", "trl")},
            "covered": sum(one["covered"] for one in found),
            "runs": found,
        }
        OUT.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
