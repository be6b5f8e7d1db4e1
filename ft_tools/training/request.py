"""What launch_sft and launch_dpo are asked."""

from typing import Any, Literal

from pydantic import Field, model_validator

from ft_tools.advice.request import ApproachRequest
from ft_tools.runs.launchers.table import Backend
from ft_tools.runs.request import LaunchRequest

Method = Literal["lora", "qlora", "full"]


class TrainingRequest(LaunchRequest):
    """The arguments that both launches share."""

    dataset: str = Field(description="JSONL of training examples.")
    validation: str | None = Field(
        None, description="Held-out JSONL; without it some are held out."
    )
    method: Method = Field("lora", description="lora, qlora (4-bit base) or full.")
    peft: dict[str, Any] = Field(
        default_factory=dict,
        description="Of peft.LoraConfig.",
    )
    training: dict[str, Any] = Field(
        default_factory=dict,
        description="Of trl.SFTConfig or DPOConfig.",
    )
    engine: Literal["auto", "torch", "mlx"] = Field(
        "auto", description="auto: MLX on Apple silicon, torch elsewhere."
    )
    backend: Backend = Field("local", description="This machine, or a scheduler's job.")
    backend_options: dict[str, Any] = Field(
        default_factory=dict,
        description='local: {"device": "cpu"}, or {"gpu": "RTX 4090"} to export; others: '
        "references/scaling.md.",
    )
    price_per_hour: float | None = Field(
        None,
        gt=0,
        description="Of this machine; adds a cost to the plan.",
    )
    accept_findings: list[str] = Field(
        default_factory=list,
        description="Ids of audit errors or rules that the user accepts.",
    )
    accept_reason: str = Field("", max_length=500, description="Why; kept in the plan.")
    advice: ApproachRequest | None = Field(
        None,
        description="As given to recommend_approach; training against it needs accept_findings.",
    )
    preflight: bool = Field(
        True, description="False: offer the plan without trying its parts on the device."
    )
    export_dir: str | None = Field(
        None,
        description="New folder for it as TRL script and Axolotl YAML.",
    )

    @property
    def is_here(self) -> bool:
        """Return whether this machine would train: no scheduler, and no GPU elsewhere is named."""
        return self.backend == "local" and not self.backend_options.get("gpu")

    @model_validator(mode="after")
    def _reason_for_what_is_accepted(self) -> "TrainingRequest":
        if self.accept_findings and not self.accept_reason.strip():
            raise ValueError(
                "accept_findings needs accept_reason: one sentence on why the user accepts the risk"
            )
        return self


class SftRequest(TrainingRequest):
    """Plan a supervised fine-tuning run; `confirm` starts it."""

    model: str | None = Field(None, description="Hub id, folder or run id.")
    from_run: str | None = Field(None, description="Finished SFT run to train further.")
    dataset: str = Field("", description="JSONL of training examples.")

    @model_validator(mode="after")
    def _one_start(self) -> "SftRequest":
        if (self.model is None) == (self.from_run is None):
            raise ValueError("pass either `model` and `dataset`, or `from_run`")
        if self.model is not None and not self.dataset:
            raise ValueError("dataset is missing: name the JSONL file to train on")
        return self


class DpoRequest(TrainingRequest):
    """Plan a preference run; `confirm` starts it.

    Pairs (`prompt`, `chosen`, `rejected`) are trained with DPO; marked answers (`prompt`,
    `completion`, `label`) with KTO.
    """

    model: str | None = Field(None, description="Instruct model, or pass sft_run.")
    sft_run: str | None = Field(None, description="Finished SFT run: the reference.")

    @model_validator(mode="after")
    def _one_start(self) -> "DpoRequest":
        if (self.model is None) == (self.sft_run is None):
            raise ValueError("pass either `model` or `sft_run`: where training starts from")
        return self
