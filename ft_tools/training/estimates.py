"""How long a run takes and how much disk it needs, from sizes alone."""

import contextlib
import os
from typing import Any

from ft_tools.errors import UnknownName
from ft_tools.facts import gpu
from ft_tools.training.hardware import Device

# Weights, gradients flow: 2 for the forward pass, 2 for the gradients of activations, 2 for those
# of weights, which an adapter does without. Source: arXiv 2001.08361, appendix B.
FLOPS_PER_PARAM_TOKEN = {"full": 6, "lora": 4, "qlora": 4}
REFERENCE_FLOPS = 2
"""A preference run also passes both answers through the reference."""
# Measured: LoRA steps of SmolLM2-135M, 111 tokens a second of one core in float32.
CPU_FLOPS_PER_CORE = 6.0e10
# Source: arXiv 2204.02311 (PaLM) reports 0.46; a single adapter run on one card reaches less.
GPU_UTILISATION = 0.3
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


def seconds(
    num_params: int | None, tokens: int, method: str, task: str, device: Device
) -> float | None:
    """Return a rough duration in seconds, to two digits; None when the size is not known."""
    if num_params is None:
        return None
    flops = FLOPS_PER_PARAM_TOKEN[method] + (REFERENCE_FLOPS if task == "dpo" else 0)
    rate = _flops_per_second(device)
    return None if rate is None else float(f"{flops * num_params * tokens / rate:.2g}")


def _flops_per_second(device: Device) -> float | None:
    if device.name == "cpu":
        return CPU_FLOPS_PER_CORE * (os.cpu_count() or 1)
    with contextlib.suppress(UnknownName):
        peak = gpu(device.model).bf16_dense_tflops
        return None if peak is None else peak * 1e12 * GPU_UTILISATION
    return None
