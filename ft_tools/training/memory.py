"""Ask estimate_vram whether the plan fits the GPU at hand."""

from typing import Any, get_args

from ft_tools import rules
from ft_tools.errors import BadInput, NotFound
from ft_tools.launchers.place import Place
from ft_tools.training.hardware import Device
from ft_tools.vram import VramReport, VramRequest, estimate_vram
from ft_tools.vram.setup import Optimizer

FINDING = "does_not_fit"
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
        report = _estimate(model, task, method, peft, training, device, dtype, place)
    except (BadInput, NotFound):
        return None
    if report.fits == "no" and FINDING not in accepted:
        changes = "; ".join(change.change for change in report.changes_to_fit)
        observed = (
            f"about {report.peak_allocated_gib:.1f} GiB are needed and "
            f"{report.usable_gib or 0:.1f} GiB usable on {device.model}"
        )
        cure = f"In this order: {changes}." if changes else "Take a smaller model or a larger card."
        raise rules.refusal(FINDING, observed, cure)
    return report.model_dump(mode="json", include=set(SHOWN))


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
        "task": task,
        "method": method,
        "seq_len": training.get("max_length") or 2048,
        "micro_batch": training["per_device_train_batch_size"],
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
