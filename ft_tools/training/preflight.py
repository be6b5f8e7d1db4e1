"""Before a run is offered: does its environment, on its device, do what the run will do?

A process of its own tries it (`ft_tools/training/worker/preflight.py`), at most SECONDS long, and
what passed is remembered for the environment. What fails is in the plan by name, with the cure.
"""

import hashlib
import importlib.metadata
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from ft_tools import workspace
from ft_tools.publish import private_folder, write_file
from ft_tools.runs.hardware.devices import Device
from ft_tools.runs.hardware.gpu_environment import HIDING
from ft_tools.runs.processes.start import command, environment
from ft_tools.training.findings import warning

VARIABLE = "FINE_TUNING_LLM_PREFLIGHT"
"""0 skips it."""
SECONDS = 20.0
AGAIN_SECONDS = 600.0
"""After one that took too long."""
LIBRARIES = ("torch", "transformers", "trl", "peft", "bitsandbytes", "accelerate")
State = Literal["passed", "failed", "skipped"]


class Question(BaseModel):
    """What is tried."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    device: str
    precision: str
    quantized: bool
    attention: str


class Checked(BaseModel):
    """One thing that was tried."""

    id: Literal["device", "matmul", "nf4", "attention", "loss", "memory", "unfinished", "process"]
    state: State
    error: str = ""
    """Class of the error; its text is in the log."""
    free_gib: float | None = None
    total_gib: float | None = None


Answer = TypeAdapter(list[Checked])


def checked(device: Device, *, quantized: bool, attention: str = "sdpa") -> list[Checked]:
    """Try in small what a run on a device does; what passed before is not tried again.

    Args:
        device: The run's.
        quantized: Whether the base is loaded in 4 bits.
        attention: Implementation, as transformers names it.

    Returns:
        The checks; empty where the libraries are not installed or the user skips it.
    """
    try:
        versions = [f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES]
    except importlib.metadata.PackageNotFoundError:
        return []
    if os.environ.get(VARIABLE) == "0":
        return []
    question = Question(
        device="cuda" if device.name == "cuda" else "cpu",
        precision=device.precision,
        quantized=quantized,
        attention=attention,
    )
    on = [sys.executable, device.model, device.driver, str(device.capability)]
    text = json.dumps([versions, on, question.model_dump()])
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    kept = workspace.cache_dir() / "preflight" / f"{digest}.json"
    try:
        return Answer.validate_json(kept.read_bytes())
    except (OSError, ValidationError):
        pass
    private_folder(kept.parent)
    log = kept.with_suffix(".log")
    late = kept.with_suffix(".late")
    if late.exists() and time.time() - late.stat().st_mtime < AGAIN_SECONDS:
        # Nobody waits in vain for each plan.
        return [Checked(id="unfinished", state="skipped")]
    found = _asked(question, device, log)
    if any(one.id == "unfinished" for one in found):
        late.touch()
    if all(one.state == "passed" for one in found):
        write_file(kept, Answer.dump_json(found).decode())
    return found


def problems(checks: list[Checked], device: Device) -> list[str]:
    """Return what failed, by name and with the cure."""
    return [
        warning(f"preflight_{one.id}", device=device.model, error=one.error)
        for one in checks
        if one.state == "failed"
    ]


def _asked(question: Question, device: Device, log: Path) -> list[Checked]:
    ours = environment() | ({} if question.device == "cuda" else dict(HIDING))
    if device.cards:
        ours |= {"CUDA_VISIBLE_DEVICES": device.cards[0], "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    argv = command("ft_tools.training.worker.preflight", question.model_dump_json())
    try:
        with log.open("wb") as errors:
            done = subprocess.run(
                argv, stdout=subprocess.PIPE, stderr=errors, timeout=SECONDS, check=True, env=ours
            )
        # Imports of libraries may print before it.
        return Answer.validate_json(done.stdout.rpartition(b"\n")[2])
    except subprocess.TimeoutExpired:
        return [Checked(id="unfinished", state="skipped")]
    except (OSError, subprocess.SubprocessError, ValidationError) as error:
        return [Checked(id="process", state="failed", error=type(error).__name__)]
