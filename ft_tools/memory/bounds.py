"""How far off an estimate may be, what the process takes beyond it, and whether that fits a GPU."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ft_tools import facts
from ft_tools.memory.phases import Phases, phases
from ft_tools.memory.setup import Setup

GIB = 2**30
REFERENCE = "references/memory.md"
Basis = Literal["measured_family", "traced_family", "stand_in"]
Fits = Literal["yes", "tight", "no", "unknown"]
FITS: Mapping[Fits, str] = {"yes": "fits", "tight": "is tight on", "no": "does not fit"}
# Families with published measurements: benchmarks/vram.py has every row.
MEASURED = {"llama", "mistral", "mixtral", "qwen2"}
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
APPLE_SLACK = 1.5
APPLE_PROCESS_GIB = 0.6


@dataclass(frozen=True)
class Interval:
    """The relative half-width of an estimate, and what it rests on."""

    fraction: float
    basis: Basis
    note: str


@dataclass(frozen=True)
class Estimate:
    """The memory of one training step, with its bounds; all in bytes."""

    setup: Setup
    phases: Phases
    interval: Interval
    """Of the largest phase."""
    high: float
    """The most that may be allocated: each phase has an interval of its own."""
    process_low: float
    process_high: float
    """What nvidia-smi would show for the process, at least and at most."""
    context: float
    """What CUDA itself takes of the card."""

    @property
    def peak(self) -> float:
        """Return the bytes of the largest phase."""
        return self.phases.peak

    @property
    def low(self) -> float:
        """Return the least that may be allocated."""
        return self.peak * (1 - self.interval.fraction)

    def fits(self, usable_gib: float | None) -> Fits:
        """Compare what the process takes with a GPU.

        yes: the upper bound of the process fits; tight: only the estimate does; no: neither. MLX
        frees the buffers that it keeps before memory runs out, so they do not count there.
        """
        if usable_gib is None:
            return "unknown"
        usable = usable_gib * GIB
        bound = self.high if self.setup.engine == "mlx" else self.process_high
        if bound <= usable:
            return "yes"
        return "tight" if self.peak + self.context <= usable else "no"


def estimate(setup: Setup, gpu: str | None = None) -> Estimate:
    """Estimate a step, with its bounds."""
    found = phases(setup)
    sizes = {name: sum(parts.values()) for name, parts in found.phases.items()}
    high = max(size * (1 + interval(setup, name).fraction) for name, size in sizes.items())
    width = interval(setup, found.dominant)
    low = found.peak * (1 - width.fraction)
    if setup.engine == "mlx":
        most = high * APPLE_SLACK + APPLE_PROCESS_GIB * GIB
        return Estimate(setup, found, width, high, low, most, 0.0)
    head = setup.head.removesuffix("_old")
    kind = head if head in {"full_logits", "fused_logits"} else "tiled"
    least_slack, most_slack = SLACK[kind, setup.num_gpus > 1]
    context = by_card(CONTEXT_GIB, gpu, DEFAULT_CONTEXT_GIB) * GIB
    most = high * most_slack + context
    # The lowest ratios seen are of processes, their contexts included.
    return Estimate(setup, found, width, high, low * least_slack, most, context)


def usable_gib(gpu: str | None, gpu_memory_gib: float | None) -> float | None:
    """Return the memory that PyTorch sees on a card, in GiB; None where none was named.

    A published total capacity where there is one, else a fraction of the printed memory, which is
    smaller for cards that keep error-correcting codes in it.

    Raises:
        UnknownName: No such GPU.

    >>> usable_gib("A100-80GB", None)
    79.15
    """
    if gpu is None:
        if gpu_memory_gib is None:
            return None
        return round(gpu_memory_gib * facts.number("vram.usable_fraction"), 2)
    card = facts.gpu(gpu)
    if card.usable_gib is not None:
        return card.usable_gib
    key = "vram.usable_fraction_ecc" if card.ecc_in_memory else "vram.usable_fraction"
    return round(card.memory_gib * facts.number(key), 2)


def interval(setup: Setup, phase: str) -> Interval:
    """Return how far the true allocation may be from the estimate."""
    shape = setup.shape
    if setup.engine == "mlx":
        known: Basis = "stand_in" if shape.is_described else "measured_family"
        note = f"peaks that others published from Macs; none was measured here ({REFERENCE})"
        return Interval(facts.number("vram.interval_apple"), known, note)
    if shape.is_described and setup.profile is None:
        key = "vram.interval_stand_in"
        wide = facts.number(key if setup.checkpointing else f"{key}_kept")
        what = "a dense model of these sizes stands in for the real one"
        return Interval(wide, "stand_in", f"{what} ({REFERENCE})")
    basis: Basis = "measured_family" if shape.model_type in MEASURED else "traced_family"
    if unmeasured := _unmeasured(setup, phase):
        wide = facts.number("vram.interval_unmeasured")
        return Interval(wide, basis, f"no published measurement of {', '.join(unmeasured)}")
    # What makes it wider than that of a dense model on one GPU.
    parts = {
        "several GPUs": setup.num_gpus > 1,
        "experts": shape.num_experts > 0,
        "eager attention": setup.attention == "eager",
        "TRL's fused head": setup.head == "trl_fused",
        "activations that are kept": not setup.checkpointing,
    }
    if wider := [name for name, holds in parts.items() if holds]:
        note = f"traces and measured runs, wider for {', '.join(wider)} ({REFERENCE})"
        return Interval(facts.number("vram.interval_sharded"), basis, note)
    note = f"measured dense runs on one GPU ({REFERENCE})"
    return Interval(facts.number("vram.interval_dense"), basis, note)


def _unmeasured(setup: Setup, phase: str) -> list[str]:
    """Name what no published row covers, so that the interval has to be wide."""
    parts = {
        f"{setup.sharding} sharding": setup.sharding not in {"none", "fsdp1"},
        "DPO": setup.task == "dpo",
        "generation": phase in {"prefill", "generation"},
        "packed rows under SDPA": setup.packed and setup.attention != "flash",
        "eager attention without checkpointing": setup.attention == "eager"
        and not setup.checkpointing,
        "fp32 weights": setup.dtype == "float32",
        "TRL's fused head": setup.head == "trl_fused" and phase == "loss",
        "experts in 16 bits under qlora": setup.quantization is not None
        and setup.shape.num_experts > 0
        and not setup.experts_quantized,
        "adapters over fused experts": setup.adapts_experts,
        "other families than gated ones": not setup.shape.gated,
        "this family: its activations are traced": setup.profile is not None,
    }
    return [name for name, holds in parts.items() if holds]


def by_card(sizes: Mapping[str, float], gpu: str | None, default: float) -> float:
    """Return the size of the first card that a GPU's name has in it."""
    named = (gpu or "").lower()
    return next((size for card, size in sizes.items() if card.lower() in named), default)
