"""How far off an estimate may be, and what the process takes beyond what is allocated."""

from dataclasses import dataclass
from typing import Literal

from ft_tools import facts
from ft_tools.vram.setup import Setup

GIB = 2**30
# CUDA context of one process, GiB: T4 measured 0.1376 (fitcheck, all rows); others are inferred.
CONTEXT_GIB = {"T4": 0.14, "A100": 0.45, "H100": 0.55, "H200": 0.55, "V100": 1.3}
DEFAULT_CONTEXT_GIB = 0.5

# nvidia-smi over max_memory_allocated: lowest and highest ratio seen, by loss head and by whether
# weights are sharded. Slack is largest where full logits come and go.
# Source: fms-acceleration scripts/benchmarks/refs, benchmarks/vram.py prints the spread.
SLACK = {
    ("tiled", False): (1.00, 1.16),
    ("fused_logits", False): (1.00, 1.64),
    ("full_logits", False): (1.02, 1.42),
    ("tiled", True): (1.08, 1.60),
    ("fused_logits", True): (1.08, 1.85),
    ("full_logits", True): (1.08, 1.75),
}


# What MLX holds over its peak: freed buffers that it keeps, after a step of 12 runs on its CPU
# backend; and Python with PyTorch. Source: benchmarks/apple.py.
APPLE_SLACK = (1.0, 1.5)
APPLE_PROCESS_GIB = 0.6
REFERENCE = "references/memory.md"
Basis = Literal["measured_family", "traced_family", "stand_in"]
# Families with published measurements: benchmarks/vram.py has every row.
MEASURED = {"llama", "mistral", "mixtral", "qwen2"}


@dataclass(frozen=True)
class Interval:
    """The relative half-width of an estimate, and what it rests on."""

    fraction: float
    basis: Basis
    note: str


def interval(setup: Setup, dominant: str) -> Interval:
    """Return how far the true allocation may be from the estimate.

    Args:
        setup: What is trained.
        dominant: Name of the phase that sets the peak.
    """
    shape = setup.shape
    if setup.engine == "mlx":
        known: Basis = "stand_in" if shape.is_stand_in or shape.blocks else "measured_family"
        note = f"peaks that others published from Macs; none was measured here ({REFERENCE})"
        return Interval(facts.number("vram.interval_apple"), known, note)
    if shape.is_stand_in or (shape.blocks and setup.profile is None):
        key = "vram.interval_stand_in"
        wide = facts.number(key if setup.checkpointing else f"{key}_kept")
        what = "a dense model of these sizes stands in for the real one"
        return Interval(wide, "stand_in", f"{what} ({REFERENCE})")
    basis: Basis = "measured_family" if shape.model_type in MEASURED else "traced_family"
    unmeasured = _unmeasured(setup, dominant)
    if unmeasured:
        wide = facts.number("vram.interval_unmeasured")
        return Interval(wide, basis, f"no published measurement of {', '.join(unmeasured)}")
    traced = setup.head == "trl_fused" or not setup.checkpointing
    if setup.shape.num_experts or setup.num_gpus > 1 or setup.attention == "eager" or traced:
        note = f"traces and measured runs with FSDP, experts or eager attention ({REFERENCE})"
        return Interval(facts.number("vram.interval_sharded"), basis, note)
    note = f"measured dense runs on one GPU ({REFERENCE})"
    return Interval(facts.number("vram.interval_dense"), basis, note)


def process_band(setup: Setup, peak: float, width: float, gpu: str | None) -> tuple[float, float]:
    """Return the least and the most that nvidia-smi would show for the process, in bytes.

    Args:
        setup: What is trained.
        peak: Estimated allocation, bytes.
        width: Relative half-width of its interval.
        gpu: Name of the card, for the size of its CUDA context.
    """
    if setup.engine == "mlx":
        low, high = APPLE_SLACK
        return peak * (1 - width) * low, peak * (1 + width) * high + APPLE_PROCESS_GIB * GIB
    head = setup.head.removesuffix("_old")
    kind = head if head in {"full_logits", "fused_logits"} else "tiled"
    low, high = SLACK[kind, setup.num_gpus > 1]
    context = context_gib(gpu) * GIB
    return peak * (1 - width) * low, peak * (1 + width) * high + context


def context_gib(gpu: str | None) -> float:
    """Return the memory that CUDA itself takes on a card, in GiB."""
    for prefix, size in CONTEXT_GIB.items():
        if gpu is not None and prefix.lower() in gpu.lower():
            return size
    return DEFAULT_CONTEXT_GIB


def _unmeasured(setup: Setup, dominant: str) -> list[str]:
    """Name what no published row covers, so that the interval has to be wide."""
    parts = {
        f"{setup.sharding} sharding": setup.sharding not in {"none", "fsdp1"},
        "offloading": setup.offload != "none",
        "DPO": setup.task == "dpo",
        "eager attention without checkpointing": setup.attention == "eager"
        and not setup.checkpointing,
        "fp32 weights": setup.dtype == "float32",
        "TRL's fused head": setup.head == "trl_fused" and dominant == "loss",
        "experts in 16 bits under qlora": setup.quantization is not None
        and setup.shape.num_experts > 0
        and not setup.experts_quantized,
        "adapters over fused experts": setup.adapts_experts,
        "other families than gated ones": not setup.shape.gated,
        "this family: its activations are traced": setup.profile is not None,
    }
    return [name for name, holds in parts.items() if holds]
