"""Before a run is offered: does its environment, on its device, do what the run will do?

A process of its own tries it (`ft_tools/training/worker/preflight.py`), at most SECONDS long, and
what passed is remembered for the environment. What fails is in the plan by name, with the cure.
"""

import contextlib
import os
import sys
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter

from ft_tools.errors import FineTuningError
from ft_tools.runs.hardware.devices import Device, driver_cuda, find_cards
from ft_tools.runs.hardware.gpu_environment import HIDING
from ft_tools.runs.processes import remembered_answer
from ft_tools.training.findings import warning

VARIABLE = "FINE_TUNING_LLM_PREFLIGHT"
"""0 skips it."""
SECONDS = 20.0
LIBRARIES = ("torch", "transformers", "trl", "peft", "bitsandbytes", "accelerate", "triton",
             "kernels", "flash_attn")  # fmt: skip
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
    torch: str = ""
    """The installed build, where it cannot use the device."""
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
        The checks; empty where the user skips it.
    """
    if os.environ.get(VARIABLE) == "0":
        return []
    on_gpu = device.name == "cuda"
    question = Question(
        device="cuda" if on_gpu else "cpu",
        precision=device.precision,
        quantized=quantized,
        attention=attention,
    )
    on = [sys.executable, device.model, device.driver, str(device.capability)]
    try:
        return remembered_answer.ask(
            "ft_tools.training.worker.preflight",
            Answer,
            question=question.model_dump_json(),
            depends_on=[remembered_answer.versions(LIBRARIES), on, question.model_dump()],
            seconds=SECONDS,
            variables=variables(device),
            keeps=lambda found: all(one.state == "passed" for one in found),
            waits_again=False,
        )
    except remembered_answer.Unanswered as error:
        if error.kind == "timeout":
            return [Checked(id="unfinished", state="skipped")]
        return [Checked(id="process", state="failed", error=error.kind)]


def problems(checks: list[Checked], device: Device) -> tuple[list[str], list[str]]:
    """Return what failed and what nobody knows yet, each by name and with the cure."""
    failed = [
        warning(f"preflight_{one.id}", **fields(one, device))
        for one in checks
        if one.state == "failed"
    ]
    late = any(one.id == "unfinished" for one in checks)
    return failed, [warning("preflight_unfinished", seconds=SECONDS)] if late else []


def fields(one: Checked, device: Device) -> dict[str, Any]:
    """Return the fields of the row of findings that a failed check has."""
    return {
        "device": device.model,
        "error": one.error,
        "torch": one.torch,
        "driver": (driver_cuda() or "unknown") if one.id == "device" else "",
        "capability": device.capability,
    }


def variables(device: Device) -> dict[str, str]:
    """Return the variables of a process that tries something on the device of a plan."""
    if device.cards:
        return {"CUDA_VISIBLE_DEVICES": _emptiest(device), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    return {} if device.name == "cuda" else dict(HIDING)


def _emptiest(device: Device) -> str:
    """Return the card of a run's on which other programs use least."""
    used = {}
    with contextlib.suppress(FineTuningError):
        used = {card.uuid: card.used_gib for card in find_cards()}
    return min(device.cards, key=lambda card: used.get(card, 0.0))
