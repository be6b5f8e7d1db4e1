"""What launch_grpo is asked."""

from typing import Any

from pydantic import Field, model_validator

from ft_tools.metrics.checks.request import MOST_CHECKS, Check, check_names, require_goal
from ft_tools.training.request import TrainingRequest


class GrpoRequest(TrainingRequest):
    """Plan GRPO on answers that pass checks; the first call measures the model."""

    model: str | None = Field(None, description="Or sft_run.")
    sft_run: str | None = Field(None, description="Finished SFT run.")
    dataset: str = Field(description="JSONL of prompts and references.")
    rewards: list[Check] = Field(
        min_length=1,
        max_length=MOST_CHECKS,
        description='[{"kind": "number"}]; explain("launch_grpo rewards").',
    )
    training: dict[str, Any] = Field(default_factory=dict, description="Of trl.GRPOConfig.")
    confirm: str | None = Field(None, description="As launch_sft.")
    reference_format: str = Field(
        "{answer}",
        max_length=2000,
        description="How a right answer is written around the reference, to test the rewards.",
    )
    probe: bool = Field(True, description="False: plan without measuring the starting model.")
    stop_rules: bool = Field(
        True, description="End a run whose reward is dead, gamed or without spread."
    )

    @model_validator(mode="after")
    def _one_start(self) -> "GrpoRequest":
        if (self.model is None) == (self.sft_run is None):
            raise ValueError("pass either `model` or `sft_run`: where training starts from")
        if "{answer}" not in self.reference_format:
            raise ValueError("reference_format has no {answer}, where the reference belongs")
        check_names(self.rewards)
        require_goal(self.rewards)
        return self
