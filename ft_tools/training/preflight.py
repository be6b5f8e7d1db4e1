"""Before a run is offered: does its environment, on its device, do what the run will do?

A process of its own tries it (`ft_tools/training/worker/preflight.py`) and times a step, at most
SECONDS long. What passed is remembered. What fails is in the plan by name, with the cure.

A step is timed in small: the planned class with one block, then with more until they show, random
weights and the planned adapter. What they add is theirs; a step is that, times the plan's number of
blocks, plus the rest.
"""

import contextlib
import os
import sys
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from ft_tools import abandoned_calls, workspace
from ft_tools.errors import FineTuningError
from ft_tools.runs.hardware.device_slots import HIDING
from ft_tools.runs.hardware.devices import Device, driver_cuda, find_cards
from ft_tools.runs.processes import answers
from ft_tools.runs.processes.answers import AnswerFile
from ft_tools.training.defaults import LORA
from ft_tools.training.findings import warning
from ft_tools.training.training_plan import TrainingPlan

VARIABLE = "FINE_TUNING_LLM_PREFLIGHT"
"""0 skips it."""
WORKER = "ft_tools.training.worker.preflight"
SECONDS = 20.0
LATE = "timing a step took too long"
LIBRARIES = ("torch", "transformers", "trl", "peft", "bitsandbytes", "accelerate", "triton",
             "kernels", "flash_attn")  # fmt: skip
MOST_TOKENS = {"cpu": 256, "cuda": 16_384}
"""Of the pass that is timed; the time of a longer one is in proportion."""
State = Literal["passed", "failed", "skipped"]


class StepQuestion(BaseModel):
    """The shape of a step."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    config: str = Field(description="Folder of config.json.")
    config_sha256: str
    num_params: int | None = Field(None, description="Of the base model.")
    device: str
    dtype: str = Field(description="Of the weights.")
    precision: str = Field(description="Of the products.")
    peft: dict[str, Any] | None
    init: dict[str, Any] = Field(description="Of model_init_kwargs.")
    checkpointing: bool
    rows: int
    length: int
    trained_fraction: float = Field(description="Of the tokens, those that the loss counts.")
    load: float = Field(0.0, description="Other programs that want each core meanwhile.")
    folder: str | None = Field(None, description="Where large checkpoints are written.")


class StepTime(BaseModel):
    """What one token of a batch takes, in seconds, and what a step takes besides."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    train: float = Field(description="Forward and backward.")
    forward: float = Field(description="Forward alone.")
    optimizer: float = Field(description="Of a step: what all trained weights take.")
    save: float = Field(0.0, description="A byte of a checkpoint; 0 where none is large.")


class Question(BaseModel):
    """What is tried."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    device: str
    precision: str
    quantized: bool
    attention: str
    step: StepQuestion | None = None


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


class PreflightResult(BaseModel):
    """What a process found until it ended."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    checks: list[PreflightCheck] = []
    step: StepTime | None = None
    why_no_step: str = ""


UNFINISHED = PreflightCheck(id="unfinished", state="skipped")
RESULT = TypeAdapter(PreflightResult)


def tried(
    device: Device, *, quantized: bool, attention: str = "sdpa", step: StepQuestion | None = None
) -> PreflightResult:
    """Try in small what a run on a device does, and time its step; not again what is known.

    Nothing is tried where the user skips it; no step is timed without its shape.
    """
    if os.environ.get(VARIABLE) == "0":
        return PreflightResult()
    question = Question(
        device="cuda" if device.name == "cuda" else "cpu",
        precision=device.precision,
        quantized=quantized,
        attention=attention,
        step=step,
    )
    on = [sys.executable, device.model, device.driver, str(device.capability)]
    shape = question.model_dump(exclude={"step": {"config", "load", "folder"}})
    kept = AnswerFile(WORKER, RESULT, [answers.versions(*LIBRARIES), on, shape])
    if before := kept.read():
        return before
    if kept.is_late and step is None:
        return PreflightResult(checks=[UNFINISHED])
    if kept.is_late:
        found = tried(device, quantized=quantized, attention=attention)
        return found.model_copy(update={"why_no_step": LATE})
    # Where the call has less time left, the next one may do better.
    is_cut = abandoned_calls.seconds_left() < SECONDS
    try:
        asked = question.model_dump_json()
        found, complained = answers.run(WORKER, RESULT, asked, SECONDS, variables(device))
    except answers.Unanswered as error:
        kept.write_log(error.complained)
        is_slow = error.kind == "timeout"
        if not is_cut and (is_slow or step is not None):
            kept.write_late()
        failed = PreflightCheck(id="process", state="failed", error=error.kind)
        nothing = PreflightResult(checks=[UNFINISHED if is_slow else failed])
        # The checks are printed before the step.
        found = answers.last_answer(RESULT, error.printed) or nothing
        why = LATE if is_slow else f"a step could not be timed ({error.kind})"
        return found.model_copy(update={"why_no_step": why if step else ""})
    kept.write_log(complained)
    if all(one.state == "passed" for one in found.checks):
        kept.write(found)
    return found


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
    used: dict[str, float] = {}
    with contextlib.suppress(FineTuningError):
        used = {card.uuid: card.used_gib / card.memory_gib for card in find_cards()}
    return min(device.cards, key=lambda card: used.get(card, 0.0))


def question_of(plan: TrainingPlan, load: float) -> StepQuestion | None:
    """Return the shape of a plan's step; None where it cannot be measured here."""
    counts, training, device = plan.counts, plan.training, plan.device
    folder = Path(plan.model.load_from)
    if counts is None or not (folder / "config.json").is_file():
        return None
    if plan.engine != "torch" or plan.place.sharding != "ddp":
        return None
    limit = training.get("max_length") or counts.lengths.longest_tokens
    mean = counts.lengths.mean_tokens
    padded = limit if training.get("packing") else min(limit, mean / (1 - plan.padding))
    length = max(2, round(padded))
    micro = training["per_device_train_batch_size"] * (1 if plan.task == "sft" else 2)
    init = training.get("model_init_kwargs") or {}
    return StepQuestion(
        config=str(folder),
        config_sha256=plan.model.config_sha256,
        num_params=plan.model.num_params,
        device=device.name,
        dtype=plan.weights_dtype,
        precision=device.precision,
        peft=None if plan.method == "full" else plan.adapter or LORA,
        init={key: value for key, value in init.items() if key == "attn_implementation"},
        checkpointing=bool(training.get("gradient_checkpointing")),
        rows=max(1, min(micro, MOST_TOKENS[device.name] // length)),
        length=min(length, MOST_TOKENS[device.name]),
        trained_fraction=round(min(1.0, counts.lengths.mean_answer_tokens / mean), 2),
        load=load,
        folder=str(workspace.roots()[0]) if plan.method == "full" else None,
    )
