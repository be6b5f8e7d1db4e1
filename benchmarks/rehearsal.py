"""Plan the whole chain for real models on machines that are not here.

8B, 70B and 30B-A3B by their own configs, against cards (an nvidia-smi on PATH), memory and
container limits that are made up: where training, merging, quantizing and evaluation would be
loaded, what they take, and what is refused. Nothing is loaded. Prints a table and writes
rehearsal.json.

    python -m benchmarks.rehearsal
"""

import json
import os
import sys
import tempfile
from collections import namedtuple
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import psutil

from ft_tools.errors import FineTuningError
from ft_tools.evaluation.systems.models import decide
from ft_tools.memory.request import VramRequest
from ft_tools.memory.tool import estimate_vram
from ft_tools.models.machine import this_machine
from ft_tools.models.quantized import NF4
from ft_tools.models.resolve import ModelSource
from ft_tools.models.size import ModelSize, size_of
from ft_tools.runs.hardware import memory
from ft_tools.shipping import estimates, formats

GIB = 2**30
MODELS = {
    "8B": "meta-llama/Llama-3.1-8B",
    "70B": "meta-llama/Llama-3.1-70B",
    "30B-A3B": "Qwen/Qwen3-30B-A3B",
}
FORMATS = ("gguf:Q4_K_M", "gptq:4")
Memory = namedtuple("Memory", ["total", "available"])


@dataclass(frozen=True)
class Fake:
    """A machine that is made up: cards and memory in GiB, and a container's limit."""

    name: str
    cards: tuple[int, ...]
    ram: int
    limit: int | None = None


MACHINES = (
    Fake("24 GB card, 64 GB", (24,), 64),
    Fake("80 GB card, 64 GB", (80,), 64),
    Fake("2x80 GB, 64 of 512 GB", (80, 80), 512, 64),
    Fake("no card, 64 GB", (), 64),
)


@contextmanager
def pretended(fake: Fake) -> Iterator[None]:
    """Have this process see a machine."""
    with tempfile.TemporaryDirectory() as where:
        folder = Path(where)
        rows = "".join(
            f"{i}, GPU-{i}, NVIDIA A100, {gib * 1024}, 0, 8.0, 535.54, [N/A]\\n"
            for i, gib in enumerate(fake.cards)
        )
        driver = folder / "nvidia-smi"
        driver.write_text(f"#!/bin/sh\nprintf '{rows}'\n" if fake.cards else "#!/bin/sh\nexit 9\n")
        driver.chmod(0o755)
        (folder / "cgroup").write_text("0::/\n")
        if fake.limit:
            (folder / "memory.max").write_text(f"{fake.limit * GIB}\n")
            (folder / "memory.current").write_text("0\n")
        has = Memory(fake.ram * GIB, fake.ram * GIB)
        path = os.pathsep.join([where, os.environ["PATH"]])
        with (
            patch.dict(os.environ, {"PATH": path}),
            patch.object(memory, "OWN_GROUPS", folder / "cgroup"),
            patch.object(memory, "CGROUPS", folder),
            patch.object(psutil, "virtual_memory", lambda: has),
        ):
            os.environ.pop("CUDA_VISIBLE_DEVICES", None)
            yield


def row(name: str, fake: Fake) -> dict[str, object]:
    """Return what every step of the chain would do with a model on a machine."""
    source = ModelSource(name=MODELS[name], kind="hub")
    size = size_of(source)
    assert size is not None
    with pretended(fake):
        machine = this_machine()
        runs_on = estimates.placement_of(size, machine, None)
        made = {kind: _format(kind, size) for kind in FORMATS}
        return {
            "model": name,
            "machine": fake.name,
            "train_lora": _fits(name, fake, "lora"),
            "train_qlora": _fits(name, fake, "qlora"),
            "prove_merge": _where(runs_on) if runs_on else "weight by weight",
            "merge_ram_gib": round(estimates.ram_bytes(size, runs_on) / GIB, 1),
            **made,
            "evaluate": _evaluated(size, None),
            "evaluate_qlora": _evaluated(size, NF4),
            "disk_gb": round(_disk(size) / 1e9),
        }


def _fits(name: str, fake: Fake, method: str) -> str:
    if not fake.cards:
        return "-"
    several = {"num_gpus": len(fake.cards), "sharding": "fsdp" if method == "lora" else "ddp"}
    asked = {
        "model": MODELS[name],
        "method": method,
        "seq_len": 1024,
        "micro_batch": 1,
        "gpu_memory_gib": float(fake.cards[0]),
        "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"],
        **(several if len(fake.cards) > 1 else {}),
    }
    report = estimate_vram(VramRequest.model_validate(asked))
    return f"{report.fits} {report.peak_allocated_gib:.1f}"


def _format(name: str, size: ModelSize) -> str:
    planned = formats.find(name)
    try:
        estimates.require_possible([planned], size, this_machine(), None)
    except FineTuningError:
        return "refused"
    return f"{estimates.format_bytes(planned, size) / GIB:.1f}"


def _evaluated(size: ModelSize, trained: dict[str, object] | None) -> str:
    try:
        plan = decide(size, this_machine(), trained)
    except FineTuningError:
        return "refused"
    where, numbers = ("cpu" if plan.on_cpu else "GPU"), ("4-bit" if plan.four_bit else plan.dtype)
    return f"{where} {numbers} {plan.num_bytes / GIB:.1f}"


def _where(place: object) -> str:
    return f"{place.device} {place.dtype} {place.num_bytes / GIB:.1f}"  # type: ignore[attr-defined]


def _disk(size: ModelSize) -> int:
    row = formats.find("gguf:Q4_K_M")
    planned = {row.name: estimates.format_bytes(row, size)}
    needs = estimates.disk_needs(planned, size, is_fetched=True, has_gguf=True, environment_bytes=0)
    return sum(needs.values())


def table() -> list[dict[str, object]]:
    """Return a row for each model on each machine."""
    return [row(name, fake) for name in MODELS for fake in MACHINES]


def main() -> None:
    """Print the table and keep it."""
    rows = table()
    widths = {key: max(len(key), *(len(str(one[key])) for one in rows)) for key in rows[0]}
    for one in [{key: key for key in widths}, *rows]:
        sys.stdout.write("  ".join(str(one[key]).ljust(widths[key]) for key in widths) + "\n")
    Path(__file__).with_suffix(".json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
