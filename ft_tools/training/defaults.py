"""The arguments of a run that the caller left open, and where each default comes from."""

import math
from collections.abc import Mapping
from typing import Any, Literal

from ft_tools.lora.rules import choose_alpha
from ft_tools.runs.hardware import Device
from ft_tools.training.request import Method

Task = Literal["sft", "dpo", "kto"]
Arguments = dict[str, Any]

# Source: TRL's PEFT integration guide (LoRA 2e-4 against 2e-5, DPO 5e-6 against 5e-7) and
# alignment-handbook's zephyr recipes.
LEARNING_RATE: dict[tuple[Task, bool], float] = {
    ("sft", True): 2e-4,
    ("sft", False): 2e-5,
    ("dpo", True): 5e-6,
    ("dpo", False): 5e-7,
    ("kto", True): 5e-6,
    ("kto", False): 1e-6,
}
# Source: rank 16, alpha 32 are TRL's command-line defaults; all linear layers: LoRA Without Regret
# (Thinking Machines, 2025), attention alone loses even at an equal number of parameters.
LORA: Arguments = {
    "r": 16,
    "lora_alpha": 32,
    "lora_dropout": 0.0,
    "target_modules": "all-linear",
    "bias": "none",
}
# Source: QLoRA, arXiv 2305.14314: 4-bit NormalFloat with double quantization.
QUANTIZATION: Arguments = {
    "load_in_4bit": True,
    "bnb_4bit_quant_type": "nf4",
    "bnb_4bit_use_double_quant": True,
}
# Source: TRL's LoRA Without Regret page: LoRA is less tolerant of large batches, below 32.
EFFECTIVE_BATCH = 16
MICRO_BATCH = 4
# Source: zephyr .1, smollm3 .03, Axolotl .05 to .1.
WARMUP_FRACTION = 0.05
EVALUATIONS = 10
"""Evaluations, and checkpoints, that a run makes when it is not told otherwise."""
PATIENCE = 3
"""Evaluations without a new best value until a run with validation examples stops early."""
LOGS = 200


def lora_arguments(given: Mapping[str, Any]) -> Arguments:
    """Return the resolved arguments of peft.LoraConfig.

    A rank without an alpha gets the alpha, and the scaling, that suggest_lora_config gives it.
    """
    resolved: Arguments = {**LORA, **given}
    alpha, use_rslora, _ = choose_alpha(resolved["r"])
    if "r" in given and "lora_alpha" not in given:
        resolved["lora_alpha"] = alpha
    resolved.setdefault("use_rslora", use_rslora)
    return resolved


def training_arguments(
    task: Task, method: Method, given: Mapping[str, Any], device: Device, *, validated: bool
) -> Arguments:
    """Return the resolved arguments of trl.SFTConfig or DPOConfig that don't depend on steps."""
    resolved: Arguments = {
        "learning_rate": LEARNING_RATE[task, method != "full"],
        "lr_scheduler_type": "cosine",
        "warmup_steps": WARMUP_FRACTION,
        "num_train_epochs": 1.0,
        "max_length": 1024,
        "seed": 42,
        "optim": "adamw_torch",
        "gradient_checkpointing": device.name != "cpu",
        "report_to": [],
        "eval_strategy": "steps" if validated else "no",
    }
    if task == "dpo":
        resolved |= {"beta": 0.1, "loss_type": ["sigmoid"]}
    if task == "kto":
        resolved |= {"beta": 0.1, "loss_type": "kto"}
    resolved |= given
    if (resolved.get("max_steps") or 0) <= 0:
        # The trainer takes 0 for one step, callers for none given.
        resolved.pop("max_steps", None)
    if device.name == "cpu" and needs_gpu(resolved["optim"]):
        resolved["optim"] = "adamw_torch"
    if isinstance(resolved["report_to"], str):
        resolved["report_to"] = [resolved["report_to"]]
    resolved["report_to"] = [name for name in resolved["report_to"] if name != "none"]
    return resolved | batch_arguments(given, task)


def mark_weights(given: Mapping[str, Any], num_good: int, num_bad: int) -> tuple[Arguments, str]:
    """Return the weights that balance good and bad marks, and why; none where they are balanced.

    Good answers times their weight should be 1 to 4/3 of bad ones times theirs; the middle is
    taken.

    Source: KTO, arXiv 2402.01306, equation 8; TRL 1.16, kto_trainer.py.

    >>> mark_weights({}, 4, 12)[0], mark_weights({}, 90, 30)[0], mark_weights({}, 11, 10)[0]
    ({'desirable_weight': 3.5}, {'undesirable_weight': 2.57}, {})
    """
    if {"desirable_weight", "undesirable_weight"} & set(given):
        return {}, ""
    if num_bad <= num_good <= num_bad * 4 / 3:
        return {}, ""
    middle = 7 / 6
    if num_good < num_bad:
        found = {"desirable_weight": round(middle * num_bad / num_good, 2)}
    else:
        found = {"undesirable_weight": round(num_good / (middle * num_bad), 2)}
    ((name, value),) = found.items()
    return found, (
        f"{num_good} good and {num_bad} bad answers: {name}={value:g} balances them; with weights "
        "the loss is scaled, so compare runs by margins, not by loss"
    )


def patience(arguments: Mapping[str, Any]) -> int | None:
    """Return how many evaluations without a better one end a run; None: the last model is kept.

    The loss of DFT may rise while a model gets better, as unlikely tokens get likelier: it cannot
    choose a checkpoint. Source: arXiv 2508.05629, equation of the weighted loss.
    """
    is_chosen = arguments["eval_strategy"] != "no" and arguments.get("loss_type") != "dft"
    return PATIENCE if is_chosen else None


def needs_gpu(optimizer: str) -> bool:
    """Tell whether an optimizer is one of bitsandbytes' quantized or paged ones.

    >>> needs_gpu("paged_adamw_8bit"), needs_gpu("adamw_torch")
    (True, False)
    """
    return "8bit" in optimizer or optimizer.startswith("paged_")


def batch_arguments(given: Mapping[str, Any], task: Task) -> Arguments:
    """Return micro-batch and accumulation; what is left open makes an effective batch of 16."""
    micro = given.get("per_device_train_batch_size")
    steps = given.get("gradient_accumulation_steps")
    # A preference pair is two sequences.
    wanted = MICRO_BATCH // 2 if task == "dpo" else MICRO_BATCH
    if micro is None:
        micro = wanted if steps is None else max(1, min(wanted, EFFECTIVE_BATCH // steps))
    if steps is None:
        steps = max(1, EFFECTIVE_BATCH // micro)
    return {"per_device_train_batch_size": micro, "gradient_accumulation_steps": steps}


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
    batches: int = math.ceil(num_examples / micro)
    if arguments.get("dataloader_drop_last"):
        batches = num_examples // micro
    batches = math.ceil(batches / num_processes)
    return max(1, math.ceil(batches / accumulated))


def step_arguments(given: Mapping[str, Any], steps: int, *, evaluates: bool) -> Arguments:
    """Return how often to log, evaluate and save in a run of so many steps.

    With evaluations a checkpoint is written at each of them, so the best one is never lost.
    """
    every = max(1, math.ceil(steps / EVALUATIONS))
    resolved: Arguments = {"logging_steps": max(1, steps // LOGS)}
    if evaluates:
        resolved["eval_steps"] = given.get("eval_steps", every)
        resolved["save_steps"] = resolved["eval_steps"]
    else:
        resolved["save_steps"] = every
    return resolved | {k: v for k, v in given.items() if k in {*resolved, "logging_steps"}}
