"""What a trace of the real classes is asked, and how it is compared with the formulas."""

from collections.abc import Mapping

from pydantic import Field

from ft_tools.contract import Report
from ft_tools.vram.phases import Phases
from ft_tools.vram.setup import Setup

GIB = 2**30
# Every block is alike, so that two depths tell what one more block adds.
DEPTHS = (2, 4)


class TraceReport(Report):
    """A second estimate, independent of the formulas, and the first beside it."""

    peak_allocated_gib: float = Field(description="Largest phase of the trace, GiB.")
    phases: dict[str, float] = Field(description="Phase -> GiB, traced.")
    formula: dict[str, float] = Field(description="The same phases by estimate_vram's formulas.")
    difference_fraction: float = Field(description="Formula's peak over the traced one, less one.")
    traced_layers: list[int] = Field(description="Depths that were traced; the rest is linear.")
    assumptions: list[str] = Field(description="What the trace does not see.")


def at_depth(
    shallow: Mapping[str, int], deep: Mapping[str, int], num_layers: int
) -> dict[str, float]:
    """Extrapolate the phases of two traced depths to the model's own.

    >>> at_depth({"loss": 30}, {"loss": 50}, num_layers=32)
    {'loss': 330.0}
    """
    span = DEPTHS[1] - DEPTHS[0]
    return {
        name: deep[name] + (deep[name] - shallow[name]) / span * (num_layers - DEPTHS[1])
        for name in deep
    }


def by_formula(found: Phases) -> dict[str, float]:
    """Return the formulas' phases under the trace's names, without cuBLAS's workspaces."""
    sizes = {
        name: sum(parts.values()) - parts.get("workspace", 0.0)
        for name, parts in found.phases.items()
    }
    return {
        "loss": sizes["loss"],
        "backward": max(sizes["backward_top"], sizes["backward_bottom"]),
        "optimizer": sizes["optimizer"],
    }


def compared(setup: Setup, traced: Mapping[str, float], found: Phases) -> TraceReport:
    """Put a trace and the formulas side by side."""
    formula = by_formula(found)
    peak = max(traced.values())
    notes = [
        "attention keeps what FlashAttention keeps; eager attention and masks are not traced",
        "the loss is that of full logits, whatever the request asks for",
        "the trace runs on fake CPU tensors: kernels that fuse on a GPU are not fused in it",
    ]
    if setup.num_gpus > 1:
        notes.append("one GPU: sharding is not traced")
    return TraceReport(
        peak_allocated_gib=round(peak / GIB, 4),
        phases={name: round(size / GIB, 4) for name, size in traced.items()},
        formula={name: round(size / GIB, 4) for name, size in formula.items()},
        difference_fraction=round(max(formula.values()) / peak - 1, 5),
        traced_layers=list(DEPTHS),
        assumptions=notes,
    )
