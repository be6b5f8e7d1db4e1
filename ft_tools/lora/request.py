"""What suggest_lora_config takes and returns."""

from typing import Any, Literal

from pydantic import Field, model_validator

from ft_tools.contract import NextStep, Reason, Report, Request
from ft_tools.vram.report import VramReport
from ft_tools.vram.setup import Method, Task

Goal = Literal["style", "instruction", "domain", "reasoning", "classification", "preference"]


class LoraRequest(Request):
    """What is to be learned, from how much, on which card."""

    model: str = Field(
        description="Catalog name or Hub id, folder in the workspace, or run id of an SFT run."
    )
    goal: Goal = Field("instruction", description="preference means DPO; all others SFT.")
    num_examples: int | None = Field(None, ge=1, description="Training examples, or pairs.")
    mean_completion_tokens: float | None = Field(
        None, gt=0, description="Tokens of an answer on average; audit_dataset reports it."
    )
    seq_len: int | None = Field(
        None, ge=8, le=16_777_216, description="Longest example in tokens; default 2048."
    )
    gpu: str | None = Field(None, description="Catalog name, such as RTX 4090 or A100-80GB.")
    gpu_memory_gib: float | None = Field(
        None, gt=0, description="Memory of the card in GiB, instead of a name."
    )
    method: Literal["auto", "lora", "qlora", "full"] = Field(
        "auto", description="auto: LoRA where it fits, else QLoRA."
    )

    @model_validator(mode="after")
    def _one_card(self) -> "LoraRequest":
        if self.gpu is not None and self.gpu_memory_gib is not None:
            raise ValueError("give either gpu or gpu_memory_gib, not both")
        return self


class LoraReport(Report):
    """Arguments that can be passed on as they are, and why they are what they are."""

    summary: str = Field(description="The answer in a sentence.")
    method: Method = Field(description="full, lora or qlora.")
    task: Task = Field(description="sft, or dpo for preferences.")
    peft: dict[str, Any] = Field(
        description="Keyword arguments of peft.LoraConfig; empty for full fine-tuning."
    )
    quantization: dict[str, Any] | None = Field(
        description="Keyword arguments of transformers.BitsAndBytesConfig; null if none."
    )
    training: dict[str, Any] = Field(
        description="Keyword arguments of trl.SFTConfig, or trl.DPOConfig for dpo; add output_dir."
    )
    effective_batch: int = Field(description="Sequences per optimizer step.")
    estimated_steps: int | None = Field(
        description="Optimizer steps of all epochs; null without num_examples."
    )
    trainable_params: int = Field(description="Parameters that are trained.")
    total_params: int = Field(description="Parameters of the base model, adapters not among them.")
    trainable_fraction: float = Field(
        description="Trained share of all parameters, adapters counted in, as PEFT prints it."
    )
    vram: VramReport = Field(description="estimate_vram of exactly this run.")
    gave_up: list[str] = Field(description="What had to be given up to fit the card.")
    reasons: list[Reason]
    next_steps: list[NextStep]
