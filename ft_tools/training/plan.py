"""What a launch would do, in full: the model that is hashed, confirmed, stored and obeyed."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ft_tools.examples.masking import LossOn
from ft_tools.examples.training_rows import DatasetFacts
from ft_tools.runs.hardware import Device
from ft_tools.runs.launchers.place import Place
from ft_tools.training.counts import Counts
from ft_tools.training.request import Method


class ModelPlan(BaseModel):
    """Where the weights come from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(description="As it was asked for.")
    load_from: str = Field(description="Folder or Hub id of the base weights.")
    adapter: str | None = Field(None, description="Adapter that training continues from.")
    base_model: str = Field(description="Model argument that names the base; kept as lineage.")
    num_params: int | None = Field(None, description="Of the base, from its files' headers.")
    config_sha256: str = Field("", description="Of config.json; empty for a model not here yet.")
    template_sha256: str = Field("", description="Of the chat template; empty without one.")


class Duration(BaseModel):
    """How long the run takes; learnt on, so no part of what is agreed to."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    low_seconds: float
    high_seconds: float
    source: str = Field(description="An earlier run on this device, or the table of rates.")
    low_cost: float | None = Field(None, description="At price_per_hour, in its currency.")
    high_cost: float | None = Field(None, description="At price_per_hour, in its currency.")


class Estimate(BaseModel):
    """What the run would take; estimates, not measurements."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int = Field(description="Optimizer steps, before early stopping.")
    tokens: int = Field(
        description="Tokens of all epochs: counted where the plan has `counts`, else a quarter of "
        "the characters."
    )
    duration: Duration | None = Field(None, description="Null where the size is not known.")
    disk_bytes: int = Field(description="Checkpoints, the artifact and the logs.")
    vram: dict[str, Any] | None = Field(None, description="Of estimate_vram, for a GPU.")


class TrainingPlan(BaseModel):
    """The parts that SFT and DPO share."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: Literal["sft", "dpo"]
    model: ModelPlan
    dataset: DatasetFacts
    validation: DatasetFacts | None = None
    counts: Counts | None = Field(
        None, description="After tokenisation; null where the tokenizer is not on this machine."
    )
    method: Method
    device: Device
    weights_dtype: str = Field(description="Numbers that the base weights are held in.")
    peft: dict[str, Any] | None = Field(description="Of peft.LoraConfig; null for full.")
    quantization: dict[str, Any] | None = Field(description="Of BitsAndBytesConfig; null if none.")
    training: dict[str, Any] = Field(description="Of trl.SFTConfig or DPOConfig.")
    patience: int | None = Field(
        None, description="Evaluations without a better one until it stops; null: never early."
    )
    samples: int = Field(0, description="Held-out prompts answered at each evaluation.")
    place: Place = Field(default_factory=Place, description="Where it runs.")
    estimate: Estimate
    accepted: list[str] = Field(default_factory=list, description="Findings taken as they are.")
    accept_reason: str = Field("", description="Why, in the user's words.")
    warnings: list[str] = Field(default_factory=list)

    @property
    def effective_batch(self) -> int:
        """Return the examples that one optimizer step sees."""
        micro: int = self.training["per_device_train_batch_size"]
        accumulated: int = self.training["gradient_accumulation_steps"]
        return micro * accumulated * self.place.num_processes


class SftPlan(TrainingPlan):
    """A supervised run."""

    task: Literal["sft"] = "sft"
    loss_on: LossOn = Field("answers", description="Which tokens the loss counts.")


class DpoPlan(TrainingPlan):
    """A preference run."""

    task: Literal["dpo"] = "dpo"
    reference: Literal["adapter_off", "frozen_copy", "second_model"] = Field(
        description="adapter_off: the base without the new adapter. frozen_copy: the SFT adapter "
        "as it was. second_model: the model before training, kept beside it."
    )
