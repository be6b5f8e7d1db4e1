"""The devices of this machine, found without torch: its GPUs, or its processor and memory."""

import contextlib
import csv
import glob
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from ft_tools.errors import BadInput, Missing
from ft_tools.runs.hardware import memory

CPU = "cpu"
SHOWN_VARIABLE = "CUDA_VISIBLE_DEVICES"
QUERY = "index,uuid,name,memory.total,memory.used,compute_cap,driver_version,mig.mode.current"
DRIVER_SECONDS = 10.0
"""nvidia-smi may take this long: without a persistence daemon it wakes every card."""
# A part of a divided card, as nvidia-smi -L lists it: `MIG 3g.20gb  Device  0: (UUID: MIG-...)`.
MIG_LINE = re.compile(r"^\s+MIG .*?\.(\d+)gb\S*\s+Device\s+\d+:\s+\(UUID:\s*(MIG-\S+)\)")
CARD_LINE = re.compile(r"^GPU \d+: .*\(UUID:\s*(GPU-\S+)\)")
# The name of a part counts gigabytes that CUDA does not all give: 19.6 GiB of a 3g.20gb.
# Source: https://docs.nvidia.com/datacenter/tesla/mig-user-guide/, table of profiles.
MIG_USABLE = 0.95
# bfloat16 needs compute capability 8.0. Source: CUDA C++ Programming Guide, arithmetic throughput.
BF16_CAPABILITY = 8.0
# Source: Linux, arch/x86/include/asm/cpufeatures.h; arch/arm64 hwcap names.
BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}
# Device files that an NVIDIA driver makes: Linux, WSL, Jetson.
NVIDIA_FILES = ("/dev/nvidia[0-9]*", "/dev/dxg", "/dev/nvhost-gpu", "/dev/nvgpu/*")
AMD_FILES = ("/dev/kfd",)
FILES_VARIABLE = "FINE_TUNING_LLM_DEVICE_FILES"
"""Folder in place of / where device files are looked for, for tests of this."""
Precision = Literal["float32", "bfloat16", "float16"]


class Card(BaseModel):
    """A GPU, or a part of one (MIG)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    index: int
    uuid: str = Field(description="The name by which CUDA_VISIBLE_DEVICES takes it.")
    model: str
    memory_gib: float
    used_gib: float = 0.0
    capability: float | None = None
    driver: str = ""

    def is_like(self, other: "Card") -> bool:
        """Return whether both are of one model with as much memory."""
        return (self.model, self.memory_gib) == (other.model, other.memory_gib)


class Device(BaseModel):
    """What each process of a run computes on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(description="cpu or cuda.")
    model: str = Field(description="The GPU's name, or the number of cores.")
    memory_gib: float = Field(description="Memory of one GPU; for cpu, of the machine.")
    precision: Precision = Field(description="Number format of the forward pass.")
    capability: float | None = Field(None, description="CUDA compute capability.")
    driver: str = Field("", description="Version of the GPU driver.")
    cards: list[str] = Field(
        default_factory=list,
        description="UUIDs of the GPUs that it may use; it takes one per process, whichever are "
        "free.",
    )


def find_device(wanted: str = "auto", processes: int = 1) -> Device:
    """Return the GPUs that a run may use, or the CPU.

    Of GPUs that differ, those with the most memory are taken, as long as there are enough of them.

    Args:
        wanted: auto, cpu, cuda (a GPU or an error), cuda:N or a UUID for a certain one.
        processes: Processes of the run, one per GPU.

    Raises:
        BadInput: `wanted` names no GPU, or there are fewer than processes.
        Missing: A GPU is there, and its driver does not answer; or none is, and one is wanted.
    """
    cards = [] if wanted == CPU else find_cards()
    if wanted not in {CPU, "auto", "cuda"}:
        cards = _named(wanted, cards)
    if not cards and wanted == "cuda":
        raise Missing('device="cuda": this machine has no visible NVIDIA GPU; use "auto" or "cpu"')
    if not cards:
        return _cpu()
    largest = max(cards, key=lambda card: card.memory_gib)
    same = [card for card in cards if card.is_like(largest)]
    chosen = same if len(same) >= processes else cards
    if processes > 1 and any(card.uuid.startswith("MIG-") for card in chosen):
        raise BadInput(
            f"processes={processes}: parts of a GPU (MIG) cannot work together; use processes=1"
        )
    if len(chosen) < processes:
        raise BadInput(
            f"processes={processes}: this machine has {len(cards)} visible GPUs; use at most that "
            'many, or device="cpu"'
        )
    least = min(chosen, key=lambda card: card.memory_gib)
    capability = min((c.capability for c in chosen if c.capability is not None), default=None)
    # Training in bfloat16 has to be known to work; float16 works on every GPU.
    is_new = capability is not None and has_bfloat16(capability)
    return Device(
        name="cuda",
        model=least.model,
        memory_gib=least.memory_gib,
        precision="bfloat16" if is_new else "float16",
        capability=capability,
        driver=least.driver,
        cards=[card.uuid for card in chosen],
    )


def has_bfloat16(capability: float | None) -> bool:
    """Return whether a GPU computes in bfloat16; taken for granted where nothing is known of it.

    >>> has_bfloat16(7.5), has_bfloat16(8.0), has_bfloat16(None)
    (False, True, True)
    """
    return capability is None or capability >= BF16_CAPABILITY


def find_cards() -> list[Card]:
    """Return the visible NVIDIA GPUs, in CUDA's order; a divided one as its parts.

    Raises:
        Missing: There are device files of a GPU, and nvidia-smi does not answer.
    """
    if all_are_hidden():
        return []
    answer = _nvidia_smi(f"--query-gpu={QUERY}", "--format=csv,noheader,nounits")
    rows = [[part.strip() for part in row] for row in csv.reader((answer or "").splitlines())]
    if answer is not None and all(len(row) == len(QUERY.split(",")) for row in rows):
        return _visible([card for row in rows for card in _cards(row)])
    if files := device_files(NVIDIA_FILES):
        raise Missing(
            f"{files[0]} shows an NVIDIA GPU on this machine, but nvidia-smi does not answer; "
            "install the driver, give a container NVIDIA_DRIVER_CAPABILITIES=compute,utility, or "
            'choose the CPU with device="cpu"'
        )
    return []


def driver_cuda() -> str:
    """Return the latest CUDA that the NVIDIA driver knows, as in 12.4; empty where none answers."""
    version = re.search(r"CUDA Version:\s*([\d.]+)", _nvidia_smi() or "")
    return version[1] if version else ""


def device_files(patterns: tuple[str, ...]) -> list[str]:
    """Return the device files that match, sorted."""
    root = os.environ.get(FILES_VARIABLE, "")
    return sorted(file for pattern in patterns for file in glob.glob(root + pattern))


def unused_gpu() -> str:
    """Return a warning when this machine has an AMD GPU, which nothing here can use."""
    files = [] if all_are_hidden() else device_files(AMD_FILES)
    return (
        f"{files[0]} shows an AMD GPU; ROCm is not supported, so the CPU is used" if files else ""
    )


def all_are_hidden() -> bool:
    """Return whether CUDA_VISIBLE_DEVICES shows no card."""
    shown = os.environ.get(SHOWN_VARIABLE)
    return shown is not None and not shown.strip(" ,")


def _cpu() -> Device:
    gib = memory.total_bytes() / 2**30
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    # Without bfloat16 products they are far slower; with them a LoRA step of SmolLM2-135M took 3.2
    # instead of 4.6 seconds of one core.
    words: list[str] = []
    with contextlib.suppress(OSError):
        words = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="ignore").split()
    precision: Precision = "float32" if BF16_FLAGS.isdisjoint(words) else "bfloat16"
    return Device(name=CPU, model=f"{cores} cores", memory_gib=round(gib, 1), precision=precision)


def _named(wanted: str, cards: list[Card]) -> list[Card]:
    """Return the one GPU that is meant by cuda:N or a UUID."""
    kind, _, number = wanted.partition(":")
    if kind == "cuda":
        found = cards[int(number) : int(number) + 1]
    else:
        found = [card for card in cards if card.uuid.startswith(wanted)]
    if len(found) != 1:
        known = [f"cuda:{place} {card.uuid}" for place, card in enumerate(cards)]
        choices = ", ".join([*known, CPU])
        raise BadInput(f"device={wanted!r} is not a visible GPU; use one of: {choices}")
    return found


def _cards(row: list[str]) -> list[Card]:
    """Return the card of a row that nvidia-smi printed; a divided one (MIG) as its parts."""
    index, uuid, name, total, used, capability, driver, mig = row
    # A card that shares the machine's memory has none of its own to name.
    gib = _number(total) / 1024 or memory.total_bytes() / 2**30
    card = Card(
        index=int(index),
        uuid=uuid,
        model=name,
        memory_gib=round(gib, 1),
        used_gib=round(_number(used) / 1024, 1),
        capability=_number(capability) or None,
        driver=driver if driver[:1].isdigit() else "",
    )
    if mig != "Enabled":
        return [card]
    found, owner = [], ""
    for line in (_nvidia_smi("-L") or "").splitlines():
        owner = named[1] if (named := CARD_LINE.match(line)) else owner
        if owner == uuid and (part := MIG_LINE.match(line)):
            gib = round(int(part[1]) * MIG_USABLE, 1)
            own = {"uuid": part[2], "memory_gib": gib, "used_gib": 0.0}
            found.append(card.model_copy(update=own))
    return found


def _nvidia_smi(*arguments: str) -> str | None:
    """Return what nvidia-smi prints; None where it is missing, fails or takes too long."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    argv, seconds = [program, *arguments], DRIVER_SECONDS
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(argv, capture_output=True, text=True, timeout=seconds, check=True)
        return done.stdout
    return None


def _visible(cards: list[Card]) -> list[Card]:
    """Return the cards that CUDA shows, in its order."""
    shown, found = os.environ.get(SHOWN_VARIABLE), []
    if shown is None:
        return cards
    for name in map(str.strip, shown.split(",")):
        same = (c for c in cards if name and (name == str(c.index) or c.uuid.startswith(name)))
        card = next(same, None)
        if card is None:
            # Behind a name that it does not know, CUDA shows none.
            break
        found.append(card)
    return found


def _number(text: str) -> float:
    return float(text) if text.replace(".", "", 1).isdigit() else 0.0
