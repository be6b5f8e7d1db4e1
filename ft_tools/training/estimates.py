"""How long a run takes, by the time of a step and of its evaluations, and how much disk it needs.

A step's time is what an earlier run of the same model, method and device took; else what was
measured for the plan; else the operations that a token costs, and a table of what devices do.
"""

import contextlib
import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from ft_tools import workspace
from ft_tools.errors import BadData
from ft_tools.publish import require_space
from ft_tools.runs import estimates
from ft_tools.runs.estimates import Duration, Part, Range
from ft_tools.runs.state import directory
from ft_tools.training import defaults
from ft_tools.training.preflight import PreflightResult
from ft_tools.training.training_plan import Estimate, TrainingPlan

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
MEASURED = (0.69, 1.34)
"""What a measured step may be off by: other lengths, a warm processor, neighbours."""
LOOKED_AT = 50
KEPT_RUNS = 5
LEAST_STEPS = 5
"""Steps of an earlier run from which on their time says something."""
ALIKE = ("model", "method", "task", "engine", "device", "place")
# AdamW keeps two float32 numbers for each trained weight, beside the weight.
STATE_BYTES_PER_PARAM = 12
FSDP_BYTES_PER_PARAM = 4
"""Which FSDP writes beside these, to resume from. Source: transformers 5.24, trainer.py."""
KEPT_CHECKPOINTS = 3
FIXED_BYTES = 64 * 2**20
"""Tokenizer in each checkpoint, log, metrics and page."""


@dataclass(frozen=True)
class Completions:
    """What is known of the answers that a reinforcement run writes itself."""

    mean_tokens: float
    seconds: Range | None
    """That one takes in a batch as large as the run's; None: nobody measured it."""


def estimated(
    plan: TrainingPlan,
    timed: PreflightResult,
    completions: Completions | None = None,
    load: float = 0.0,
    price: float | None = None,
) -> Estimate:
    """Return what a plan's steps take of tokens, time and disk."""
    counts, validation, training = plan.counts, plan.validation, plan.training
    one_epoch = counts.data.num_tokens if counts else plan.dataset.estimated_tokens
    tokens, evaluated, written = int(one_epoch * plan.epochs), 0, 0
    if validation is not None:
        held_out = counts.validation if counts else None
        each = held_out.num_tokens if held_out else validation.estimated_tokens
        evaluated = plan.num_evaluations * each
    if completions is not None:
        trained = plan.estimate.steps * training[defaults.BATCH[0]] * training[defaults.BATCH[1]]
        answers = 0
        if validation is not None:
            # One more evaluation goes before the first step.
            answers = validation.num_examples * training["num_generations_eval"]
            answers *= plan.num_evaluations + 1
            evaluated *= training["num_generations_eval"]
        tokens = int(tokens * training["num_generations"] + trained * completions.mean_tokens)
        evaluated += int(answers * completions.mean_tokens)
        written = trained + answers
    disk = disk_bytes(plan)
    if not plan.place.exported_for:
        require_space(workspace.runs_dir(), disk, "the run")
    generated = (written, completions.seconds) if completions else (0, (0.0, 0.0))
    took = duration(plan, timed, (tokens, evaluated), generated, load, price)
    return plan.estimate.model_copy(update={"tokens": tokens, "disk_bytes": disk, "duration": took})


def forward_fraction(task: str, method: str) -> float:
    """Return the work of an evaluated token as a part of a trained one's.

    >>> forward_fraction("sft", "lora"), round(forward_fraction("sft", "full"), 2)
    (0.5, 0.33)
    """
    return FORWARD_FLOPS / (FLOPS_PER_PARAM_TOKEN[method] + EXTRA_FLOPS[task])


def disk_bytes(plan: TrainingPlan) -> int:
    """Return the bytes of the kept checkpoints and one more, the artifact and the rest."""
    checkpoint, artifact = _written_bytes(plan)
    return (KEPT_CHECKPOINTS + 1) * checkpoint + artifact + FIXED_BYTES


def _written_bytes(plan: TrainingPlan) -> tuple[int, int]:
    """Return the bytes of a checkpoint and of the artifact.

    An adapter of rank r on all linear layers of a model with hidden size h has about r/h of twice
    its weights; h is taken from the parameter count, N = 12 L h^2 with L = h / 64.
    Source: shapes of common models; only used for disk space and the time of writing.
    """
    trained = plan.model.num_params
    if trained is None:
        return 0, 0
    if plan.method != "full":
        hidden = (trained * 64 / 12) ** (1 / 3)
        rank = (plan.adapter or defaults.LORA)["r"]
        trained = int(min(1.0, 2 * rank / hidden) * trained)
    once_more = FSDP_BYTES_PER_PARAM if plan.place.sharding == "fsdp" else 0
    return (STATE_BYTES_PER_PARAM + once_more) * trained, 4 * trained


def _saving_seconds(plan: TrainingPlan, each: float) -> float:
    """Return what all checkpoints and the artifact take, by the seconds of a byte."""
    if not each:
        return 0.0
    checkpoint, artifact = _written_bytes(plan)
    saves: int = math.ceil(plan.estimate.steps / plan.training["save_steps"])
    return (saves * checkpoint + artifact) * each


def duration(
    plan: TrainingPlan,
    timed: PreflightResult,
    tokens: tuple[float, float],
    generated: Part = (0, (0.0, 0.0)),
    load: float = 0.0,
    price: float | None = None,
) -> Duration | None:
    """Return how long a run takes, as a range; None when the size or such a device is not known.

    `tokens` are those trained in all epochs and those evaluated; `generated` is for completions
    that the run writes itself, `load` what else each core is wanted for.
    """
    trained, evaluated = tokens
    forward = 1.0 if generated[0] else forward_fraction(plan.task, plan.method)
    whole, steps, step = trained + evaluated * forward, plan.estimate.steps, timed.step
    passes = steps * plan.training[defaults.BATCH[1]]
    if rates := earlier_rates(plan):
        parts: list[Part] = [(whole, (MEASURED[0] / max(rates), MEASURED[1] / min(rates)))]
        source = f"the steps of {len(rates)} earlier runs of this model here"
    elif step is not None:
        reference = EXTRA_FLOPS[plan.task] / FORWARD_FLOPS * step.forward
        seconds = trained * (step.train + reference) + evaluated * step.forward
        seconds = seconds / (1 - plan.padding) + steps * step.optimizer
        parts = [(seconds + passes * TRAINER_SECONDS, _shared(plan, MEASURED)), generated]
        source = "a step of this plan, measured on this machine"
    else:
        why = f", because {timed.why_no_step}" if timed.why_no_step else ""
        source = f"the table of rates{why}; the first run here makes it narrower"
        speeds = estimates.operations_per_second(plan.device, plan.engine)
        if plan.model.num_params is None or speeds is None:
            return None
        flops = FLOPS_PER_PARAM_TOKEN[plan.method] + EXTRA_FLOPS[plan.task]
        operations = flops * plan.model.num_params
        each = _shared(plan, (operations / speeds[1], operations / speeds[0]))
        parts = [(whole, each), (passes, PASS_SECONDS), generated]
    if step is not None:
        parts.append((_saving_seconds(plan, step.save), MEASURED))
    return estimates.duration(parts, source, load=load, price=price, steps=steps)


def _shared(plan: TrainingPlan, each: Range) -> Range:
    """Return what a unit takes of work that the processes share."""
    number = plan.place.num_processes
    slow, fast = SHARED_SPEED if number > 1 else (1.0, 1.0)
    return each[0] / (number * fast), each[1] / (number * slow)


def earlier_rates(plan: TrainingPlan) -> list[float]:
    """Return the tokens a second of training of runs here that are like this one."""
    wanted = _alike(plan.model_dump(mode="json", include={*ALIKE}))
    found: list[float] = []
    runs = [run for run in directory.all_runs() if run.name.startswith(f"{plan.task}-")]
    for run_dir in runs[:LOOKED_AT]:
        with contextlib.suppress(BadData, OSError, KeyError, TypeError):
            seen = _alike(directory.read_json(run_dir / "plan.json"))
            if seen == wanted and (rate := _rate_of(run_dir)):
                found.append(rate)
    return found[:KEPT_RUNS]


def _alike(plan: Any) -> list[Any]:
    """Return what the speed of two plans depends on."""
    at, place = plan["device"], plan["place"]
    same = [plan["model"]["config_sha256"], *(plan[name] for name in ("method", "task", "engine"))]
    return [*same, place["nodes"] * place["processes"], at["model"], at["precision"]]


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
