"""What estimate_vram returns."""

from typing import Any, Literal

from pydantic import Field

from ft_tools.contract import NextStep, Reason, Report

Fits = Literal["yes", "tight", "no", "unknown"]


class Change(Report):
    """One more thing to change, on top of those listed before it."""

    change: str = Field(description="What to change.")
    arguments: dict[str, Any] = Field(description="Arguments of estimate_vram, all changes so far.")
    cost: str = Field(description="What it costs in quality or speed.")
    peak_allocated_gib: float = Field(description="Peak after this and the changes before it, GiB.")
    fits: Fits = Field(description="Whether it fits then.")


class VramReport(Report):
    """Where the memory of one GPU goes, and what would make it fit."""

    summary: str = Field(description="The answer in a sentence.")
    fits: Fits = Field(
        description="yes: within the fit fraction of usable memory; tight: within all of it; "
        "no: beyond; unknown: no GPU was named."
    )
    peak_allocated_gib: float = Field(
        description="Largest torch.cuda.max_memory_allocated of one GPU, GiB. Not what nvidia-smi "
        "shows: see process_*."
    )
    peak_allocated_low_gib: float = Field(description="Lower end of its interval, GiB.")
    peak_allocated_high_gib: float = Field(description="Upper end of its interval, GiB.")
    interval_basis: str = Field(description="On what measurements the interval's width rests.")
    process_low_gib: float = Field(description="Least that nvidia-smi would show, GiB.")
    process_high_gib: float = Field(
        description="Most that nvidia-smi would show, GiB. The allocator gives its slack back "
        "before it runs out, so this may exceed the card and still train."
    )
    usable_gib: float | None = Field(description="Memory that training can use on the card, GiB.")
    phases: dict[str, float] = Field(description="Phase -> its peak in GiB; the largest counts.")
    dominant_phase: str = Field(description="The phase that sets the peak.")
    components: dict[str, float] = Field(description="Component -> GiB, of the dominant phase.")
    max_micro_batch: int | None = Field(
        description="Largest micro_batch that fits, all else equal; 0: none; null: no GPU."
    )
    max_seq_len: int | None = Field(
        description="Longest seq_len that fits, all else equal, at most the model's positions; "
        "0: none; null: no GPU."
    )
    changes_to_fit: list[Change] = Field(
        description="What to change until it fits, cheapest in quality first, then in speed. Each "
        "builds on those before it. Empty when it fits, or no GPU was named."
    )
    total_params: int = Field(description="Parameters of the base model.")
    trainable_params: int = Field(description="Parameters that are trained.")
    assumptions: list[str] = Field(description="What was taken for granted, versions among it.")
    reasons: list[Reason]
    next_steps: list[NextStep]
