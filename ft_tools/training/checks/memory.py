"""Whether a plan fits: estimate_vram for a GPU, the weights and their states for a CPU."""

from typing import Any, get_args

from ft_tools import rules
from ft_tools.errors import BadInput, NotFound
from ft_tools.runs.hardware import Device
from ft_tools.runs.launchers.place import Place
from ft_tools.vram.report import VramReport
from ft_tools.vram.request import VramRequest
from ft_tools.vram.setup import Optimizer
from ft_tools.vram.tool import estimate_vram

FINDING = "does_not_fit"
STATE_BYTES = 12
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "mlx 4-bit": 0.5625}
SHOWN = ("fits", "peak_allocated_gib", "peak_allocated_low_gib", "peak_allocated_high_gib",
         "usable_gib", "dominant_phase", "max_micro_batch")  # fmt: skip


def require_fit(
    model: str,
    task: str,
    method: str,
    peft: dict[str, Any] | None,
    training: dict[str, Any],
    device: Device,
    dtype: str,
    accepted: list[str],
    place: Place,
    used_gib: float = 0.0,
) -> dict[str, Any] | None:
    """Refuse a plan that does not fit the card, unless that was accepted.

    Returns:
        The main figures of the estimate; None on a CPU, or where the model's shape is not known.

    Raises:
        Refused: By the rule `does_not_fit`; the message says what to change.
    """
    if device.name == "cpu":
        return None
    try:
        free = device.model_copy(update={"memory_gib": max(0.1, device.memory_gib - used_gib)})
        report = _estimate(model, task, method, peft, training, free, dtype, place)
    except (BadInput, NotFound):
        return None
    if report.fits == "no" and FINDING not in accepted:
        changes = "; ".join(change.change for change in report.changes_to_fit)
        observed = (
            f"about {report.peak_allocated_gib:.1f} GiB are needed and "
            f"{report.usable_gib or 0:.1f} GiB usable on {device.model}"
        )
        if used_gib:
            observed += f", where other programs use {used_gib:.1f} GiB"
        cure = f"In this order: {changes}." if changes else "Take a smaller model or a larger card."
        raise rules.refusal(FINDING, observed, cure)
    return report.model_dump(mode="json", include=set(SHOWN))


def about_unchecked(device: Device, vram: dict[str, Any] | None) -> list[str]:
    """Warn of a run on a GPU whose memory could not be estimated."""
    if device.name == "cpu" or vram is not None:
        return []
    return [
        "memory_unchecked: whether this run fits the GPU could not be estimated; ask estimate_vram "
        "why, and confirm the plan only if you know that it fits"
    ]


def require_ram(
    num_params: int | None, trained: int | None, device: Device, dtype: str, accepted: list[str]
) -> None:
    """Refuse a model that this machine's memory cannot hold with what training adds to it.

    The weights, and for each trained one its gradient and AdamW's two numbers in float32:
    N * bytes(dtype) + 12 * T. A lower bound: activations come on top.

    Args:
        num_params: N, of the base; None where it is not known.
        trained: T, weights that are trained.
        device: Only a CPU of this machine is looked at.
        dtype: Of the weights.
        accepted: Findings taken as they are.

    Raises:
        Refused: By the rule `does_not_fit`.

    Source: https://arxiv.org/abs/1910.02054 (ZeRO), section 3: states of Adam.
    """
    if device.name != "cpu" or not device.memory_gib or num_params is None:
        return
    needed = (num_params * BYTES.get(dtype, 4) + STATE_BYTES * (trained or 0)) / 2**30
    if needed > device.memory_gib and FINDING not in accepted:
        observed = (
            f"weights and optimizer alone take {needed:.1f} GiB, this machine has "
            f"{device.memory_gib:.1f} GiB of memory and no GPU"
        )
        cure = "Take a smaller model or method='lora', or a machine with a GPU (backend)."
        raise rules.refusal(FINDING, observed, cure)


def _estimate(
    model: str,
    task: str,
    method: str,
    peft: dict[str, Any] | None,
    training: dict[str, Any],
    device: Device,
    dtype: str,
    place: Place,
) -> VramReport:
    adapter = {}
    if method != "full":
        shape = peft or {"r": 16, "target_modules": "all-linear"}
        adapter = {"lora_rank": shape["r"], "target_modules": shape["target_modules"]}
        adapter["lora_dropout"] = shape.get("lora_dropout", 0.0)
    optimizer = training["optim"]
    asked = {
        "model": model,
        # An answer with its partner of KTO is about a pair of half as many prompts.
        "task": "sft" if task == "sft" else "dpo",
        "method": method,
        "seq_len": training.get("max_length") or 2048,
        "micro_batch": -(-training["per_device_train_batch_size"] // (2 if task == "kto" else 1)),
        "gradient_accumulation_steps": training["gradient_accumulation_steps"],
        "gradient_checkpointing": bool(training.get("gradient_checkpointing")),
        "optimizer": optimizer if optimizer in get_args(Optimizer) else "adamw_torch",
        "dtype": dtype,
        "mixed_precision": device.precision != "float32",
        "padded_batches": not training.get("packing"),
        "precompute_ref_log_probs": bool(training.get("precompute_ref_log_probs")),
        "gpu_memory_gib": device.memory_gib,
        "num_gpus": place.num_processes,
        "sharding": place.sharding if place.num_processes > 1 else "none",
    }
    return estimate_vram(VramRequest.model_validate(asked | adapter))
