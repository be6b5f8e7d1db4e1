"""Before a run is offered: does its environment, on its device, do what the run will do?

A process of its own tries it (`ft_tools/training/worker/preflight.py`) and times a step, at most
SECONDS long. What passed is remembered for the environment, a step for its shape. What fails is in
the plan by name, with the cure.
"""

import contextlib
import os
import sys
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, TypeAdapter

from ft_tools import abandoned_calls
from ft_tools.errors import FineTuningError
from ft_tools.runs.hardware.devices import Device, driver_cuda, find_cards
from ft_tools.runs.hardware.gpu_environment import HIDING
from ft_tools.runs.processes import answers
from ft_tools.runs.processes.answers import AnswerFile
from ft_tools.training.findings import warning
from ft_tools.training.step_time import StepQuestion, StepTime

VARIABLE = "FINE_TUNING_LLM_PREFLIGHT"
"""0 skips it."""
WORKER = "ft_tools.training.worker.preflight"
SECONDS = 20.0
STEP_SECONDS = 10.0
"""Where the checks are known and only a step is timed: start, imports and steps."""
LATE = "timing a step took too long"
IN_USE = "other programs use the GPU"
IN_USE_FRACTION = 0.1
"""Of a card's memory; a desktop takes less."""
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


class PreflightCheck(BaseModel):
    """One thing that was tried."""

    id: Literal["device", "matmul", "nf4", "attention", "loss", "memory", "unfinished", "process"]
    state: State
    error: str = ""
    """Class of the error; its text is in the log."""
    torch: str = ""
    """The installed build, where it cannot use the device."""
    free_gib: float | None = None
    total_gib: float | None = None


UNFINISHED = PreflightCheck(id="unfinished", state="skipped")


class Trial(BaseModel):
    """What one process is asked for."""

    checks: Question | None
    step: StepQuestion | None


class PreflightResult(BaseModel):
    """What it found."""

    model_config = ConfigDict(extra="forbid")

    checks: list[PreflightCheck] = []
    step: StepTime | None = None
    why_no_step: str = ""


CHECKS, STEP = TypeAdapter(list[PreflightCheck]), TypeAdapter(StepTime)


def tried(
    device: Device, *, quantized: bool, attention: str = "sdpa", step: StepQuestion | None = None
) -> PreflightResult:
    """Try in small what a run on a device does, and time its step; what is known is not tried.

    One process does both, SECONDS long at most, or STEP_SECONDS if only the step is unknown.

    Args:
        device: The run's.
        quantized: Whether the base is loaded in 4 bits.
        attention: Implementation, as transformers names it.
        step: Shape of the step; None: not timed.

    Returns:
        The checks and the step; nothing where the user skips it.
    """
    if os.environ.get(VARIABLE) == "0":
        return PreflightResult()
    question = Question(
        device="cuda" if device.name == "cuda" else "cpu",
        precision=device.precision,
        quantized=quantized,
        attention=attention,
    )
    libraries = answers.versions(*LIBRARIES)
    on = [sys.executable, device.model, device.driver, str(device.capability)]
    shape = step.model_dump(exclude={"config", "load"}) if step else None
    kept = AnswerFile(WORKER, CHECKS, [libraries, on, question.model_dump()])
    kept_step = AnswerFile(WORKER, STEP, [libraries, device.model, shape])
    known = PreflightResult(checks=kept.read() or [], step=kept_step.read() if step else None)
    if not known.checks and kept.is_late:
        return PreflightResult(checks=[UNFINISHED], why_no_step=LATE)
    why = LATE if step and not known.step and kept_step.is_late else ""
    if step and not known.step and _is_in_use(device):
        # A step takes memory that a run on that card may need next.
        why = IN_USE
    trial = Trial(
        checks=None if known.checks else question, step=None if known.step or why else step
    )
    if trial.checks or trial.step:
        known = _tried_now(trial, known, kept, kept_step, device)
    return known.model_copy(update={"why_no_step": why or known.why_no_step})


def _tried_now(
    trial: Trial,
    known: PreflightResult,
    kept: AnswerFile[list[PreflightCheck]],
    kept_step: AnswerFile[StepTime],
    device: Device,
) -> PreflightResult:
    """Ask a process, and keep what it finds."""
    seconds = SECONDS if trial.checks else STEP_SECONDS
    # Where the call has less time left, the next one may do better.
    is_cut = abandoned_calls.seconds_left() < seconds
    found, kind, complained = _run(trial, seconds, device)
    kept.write_log(complained)
    if trial.checks is None:
        found.checks = known.checks
    elif not found.checks:
        is_slow = kind == "timeout"
        failed = PreflightCheck(id="process", state="failed", error=kind)
        found.checks = [UNFINISHED if is_slow else failed]
        if is_slow and not is_cut:
            kept.write_late()
    elif all(one.state == "passed" for one in found.checks):
        kept.write(found.checks)
    if found.step is not None:
        kept_step.write(found.step)
    elif trial.step is not None and kind:
        found.why_no_step = LATE if kind == "timeout" else f"a step could not be timed ({kind})"
        if not is_cut:
            kept_step.write_late()
    found.step = found.step or known.step
    return found


def _run(trial: Trial, seconds: float, device: Device) -> tuple[PreflightResult, str, str]:
    """Return what a process finds, the kind of error that ended it early, and its complaints."""
    answer = TypeAdapter(PreflightResult)
    try:
        question = trial.model_dump_json()
        found, complained = answers.run(WORKER, answer, question, seconds, variables(device))
    except answers.Unanswered as error:
        # What it found before it ended.
        found = answers.last_answer(answer, error.printed) or PreflightResult()
        return found, error.kind, error.complained
    return found, "", complained


def problems(checks: list[PreflightCheck], device: Device) -> tuple[list[str], list[str]]:
    """Return what failed and what nobody knows yet, each by name and with the cure."""
    failed = [
        warning(f"preflight_{one.id}", **fields(one, device))
        for one in checks
        if one.state == "failed"
    ]
    late = any(one.id == "unfinished" for one in checks)
    return failed, [warning("preflight_unfinished", seconds=SECONDS)] if late else []


def fields(one: PreflightCheck, device: Device) -> dict[str, Any]:
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
    used = _used(device)
    return min(device.cards, key=lambda card: used.get(card, 0.0))


def _is_in_use(device: Device) -> bool:
    """Return whether each card that a run may take has a program that computes on it."""
    return min(_used(device).values(), default=0.0) > IN_USE_FRACTION


def _used(device: Device) -> dict[str, float]:
    """Return the fraction of the memory of each card of a run's that is used now."""
    with contextlib.suppress(FineTuningError):
        cards = {card.uuid: card for card in find_cards()}
        shown = [cards[uuid] for uuid in device.cards if uuid in cards]
        return {card.uuid: card.used_gib / card.memory_gib for card in shown}
    return {}
