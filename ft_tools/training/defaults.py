"""The arguments of a run that the caller left open, and where each default comes from.

What depends on model and data comes from `ft_tools.lora.choices`, as for suggest_lora_config.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ft_tools import facts
from ft_tools.formats.trl_formats import Task
from ft_tools.lora import choices
from ft_tools.lora.choices import choose_alpha
from ft_tools.lora.data_shape import DataShape, rounded_length
from ft_tools.runs.hardware.devices import Device
from ft_tools.training.request import Method

Arguments = dict[str, Any]

# Source: rank 16, alpha 32 are TRL's command-line defaults; all linear layers: LoRA Without Regret
# (Thinking Machines, 2025), attention alone loses even at an equal number of parameters.
LORA: Arguments = {
    "r": 16,
    "lora_alpha": 32,
    "lora_dropout": 0.0,
    "target_modules": "all-linear",
    "bias": "none",
}
MICRO_BATCH = 4
BATCH = ("per_device_train_batch_size", "gradient_accumulation_steps")
EVALUATIONS = 10
"""Evaluations, and checkpoints, that a run makes when it is not told otherwise."""
LEAST_EVALUATIONS = 4
"""Fewer neither choose a checkpoint nor show a trend."""
PATIENCE = 3
"""Evaluations without a new best value until a run with validation examples stops early."""
LOGS = 200


@dataclass(frozen=True)
class Basis:
    """What the settings of a run are chosen for."""

    task: Task
    method: Method
    data: DataShape = field(default_factory=DataShape)
    hidden_size: int | None = None
    max_positions: int | None = None
    capacity: Callable[[int], int] | None = None
    """Rank -> the adapter's parameters; None where the model's shape is not known."""
    may_pack: bool = False
    num_processes: int = 1

    @property
    def described(self) -> str:
        """Return what the settings were chosen for."""
        data = self.data
        tokens = "unknown" if data.answer_tokens is None else f"{data.answer_tokens:g}"
        return (
            f"{data.goal}; {data.num_examples} rows trained on; {tokens} trained tokens per row; "
            f"hidden size {self.hidden_size or 'unknown'}"
        )


def lora_arguments(given: Mapping[str, Any], basis: Basis | None = None) -> Arguments:
    """Return the resolved arguments of peft.LoraConfig.

    A rank without an alpha gets the alpha, and the scaling, that suggest_lora_config gives it.
    """
    resolved: Arguments = {**LORA}
    if basis is not None:
        resolved["r"] = int(choices.choose_rank(basis.data, basis.capacity).value)
    resolved |= given
    alpha, use_rslora, _ = choose_alpha(resolved["r"])
    if "lora_alpha" not in given:
        resolved["lora_alpha"] = alpha
    resolved.setdefault("use_rslora", use_rslora)
    return resolved


def training_arguments(basis: Basis, given: Mapping[str, Any], device: Device) -> Arguments:
    """Return the resolved arguments of trl.SFTConfig or DPOConfig that don't depend on steps."""
    task = basis.task
    resolved: Arguments = {
        "learning_rate": choices.choose_learning_rate(task, basis.method, basis.hidden_size).value,
        "lr_scheduler_type": "cosine",
        "warmup_steps": facts.number("train.warmup_fraction"),
        "seed": 42,
        "optim": "adamw_torch" if device.name == "cpu" else "adamw_torch_fused",
        "gradient_checkpointing": device.name != "cpu",
        "report_to": [],
        "eval_strategy": "steps" if basis.data.is_watched else "no",
        **_schedule(basis, given),
    }
    if task == "grpo":
        # GRPOConfig cuts no prompt.
        del resolved["max_length"]
    if task in {"dpo", "kto"}:
        loss = ["sigmoid"] if task == "dpo" else "kto"
        resolved |= {"beta": facts.number("dpo.beta"), "loss_type": loss}
    resolved |= given
    if task == "grpo":
        # What a run gained is counted from its start.
        resolved["eval_on_start"] = resolved["eval_strategy"] != "no"
    if (resolved.get("max_steps") or 0) <= 0:
        # The trainer takes 0 for one step, callers for none given.
        resolved.pop("max_steps", None)
    optimizer = resolved["optim"]
    if device.name == "cpu" and ("8bit" in optimizer or optimizer.startswith("paged_")):
        # bitsandbytes' quantized and paged ones need a GPU.
        resolved["optim"] = "adamw_torch"
    if isinstance(resolved["report_to"], str):
        resolved["report_to"] = [resolved["report_to"]]
    resolved["report_to"] = [name for name in resolved["report_to"] or () if name != "none"]
    return resolved


def _schedule(basis: Basis, given: Mapping[str, Any]) -> Arguments:
    """Return length, epochs and batch, and whether to pack, for the data at hand."""
    data, task = basis.data, basis.task
    if task == "grpo":
        return {"max_length": None, **_rollouts(basis, given)}
    most = int(facts.number("train.max_length"))
    length = most if data.longest_tokens is None else rounded_length(data.longest_tokens, most)
    length = given.get("max_length", min(length, basis.max_positions or length)) or most
    batch = None
    if any(given.get(name) for name in BATCH):
        # What is given may raise or lower the batch, and with it the epochs for the wanted steps.
        usual = _divisible(choices.choose_batch(data, task), basis.num_processes)
        batch = math.prod(batch_arguments(given, task, usual).values())
    may_pack = basis.may_pack and not set(given) & {"packing", "padding_free", *BATCH}
    chosen = choices.choose_schedule(data, task, max_length=length, batch=batch, may_pack=may_pack)
    found: Arguments = {"max_length": length, "num_train_epochs": float(chosen.epochs)}
    found |= {"packing": True} if chosen.packing else {}
    effective = _divisible(chosen.effective_batch, basis.num_processes)
    return found | batch_arguments(given, task, effective)


def _rollouts(basis: Basis, given: Mapping[str, Any]) -> Arguments:
    """Return epochs and batch of a reinforcement run, whose batch counts completions.

    A step sees whole groups, of no more prompts than there are.
    """
    group, prompts = int(given["num_generations"]), basis.data.num_examples or 1
    wanted = int(facts.number("grpo.completions"))
    effective = group * max(1, min(wanted // group, prompts))
    if not any(given.get(name) for name in BATCH):
        given = {**given, BATCH[0]: group}
    batch = batch_arguments(given, "grpo", effective)
    an_epoch = steps_an_epoch({**batch, "num_generations": group}, prompts)
    most = int(facts.number("grpo.max_epochs")) if basis.data.is_watched else 1
    epochs = min(most, math.ceil(facts.number("grpo.steps") / an_epoch))
    return {**batch, "num_train_epochs": float(epochs)}


def _divisible(batch: int, num_processes: int) -> int:
    """Return the batch of which each process takes an equal part."""
    return num_processes * math.ceil(batch / num_processes)


def patience(arguments: Mapping[str, Any]) -> int | None:
    """Return how many evaluations without a better one end a run; None: the last model is kept.

    The loss of DFT may rise while a model gets better, as unlikely tokens get likelier: it cannot
    choose a checkpoint. Source: arXiv 2508.05629, equation of the weighted loss.
    """
    is_chosen = arguments["eval_strategy"] != "no" and arguments.get("loss_type") != "dft"
    if "num_generations" in arguments:
        # A reward of sampled answers varies more than a loss.
        return 2 * PATIENCE if is_chosen else None
    return PATIENCE if is_chosen else None


def best_metric(task: Task) -> str:
    """Return the metric that chooses the checkpoint; of a loss, the lowest value."""
    return "eval_reward" if task == "grpo" else "eval_loss"


def batch_arguments(given: Mapping[str, Any], task: Task, effective: int) -> Arguments:
    """Return micro-batch and accumulation; what is left open makes the effective batch."""
    micro, steps = (given.get(name) for name in BATCH)
    # A preference pair is two sequences.
    wanted = min(MICRO_BATCH // 2 if task == "dpo" else MICRO_BATCH, effective)
    if micro is None:
        micro = wanted if steps is None else max(1, min(wanted, effective // steps))
    if steps is None:
        steps = max(1, effective // micro)
    return dict(zip(BATCH, (micro, steps), strict=True))


def total_steps(arguments: Mapping[str, Any], num_examples: int, num_processes: int = 1) -> int:
    """Return the optimizer steps, as transformers counts them: a part of a batch is a step."""
    if arguments.get("max_steps", -1) > 0:
        return int(arguments["max_steps"])
    epochs = float(arguments["num_train_epochs"])
    return math.ceil(epochs * steps_an_epoch(arguments, num_examples, num_processes))


def steps_an_epoch(arguments: Mapping[str, Any], num_examples: int, num_processes: int = 1) -> int:
    """Return the optimizer steps in which every example is seen once."""
    micro: int = arguments["per_device_train_batch_size"]
    accumulated: int = arguments["gradient_accumulation_steps"]
    if "num_generations" in arguments:
        # Source: TRL 1.16, RepeatSampler: prompts that fill no batch are left out.
        prompts = micro * accumulated * num_processes // int(arguments["num_generations"])
        return max(1, num_examples // max(1, prompts))
    batches: int = math.ceil(num_examples / micro)
    if arguments.get("dataloader_drop_last"):
        batches = num_examples // micro
    batches = math.ceil(batches / num_processes)
    return max(1, math.ceil(batches / accumulated))


def step_arguments(
    given: Mapping[str, Any], steps: int, *, evaluates: bool, share: float = 0.0
) -> Arguments:
    """Return how often to log, evaluate and save in a run of so many steps.

    With evaluations a checkpoint is written at each of them, so the best one is never lost.

    `share` is what one evaluation takes of the work of training.
    """
    given = {name: value for name, value in given.items() if value is not None}
    every = max(1, math.ceil(steps / EVALUATIONS))
    if share * EVALUATIONS > facts.number("train.evaluation_fraction"):
        affordable = math.ceil(steps * share / facts.number("train.evaluation_fraction"))
        every = max(1, min(affordable, steps // LEAST_EVALUATIONS))
    resolved: Arguments = {"logging_steps": max(1, steps // LOGS)}
    if evaluates:
        resolved["eval_steps"] = given.get("eval_steps", every)
        resolved["save_steps"] = resolved["eval_steps"]
    else:
        resolved["save_steps"] = every
    return resolved | {k: v for k, v in given.items() if k in {*resolved, "logging_steps"}}
