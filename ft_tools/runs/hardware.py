"""Which device a run would use, found without torch; the worker checks it again."""

import csv
import os
import shutil
import subprocess
from pathlib import Path
from typing import Literal

import psutil
from pydantic import BaseModel, ConfigDict, Field

# What the variable may call a card, and what is asked of each.
NAMES = "index,uuid"
QUERY = "name,memory.total,compute_cap"
# Source: nvidia-smi --help-query-gpu.
HEAT_QUERY = (
    "temperature.gpu,clocks_event_reasons.hw_thermal_slowdown,"
    "clocks_event_reasons.sw_thermal_slowdown"
)
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
    found = [] if wanted == "cpu" else cards()
    return found[0] if found else _cpu()


def num_cards() -> int:
    """Return how many NVIDIA GPUs are visible."""
    return len(cards())


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


def heat(device: str) -> dict[str, float]:
    """Return `temperature_celsius` and whether heat slows the device down (`thermal_throttling`).

    Args:
        device: cpu, or cuda:0.

    Returns:
        Metrics; empty where the machine does not tell.
    """
    if device == "cpu":
        return _cpu_heat()
    for degrees, *slowed in _ask_driver(HEAT_QUERY):
        if degrees.isdigit():
            is_slowed = "Active" in slowed
            return {"temperature_celsius": float(degrees), "thermal_throttling": float(is_slowed)}
    return {}


def _cpu_heat() -> dict[str, float]:
    if not hasattr(psutil, "sensors_temperatures"):
        return {}
    sensors = [s for group in psutil.sensors_temperatures().values() for s in group]
    if not sensors:
        return {}
    # The kernel names the temperature from which on a sensor's chip protects itself.
    is_slowed = any(s.critical and s.current >= s.critical for s in sensors)
    hottest = max(sensor.current for sensor in sensors)
    return {"temperature_celsius": float(hottest), "thermal_throttling": float(is_slowed)}


def cards() -> list[Device]:
    """Return the visible NVIDIA GPUs, in the order in which CUDA counts them."""
    return [_card(row) for row in _ask_driver(QUERY) if len(row) == 3]


def _ask_driver(query: str) -> list[list[str]]:
    """Return nvidia-smi's answer, a row a visible card; empty without a driver or such a card."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    asked = [program, f"--query-gpu={NAMES},{query}", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(asked, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [[part.strip() for part in row] for row in csv.reader(answer.stdout.splitlines())]
    return [row[2:] for row in _visible([row for row in rows if len(row) > 2])]


def _visible(rows: list[list[str]]) -> list[list[str]]:
    """Return the cards that CUDA shows, in its order; a row begins with index and uuid."""
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    if shown is None:
        return rows
    found = []
    for name in map(str.strip, shown.split(",")):
        if name.startswith("MIG-"):
            # A part of a card; the driver lists whole ones here.
            return rows[:1]
        same = (row for row in rows if name and (name == row[0] or row[1].startswith(name)))
        card = next(same, [])
        if not card:
            # Behind a name that it does not know, CUDA shows none.
            break
        found.append(card)
    return found


def _card(row: list[str]) -> Device:
    name, memory_mib, capability = row
    is_new = capability.replace(".", "", 1).isdigit() and float(capability) >= BF16_CAPABILITY
    precision: Precision = "bfloat16" if is_new else "float16"
    # A card that shares the machine's memory has none of its own to name.
    is_own = memory_mib.replace(".", "", 1).isdigit()
    gib = float(memory_mib) / 1024 if is_own else psutil.virtual_memory().total / 2**30
    # cuda:0 is the first visible card; torch counts the same way.
    return Device(name="cuda:0", model=name, memory_gib=round(gib, 1), precision=precision)
