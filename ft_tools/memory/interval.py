"""How far off an estimate may be, and what that rests on."""

from dataclasses import dataclass
from typing import Literal

from ft_tools import facts
from ft_tools.memory.setup import Setup

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
