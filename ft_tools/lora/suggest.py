"""Method, adapter, quantization and training arguments for a model and its data."""

from collections.abc import Iterator
from functools import partial
from typing import Any

from ft_tools import facts
from ft_tools.contract import NextStep, Reason
from ft_tools.formats.trl_formats import Task
from ft_tools.lora import choices
from ft_tools.lora.data_shape import DataShape
from ft_tools.lora.report import LoraReport, Memory
from ft_tools.lora.request import LoraRequest
from ft_tools.lora.settings_that_fit import Plan, Wish, dtype_of, plan_for_card, wanted_length
from ft_tools.models.adapter_targets import Targets, default_targets
from ft_tools.models.families import TRAITS
from ft_tools.models.packing import FLASH, flash_packages, may_be_packed, takes_flash
from ft_tools.models.quantized import DEQUANTIZED, nf4
from ft_tools.models.shape import ModelShape, last_name
from ft_tools.next_steps import launch_tool, next_step
from ft_tools.reasons import reason

STAND_IN = "train.jsonl"
AUDIT_ERRORS = "audit_errors"
"""Id of the reason that the dataset has errors."""
# What launch_sft and launch_dpo choose themselves, by the device they find: what is named stays.
CHOSEN_AT_LAUNCH = {
    "bf16",
    "fp16",
    "gradient_accumulation_steps",
    "gradient_checkpointing",
    "model_init_kwargs",
    "optim",
    "packing",
    "per_device_train_batch_size",
}


def suggest(
    shape: ModelShape, request: LoraRequest, task: Task, data: DataShape, about_data: list[Reason]
) -> LoraReport:
    """Return settings for a model and the shape of its data, with the reasons about that."""
    targets = default_targets(shape)
    rank = choices.choose_rank(data, partial(shape.lora_params, target_modules=targets.modules))
    is_new = request.gpu is not None and dtype_of(request.gpu) == "bfloat16"
    # SDPA would keep a mask of all positions of a packed row.
    has_flash = is_new and bool(flash_packages())
    may_pack = has_flash and may_be_packed(shape) and takes_flash(shape)
    length = wanted_length(request, shape)
    schedule = choices.choose_schedule(data, task, max_length=length, may_pack=may_pack)
    batch = schedule.effective_batch
    plan = plan_for_card(Wish(request, task, int(rank.value), batch, shape, targets.modules))
    method, is_full = plan.asked.method, plan.asked.method == "full"
    rate = choices.choose_learning_rate(task, method, shape.hidden_size)
    assumed = None if request.seq_len else length
    reasons = [*about_data, plan.why, *_reasons_of_shape(shape, assumed)]
    peft: dict[str, Any] = {}
    if not is_full:
        alpha, rslora, why_alpha = choices.choose_alpha(int(rank.value))
        names = targets.modules
        peft = {
            "r": int(rank.value),
            "lora_alpha": alpha,
            "lora_dropout": 0.0,
            "target_modules": names if isinstance(names, str) else list(names),
            "bias": "none",
            "use_rslora": rslora,
            "task_type": "CAUSAL_LM",
        }
        reasons += [*rank.reasons, why_alpha, *_target_reasons(shape, targets)]
    reasons += [*rate.reasons, *schedule.reasons]
    training = _training(task, plan, schedule, rate.value)
    trainable = plan.vram.trainable_params
    whole = shape.total_params + (0 if is_full else trainable)
    quantization = None
    if method == "qlora" and not shape.quantized:
        quantization = nf4(shape.model_type) | {"bnb_4bit_compute_dtype": plan.dtype}
    steps = _next_steps(request, task, plan, peft, training)
    if any(reason.id == AUDIT_ERRORS for reason in about_data):
        steps = [next_step("show_audit_errors", {"path": request.dataset}), *steps]
    adapter = "" if is_full else f", rank {int(rank.value)} on all linear layers"
    return LoraReport(
        summary=f"{method}{adapter}, learning rate {rate.value:g}, epochs: {schedule.epochs}, "
        f"batches of {plan.micro_batch} x {plan.accumulation}, {plan.asked.seq_len} tokens. "
        f"{plan.vram.summary}",
        method=method,
        task=task,
        peft=peft,
        quantization=quantization,
        training=training,
        effective_batch=plan.micro_batch * plan.accumulation,
        estimated_steps=schedule.steps,
        trainable_params=trainable,
        total_params=shape.total_params,
        trainable_fraction=round(trainable / whole, 6),
        vram=Memory.model_validate(plan.vram.model_dump()),
        gave_up=plan.gave_up,
        reasons=reasons,
        next_steps=steps,
    )


def _target_reasons(shape: ModelShape, targets: Targets) -> Iterator[Reason]:
    yield reason("all_linear_layers", len(targets.names))
    if shape.num_experts:
        fused = sorted({linear.name for block in shape.blocks for linear in block.experts})
        yield reason("experts_frozen", ", ".join(fused) or shape.num_experts)
    if state := {last_name(path) for block in shape.blocks for path in block.unadapted}:
        yield reason("state_frozen", ", ".join(sorted(state)))
    if targets.frozen_shared:
        yield reason("shared_experts_frozen", ", ".join(targets.frozen_shared))


def _reasons_of_shape(shape: ModelShape, assumed: int | None) -> Iterator[Reason]:
    if shape.quantized:
        loaded = "adapters train over its weights as they are, with no quantization on top"
        if shape.quantized in DEQUANTIZED:
            loaded = "it is loaded in 16 bits, because no adapter trains over these weights"
        yield reason("prequantized", shape.quantized, loaded=loaded)
    if not may_be_packed(shape):
        mixes = (
            "mixes" if shape.model_type in TRAITS["mixes_packed"] else "was not checked for mixing"
        )
        yield reason("packing_mixes_examples", shape.model_type, mixes=mixes)
    if assumed:
        yield reason("assumed_length", assumed)


def _training(
    task: Task, plan: Plan, schedule: choices.Schedule, learning_rate: float
) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "learning_rate": learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": facts.number("train.warmup_fraction"),
        "num_train_epochs": float(schedule.epochs),
        "per_device_train_batch_size": plan.micro_batch,
        "gradient_accumulation_steps": plan.accumulation,
        "max_length": plan.asked.seq_len,
        "optim": plan.asked.optimizer,
        "gradient_checkpointing": True,
        "bf16": plan.dtype == "bfloat16",
        "fp16": plan.dtype == "float16",
    }
    if task != "sft":
        loss: dict[Task, Any] = {"dpo": ["sigmoid"], "kto": "kto"}
        arguments |= {"beta": facts.number("dpo.beta"), "loss_type": loss[task]}
        if plan.asked.method == "full":
            arguments["precompute_ref_log_probs"] = True
    else:
        arguments["packing"] = schedule.packing
        if schedule.packing:
            arguments["model_init_kwargs"] = {"attn_implementation": FLASH}
    return arguments


def _next_steps(
    request: LoraRequest,
    task: Task,
    plan: Plan,
    peft: dict[str, Any],
    training: dict[str, Any],
) -> list[NextStep]:
    if plan.vram.fits in {"no", "tight"}:
        return list(plan.vram.next_steps)
    left_out, also = CHOSEN_AT_LAUNCH, "" if request.dataset else "stand_in"
    if request.dataset and not request.validation:
        # Rows are held out where the schedule is left to the launch.
        left_out, also = left_out | {"num_train_epochs"}, "rows_held_out"
    arguments: dict[str, Any] = {
        "model": request.model,
        "dataset": request.dataset or STAND_IN,
        "validation": request.validation,
        "method": plan.asked.method,
        "peft": {key: value for key, value in peft.items() if key != "task_type"},
        "training": {k: v for k, v in training.items() if k not in left_out},
    }
    return [next_step("plan_suggested", arguments, also, tool=launch_tool(task), file=STAND_IN)]
