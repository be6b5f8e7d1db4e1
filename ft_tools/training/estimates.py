"""How long a run takes, by the time of a step and of its evaluations, and how much disk it needs.

A step's time is what an earlier run of the same model, method and device took; else what was
measured for the plan; else the operations that a token costs, and a table of what devices do.
"""

import contextlib
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ft_tools.errors import BadData
from ft_tools.runs import estimates
from ft_tools.runs.estimates import Duration, Part, Range
from ft_tools.runs.hardware.devices import Device
from ft_tools.runs.state import directory
from ft_tools.training.step_time import StepTime

# Weights, gradients flow: 2 for the forward pass, 2 for the gradients of activations, 2 for those
# of weights, which an adapter does without. Source: arXiv 2001.08361, appendix B.
FLOPS_PER_PARAM_TOKEN = {"full": 6, "lora": 4, "qlora": 4}
# A preference run also passes its answers through the reference; KTO besides passes another answer
# to each prompt through both models.
EXTRA_FLOPS = {"sft": 0, "dpo": 2, "kto": 6, "grpo": 0}
# What each of several processes keeps of its speed alone: a lower bound for cards that talk over
# PCIe, and none lost. Source: arXiv 2006.15704 (PyTorch DDP), figure 9.
SHARED_SPEED = (0.7, 1.0)
# Seconds of a micro-batch besides its arithmetic: Python starts each layer's operations. Measured:
# 0.1 s of one core for a Llama of 4 layers and a million parameters (benchmarks/recorded_runs.py);
# a deeper model takes longer, a faster core less.
PASS_SECONDS = (0.03, 0.3)
FORWARD_FLOPS = 2
TRAINER_SECONDS = 0.01
"""Of a micro-batch: what the trainer does around a measured pass."""
MEASURED = (0.7, 1.4)
"""What a measured step may be off by: other lengths, a warm processor, neighbours."""
LOOKED_AT = 50
KEPT_RUNS = 5
LEAST_STEPS = 5
"""Steps of an earlier run from which on their time says something."""
# AdamW keeps two float32 numbers for each trained weight, beside the weight.
STATE_BYTES_PER_PARAM = 12
# Bytes a trained weight that FSDP writes beside these, to resume from.
# Source: transformers 5.24, trainer.py, _save_optimizer_and_scheduler.
ONCE_MORE = {"fsdp": 4}
KEPT_CHECKPOINTS = 3
FIXED_BYTES = 64 * 2**20
"""Tokenizer in each checkpoint, log, metrics and page."""


@dataclass(frozen=True)
class Work:
    """What a run computes, on what."""

    task: str
    method: str
    num_params: int | None
    config_sha256: str
    device: Device
    num_processes: int = 1
    evaluated_tokens: int = 0
    """Tokens of all evaluations, which need a forward pass alone."""
    load: float = 0.0
    """Other programs that wait for a core, per core."""
    engine: str = "torch"
    passes: int = 0
    """Micro-batches of training, one after the other."""
    steps: int = 0
    padding: float = 0.0
    """Fraction of the tokens of a batch that are padding."""
    step: StepTime | None = None
    """Of this plan on this machine, where it was measured."""
    why_no_step: str = ""
    generated: Part = (0, (0.0, 0.0))
    """Completions that the run writes itself, and what one takes; None: nobody measured it."""

    @property
    def flops(self) -> int:
        """Return the operations of a trained token, for each weight."""
        return _flops(self.task, self.method)

    def seconds(self, each: Range) -> Range:
        """Return what a unit takes of work that the processes share."""
        slow, fast = SHARED_SPEED if self.num_processes > 1 else (1.0, 1.0)
        return each[0] / (self.num_processes * fast), each[1] / (self.num_processes * slow)


def forward_fraction(task: str, method: str) -> float:
    """Return the work of an evaluated token as a part of a trained one's.

    >>> forward_fraction("sft", "lora"), round(forward_fraction("sft", "full"), 2)
    (0.5, 0.33)
    """
    return FORWARD_FLOPS / _flops(task, method)


def _flops(task: str, method: str) -> int:
    return FLOPS_PER_PARAM_TOKEN[method] + EXTRA_FLOPS[task]


class Estimate(BaseModel):
    """What the run would take; estimates, not measurements."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int = Field(description="Optimizer steps, before early stopping.")
    tokens: int = Field(
        description="Tokens of all epochs: counted where the plan has `counts`, else a quarter of "
        "the characters."
    )
    duration: Duration | None = Field(
        None, description="Null where the size is not known, or no rate of such a device."
    )
    disk_bytes: int = Field(description="Checkpoints, the artifact and the logs.")
    used_by_others_gib: float = Field(
        0.0, description="GPU memory that other programs use now; not available to the run."
    )
    vram: dict[str, Any] | None = Field(None, description="Of estimate_vram, for a GPU.")
    ram: dict[str, float] | None = Field(
        None, description="On a CPU: what the run needs, and what this machine has and has free."
    )


def trained_params(num_params: int | None, method: str, peft: dict[str, Any] | None) -> int | None:
    """Return about how many weights are trained.

    An adapter of rank r on all linear layers of a model with hidden size h has about r/h of twice
    its weights; h is taken from the parameter count, N = 12 L h^2 with L = h / 64.
    Source: shapes of common models; only used for disk space.
    """
    if num_params is None or method == "full" or peft is None:
        return num_params
    hidden = (num_params * 64 / 12) ** (1 / 3)
    return int(min(1.0, 2 * peft["r"] / hidden) * num_params)


def disk_bytes(trained: int | None, sharding: str = "ddp") -> int:
    """Return the bytes of the kept checkpoints and one more, the artifact and the rest.

    Args:
        trained: Weights that are trained; None where it is not known.
        sharding: How processes share the model: some write the weights once more.
    """
    if trained is None:
        return FIXED_BYTES
    checkpoint = (STATE_BYTES_PER_PARAM + ONCE_MORE.get(sharding, 0)) * trained
    return (KEPT_CHECKPOINTS + 1) * checkpoint + 4 * trained + FIXED_BYTES


def duration(work: Work, tokens: int, price: float | None) -> Duration | None:
    """Return how long a run takes, as a range; None when the size or such a device is not known.

    Args:
        work: What is computed on what.
        tokens: Of all epochs.
        price: Of an hour, in any currency.
    """
    whole = tokens + work.evaluated_tokens * forward_fraction(work.task, work.method)
    step = work.step
    parts: list[Part]
    if work.generated[0]:
        # An evaluation writes its answers, too.
        whole = tokens + work.evaluated_tokens
    if rates := earlier_rates(work):
        parts = [(whole, (MEASURED[0] / max(rates), MEASURED[1] / min(rates)))]
        source = f"the steps of {len(rates)} earlier runs of this model here"
    elif step is not None:
        reference = EXTRA_FLOPS[work.task] / FORWARD_FLOPS * step.forward
        seconds = tokens * (step.train + reference) + work.evaluated_tokens * step.forward
        seconds = seconds / (1 - work.padding) + work.steps * step.optimizer
        parts = [(seconds + work.passes * TRAINER_SECONDS, work.seconds(MEASURED)), work.generated]
        source = "a step of this plan, measured on this machine"
    else:
        why = f", because {work.why_no_step}" if work.why_no_step else ""
        source = f"the table of rates{why}; the first run here makes it narrower"
        speeds = estimates.operations_per_second(work.device, work.engine)
        if work.num_params is None or speeds is None:
            return None
        operations = work.flops * work.num_params
        each = work.seconds((operations / speeds[1], operations / speeds[0]))
        parts = [(whole, each), (work.passes, PASS_SECONDS), work.generated]
    return estimates.duration(parts, source, load=work.load, price=price, steps=work.steps)


def earlier_rates(work: Work) -> list[float]:
    """Return the tokens a second of training of runs here that are like this one."""
    device = work.device
    wanted = [work.config_sha256, work.method, work.task, work.engine, work.num_processes]
    wanted += [device.model, device.precision]
    found: list[float] = []
    runs = [run for run in directory.all_runs() if run.name.startswith(f"{work.task}-")]
    for run_dir in runs[:LOOKED_AT]:
        with contextlib.suppress(BadData, OSError, KeyError, TypeError):
            plan: Any = directory.read_json(run_dir / "plan.json")
            at, place = plan["device"], plan["place"]
            seen = [plan["model"]["config_sha256"], plan["method"], plan["task"], plan["engine"]]
            seen += [place["nodes"] * place["processes"], at["model"], at["precision"]]
            if seen == wanted and (rate := _rate_of(run_dir)):
                found.append(rate)
    return found[:KEPT_RUNS]


def _rate_of(run_dir: Path) -> float | None:
    """Return the tokens a second of a run's steps, without evaluations; None before there are few.

    Each logged row has the usual step since the one before, and the tokens so far.
    """
    rows = [row for row in directory.read_metrics(run_dir) if "step_seconds" in row]
    tokens = steps = seconds = 0.0
    for before, row in pairwise(rows):
        more = row["step"] - before["step"]
        # An attempt counts its tokens from its own start.
        if more > 0 and row["num_tokens"] > before["num_tokens"]:
            steps += more
            tokens += row["num_tokens"] - before["num_tokens"]
            seconds += more * row["step_seconds"]
    return tokens / seconds if steps >= LEAST_STEPS else None
