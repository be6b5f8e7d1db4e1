"""How long a step of a plan takes on its device: measured in small by the preflight's process.

The process builds the planned class with one and with three blocks, random weights and the planned
adapter, and times a pass through both. What differs is two blocks; a step is that, times the
plan's number of blocks, plus the rest.
"""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ft_tools.training.training_plan import TrainingPlan

MOST_TOKENS = {"cpu": 256, "cuda": 16_384}
"""Of the pass that is timed; the time of a longer one is in proportion."""


class StepQuestion(BaseModel):
    """The shape of a step."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    config: str = Field(description="Folder of config.json.")
    config_sha256: str
    device: str
    dtype: str = Field(description="Of the weights.")
    precision: str = Field(description="Of the products.")
    peft: dict[str, Any] | None
    init: dict[str, Any] = Field(description="Of model_init_kwargs.")
    checkpointing: bool
    rows: int
    length: int
    trained_fraction: float = Field(description="Of the tokens, those that the loss counts.")
    load: float = Field(0.0, description="Other programs that want each core meanwhile.")


class StepTime(BaseModel):
    """What one token of a batch takes, in seconds, and what a step takes besides."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    train: float = Field(description="Forward and backward.")
    forward: float = Field(description="Forward alone.")
    optimizer: float = Field(description="Of a step: what all trained weights take.")


def question_of(plan: TrainingPlan, load: float) -> StepQuestion | None:
    """Return the shape of a plan's step; None where it cannot be measured here."""
    counts, training, device = plan.counts, plan.training, plan.device
    folder = Path(plan.model.load_from)
    if counts is None or not (folder / "config.json").is_file():
        return None
    if plan.engine != "torch" or plan.place.sharding != "ddp":
        return None
    limit = training.get("max_length") or counts.lengths.longest_tokens
    mean = counts.lengths.mean_tokens
    padded = limit if training.get("packing") else min(limit, mean / (1 - plan.padding))
    length = max(2, round(padded))
    micro = training["per_device_train_batch_size"] * (1 if plan.task == "sft" else 2)
    init = training.get("model_init_kwargs") or {}
    return StepQuestion(
        config=str(folder),
        config_sha256=plan.model.config_sha256,
        device=device.name,
        dtype=plan.weights_dtype,
        precision=device.precision,
        peft=plan.peft,
        init={key: value for key, value in init.items() if key == "attn_implementation"},
        checkpointing=bool(training.get("gradient_checkpointing")),
        rows=max(1, min(micro, MOST_TOKENS[device.name] // length)),
        length=min(length, MOST_TOKENS[device.name]),
        trained_fraction=round(min(1.0, counts.lengths.mean_answer_tokens / mean), 2),
        load=load,
    )
