"""How long a run takes and how much disk it needs, from sizes alone."""

import contextlib
import os
from typing import Any

from ft_tools.errors import BadData, UnknownName
from ft_tools.facts import gpu
from ft_tools.runs import directory
from ft_tools.runs.hardware import Device
from ft_tools.training.plan import Duration, ModelPlan

# Weights, gradients flow: 2 for the forward pass, 2 for the gradients of activations, 2 for those
# of weights, which an adapter does without. Source: arXiv 2001.08361, appendix B.
FLOPS_PER_PARAM_TOKEN = {"full": 6, "lora": 4, "qlora": 4}
REFERENCE_FLOPS = 2
"""A preference run also passes both answers through the reference."""
# Measured: LoRA steps of SmolLM2-135M, 111 tokens a second of one core in float32 (6e10); half of
# it beside another program, twice with products in bfloat16.
CPU_FLOPS_PER_CORE = (3.0e10, 1.2e11)
# Source: arXiv 2204.02311 (PaLM) reports 0.46; a single adapter run on one card reaches less.
GPU_UTILISATION = (0.15, 0.46)
MEASURED_MARGIN = 1.25
"""What an earlier run's rate may be off by: other lengths, other neighbours."""
LOOKED_AT = 50
KEPT_RATES = 5
LEAST = 5.0
"""Seconds of training from which on a rate says something."""
# AdamW keeps two float32 numbers for each trained weight, beside the weight.
STATE_BYTES_PER_PARAM = 12
KEPT_CHECKPOINTS = 3
FIXED_BYTES = 64 * 2**20
"""Tokenizer in each checkpoint, log, metrics and page."""


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


def disk_bytes(num_params: int | None, trained: int | None, method: str) -> int:
    """Return the bytes of the kept checkpoints and one more, the artifact and the rest."""
    if trained is None:
        return FIXED_BYTES
    checkpoint = STATE_BYTES_PER_PARAM * trained
    return (KEPT_CHECKPOINTS + 1) * checkpoint + 4 * trained + FIXED_BYTES


def duration(
    model: ModelPlan, method: str, task: str, device: Device, tokens: int, price: float | None
) -> Duration | None:
    """Return how long a run takes, as a range; None when the model's size is not known.

    From finished runs of the same model, method and device, if this workspace has any; else from
    the operations that a token costs and what such a device does in a second.

    Args:
        model: The plan's.
        method: lora, qlora or full.
        task: sft or dpo.
        device: What it computes on.
        tokens: Of all epochs.
        price: Of an hour, in any currency.
    """
    rates = measured_rates(model, method, task, device)
    if rates:
        fast, slow = max(rates) * MEASURED_MARGIN, min(rates) / MEASURED_MARGIN
        source = f"{len(rates)} earlier runs of this model here"
    else:
        flops = FLOPS_PER_PARAM_TOKEN[method] + (REFERENCE_FLOPS if task == "dpo" else 0)
        speeds = _flops_per_second(device)
        if model.num_params is None or speeds is None:
            return None
        slow, fast = (speed / (flops * model.num_params) for speed in speeds)
        source = "the table of rates; the first run here makes it narrower"
    low, high = (float(f"{tokens / rate:.2g}") for rate in (fast, slow))
    hours = None if price is None else price / 3600
    return Duration(
        low_seconds=low,
        high_seconds=high,
        source=source,
        low_cost=None if hours is None else round(low * hours, 2),
        high_cost=None if hours is None else round(high * hours, 2),
    )


def measured_rates(model: ModelPlan, method: str, task: str, device: Device) -> list[float]:
    """Return the tokens a second of finished runs of this workspace that are like this one."""
    wanted = (model.config_sha256, method, task, device.model, device.precision)
    found: list[float] = []
    runs = [run for run in directory.all_runs() if run.name.startswith(f"{task}-")]
    for run_dir in runs[:LOOKED_AT]:
        with contextlib.suppress(BadData, OSError, KeyError, TypeError):
            report = directory.read_json(run_dir / "report.json")
            plan = directory.read_json(run_dir / "plan.json")
            if report is None or plan is None:
                continue
            at = plan["device"]
            seen = (plan["model"]["config_sha256"], plan["method"], plan["task"], at["model"])
            rate = float(report["tokens_per_second"])
            if (*seen, at["precision"]) == wanted and rate > 0 and report["seconds"] > LEAST:
                found.append(rate)
    return found[:KEPT_RATES]


def _flops_per_second(device: Device) -> tuple[float, float] | None:
    """Return the operations a second of a slow and of a fast run on a device."""
    if device.name == "cpu":
        cores = os.cpu_count() or 1
        return CPU_FLOPS_PER_CORE[0] * cores, CPU_FLOPS_PER_CORE[1] * cores
    with contextlib.suppress(UnknownName):
        peak = gpu(device.model).bf16_dense_tflops
        if peak is not None:
            return peak * 1e12 * GPU_UTILISATION[0], peak * 1e12 * GPU_UTILISATION[1]
    return None
