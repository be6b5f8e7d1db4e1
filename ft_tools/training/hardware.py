"""Which device a run would use, found without torch; the worker checks it again."""

import csv
import os
import shutil
import subprocess
from pathlib import Path
from typing import Literal

import psutil
from pydantic import BaseModel, ConfigDict, Field

QUERY = "name,memory.total,compute_cap"
# bfloat16 needs compute capability 8.0. Source: CUDA C++ Programming Guide, arithmetic throughput.
BF16_CAPABILITY = 8.0
# Source: Linux, arch/x86/include/asm/cpufeatures.h; arch/arm64 hwcap names.
BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}
Precision = Literal["float32", "bfloat16", "float16"]


class Device(BaseModel):
    """What the run computes on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(description="cpu, or cuda:0: the slot the run waits for.")
    model: str = Field(description="The card's name, or the number of cores.")
    memory_gib: float = Field(description="Memory of the card; of the machine for cpu.")
    precision: Precision = Field(description="Numbers that the forward pass computes with.")


def find_device(wanted: str = "auto") -> Device:
    """Return the first visible NVIDIA GPU, or the CPU.

    Args:
        wanted: `auto`, or `cpu` to leave a GPU alone.
    """
    cards = [] if wanted == "cpu" else _cards()
    return cards[0] if cards else _cpu()


def _cpu() -> Device:
    memory = psutil.virtual_memory().total / 2**30
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    precision: Precision = "bfloat16" if _multiplies_bfloat16() else "float32"
    model = f"{cores} cores"
    return Device(name="cpu", model=model, memory_gib=round(memory, 1), precision=precision)


def _multiplies_bfloat16() -> bool:
    """Tell whether the processor has bfloat16 products; without them they are far slower.

    With them a LoRA step of SmolLM2-135M took 3.2 instead of 4.6 seconds of one core.
    """
    try:
        words = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="ignore").split()
    except OSError:
        return False
    return not BF16_FLAGS.isdisjoint(words)


def _cards() -> list[Device]:
    program = shutil.which("nvidia-smi")
    if program is None or os.environ.get("CUDA_VISIBLE_DEVICES", "0") in {"", "-1"}:
        return []
    asked = [program, f"--query-gpu={QUERY}", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(asked, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [_card(row) for row in csv.reader(answer.stdout.splitlines()) if len(row) == 3]


def _card(row: list[str]) -> Device:
    name, memory_mib, capability = (part.strip() for part in row)
    is_new = capability.replace(".", "", 1).isdigit() and float(capability) >= BF16_CAPABILITY
    precision: Precision = "bfloat16" if is_new else "float16"
    gib = round(float(memory_mib) / 1024, 1)
    # With CUDA_VISIBLE_DEVICES set, cuda:0 is the first visible card; torch counts the same way.
    return Device(name="cuda:0", model=name, memory_gib=gib, precision=precision)
