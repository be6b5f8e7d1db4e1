"""What suggest_lora_config takes."""

from typing import Literal

from pydantic import Field, model_validator

from ft_tools.contract import Request
from ft_tools.lora.data_shape import Goal
from ft_tools.memory.request import MODEL


class LoraRequest(Request):
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
    gpu: str | None = Field(None, description="GPU name, such as RTX 4090 or A100-80GB.")
    gpu_memory_gib: float | None = Field(
        None, gt=0, description="GPU memory in GiB, instead of a name."
    )
    method: Literal["auto", "lora", "qlora", "full"] = Field(
        "auto", description="auto: LoRA if it fits, otherwise QLoRA."
    )

    @model_validator(mode="after")
    def _one_card(self) -> "LoraRequest":
        if self.gpu is not None and self.gpu_memory_gib is not None:
            raise ValueError("pass either gpu or gpu_memory_gib, not both")
        return self
