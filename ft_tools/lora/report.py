"""What suggest_lora_config returns."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ft_tools.contract import NextStep, Reason, Report
from ft_tools.formats.trl_formats import Task
from ft_tools.memory.setup import Method


class Memory(BaseModel):
    """What estimate_vram says of this run, in short."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    fits: str = Field(description="yes, tight, no; unknown without a GPU.")
    peak_allocated_gib: float
    peak_allocated_high_gib: float
    process_high_gib: float
    usable_gib: float | None = None
    interval_basis: str


class LoraReport(Report):
    """Arguments to pass on as they are, with the reason for each."""

    CONCISE = (
        *("summary", "task", "effective_batch", "estimated_steps", "trainable_params"),
        *("quantization", "gave_up", "reasons"),
    )
    """`peft` and `training` are the arguments of the next step."""

    summary: str = Field(description="The answer in a sentence.")
    method: Method = Field(description="full, lora or qlora.")
    task: Task = Field(description="sft, dpo for pairs, kto for marked answers.")
    peft: dict[str, Any] = Field(
        description="Keyword arguments of peft.LoraConfig; empty for full fine-tuning."
    )
    quantization: dict[str, Any] | None = Field(
        description="Keyword arguments of transformers.BitsAndBytesConfig; null without one."
    )
    training: dict[str, Any] = Field(
        description="Keyword arguments of trl.SFTConfig, or DPOConfig or KTOConfig; add output_dir."
    )
    effective_batch: int = Field(description="Sequences per optimizer step.")
    estimated_steps: int | None = Field(
        description="Optimizer steps of all epochs; null without num_examples."
    )
    trainable_params: int = Field(description="Parameters that are trained.")
    total_params: int = Field(description="Parameters of the base model, without adapters.")
    trainable_fraction: float = Field(
        description="Trainable share of all parameters, adapters included, as PEFT prints it."
    )
    vram: Memory = Field(description="The memory of this run; estimate_vram says more.")
    gave_up: list[str] = Field(description="What was reduced to fit the GPU.")
    reasons: list[Reason]
    next_steps: list[NextStep]
