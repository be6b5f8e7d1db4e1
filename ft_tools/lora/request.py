"""What suggest_lora_config takes."""

from typing import Literal

from pydantic import Field

from ft_tools.lora.data_shape import Goal
from ft_tools.memory.request import MODEL, GpuRequest


class LoraRequest(GpuRequest):
    """Suggest adapter and training settings, as arguments of PEFT and TRL, and the launch."""

    model: str = Field(description=MODEL)
    goal: Goal | None = Field(
        None, description="preference: DPO; all others: SFT. Default: read from dataset."
    )
    dataset: str | None = Field(None, description="Training JSONL: sets what follows.")
    validation: str | None = Field(None, description="Default: the one beside dataset.")
    num_examples: int | None = Field(None, ge=1, description="Training examples, or pairs.")
    mean_completion_tokens: float | None = Field(
        None, gt=0, description="Mean per answer; audit_dataset reports it."
    )
    seq_len: int | None = Field(
        None, ge=8, le=16_777_216, description="Longest example in tokens; default 2048."
    )
    method: Literal["auto", "lora", "qlora", "full"] = Field(
        "auto", description="auto: LoRA if it fits, otherwise QLoRA."
    )
