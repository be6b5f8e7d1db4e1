"""What estimate_vram returns."""

from typing import Any

from pydantic import Field

from ft_tools.contract import NextStep, Reason, Report
from ft_tools.memory.bounds import Basis, Fits


class Change(Report):
    """A change to make, in addition to those listed before it."""

    CONCISE = ("change", "cost", "peak_allocated_gib", "fits")

    change: str = Field(description="What to change.")
    arguments: dict[str, Any] = Field(
        description="Arguments of estimate_vram with all changes so far."
    )
    cost: str = Field(description="What it costs in quality or speed.")
    peak_allocated_gib: float = Field(
        description="Peak after this change and those before it, in GiB."
    )
    fits: Fits = Field(description="Whether the run fits then.")


class SecondOpinion(Report):
    """The same step with the activations traced on the real class, not by formula."""

    peak_allocated_gib: float = Field(description="Largest phase of the trace, in GiB.")
    difference_fraction: float = Field(description="Peak by formula / traced peak - 1.")
    agrees: bool = Field(description="The trace lies within the formulas' interval.")
    phases: dict[str, float] = Field(description="Traced peak of each phase, in GiB.")


class VramReport(Report):
    """Peak memory of one GPU during training, and what would make it fit."""

    CONCISE = (
        *("summary", "fits", "max_micro_batch", "max_seq_len", "changes_to_fit"),
        *("second_opinion", "interval_basis", "assumptions", "reasons", "trainable_params"),
    )

    summary: str = Field(description="The answer in a sentence.")
    fits: Fits = Field(
        description="yes: the upper bound of what the process takes fits; tight: only the estimate "
        "does; no: neither does; unknown: no GPU was named."
    )
    peak_allocated_gib: float = Field(
        description="Peak torch.cuda.max_memory_allocated of one GPU, in GiB. nvidia-smi shows "
        "more: see process_*."
    )
    peak_allocated_low_gib: float = Field(description="Lower bound of the peak, in GiB.")
    peak_allocated_high_gib: float = Field(description="Upper bound of the peak, in GiB.")
    interval_basis: Basis = Field(
        description="What the bounds rest on: published measurements of this family; traces of its "
        "class; or a dense model of the same sizes in its place."
    )
    interval_note: str = Field(description="What the bounds rest on, in a sentence.")
    process_low_gib: float = Field(description="Lower bound of what nvidia-smi shows, in GiB.")
    process_high_gib: float = Field(
        description="Upper bound of what nvidia-smi shows, in GiB. The allocator releases cached "
        "memory before it runs out, so a run above the GPU's memory may still work."
    )
    usable_gib: float | None = Field(description="GPU memory that training can use, in GiB.")
    phases: dict[str, float] = Field(
        description="Peak of each phase of a step, in GiB; the largest is the peak."
    )
    dominant_phase: str = Field(description="The phase that sets the peak.")
    components: dict[str, float] = Field(description="Components of the dominant phase, in GiB.")
    max_micro_batch: int | None = Field(
        description="Largest micro_batch that fits, all else equal; 0 if none, null without a GPU."
    )
    max_seq_len: int | None = Field(
        description="Longest seq_len that fits, all else equal, up to the model's maximum; "
        "0 if none, null without a GPU."
    )
    changes_to_fit: list[Change] = Field(
        description="Changes that make the run fit, those that cost least quality first. Each adds "
        "to those before it. Empty if the run fits or no GPU was named."
    )
    second_opinion: SecondOpinion | None = Field(
        None, description="A trace of the real class, if it was asked for and is possible."
    )
    total_params: int = Field(description="Parameters of the base model.")
    trainable_params: int = Field(description="Parameters that are trained.")
    assumptions: list[str] = Field(description="Assumptions of the estimate.")
    reasons: list[Reason]
    next_steps: list[NextStep]
