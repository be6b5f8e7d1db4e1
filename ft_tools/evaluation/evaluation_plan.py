"""What a plan of an evaluation holds."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from ft_tools.evaluation.report import Contamination
from ft_tools.evaluation.systems.models import LoadPlan
from ft_tools.evaluation.systems.plan import SystemPlan
from ft_tools.runs.estimates import Duration
from ft_tools.runs.launch import Plan


class EvaluatePlan(Plan):
    """What an evaluation would do."""

    CONCISE = (
        *("systems", "metrics", "target", "num_examples", "minimum_detectable_effect", "look"),
        *("contamination", "duration", "device", "stress", "accepted"),
    )
    MACHINE: ClassVar[Mapping[str, Any]] = {
        "systems": {
            "__all__": {
                *("num_questions", "reused_from", "num_reused"),
                *("estimated_input_tokens", "longest_input_tokens"),
            }
        },
        **dict.fromkeys(("device", "loading", "batch_size", "duration", "look"), True),
    }

    systems: list[SystemPlan] = Field(description="The first is the reference.")
    target: dict[str, float] = Field(default_factory=dict, description="Metric -> needed value.")
    device: str = Field("", description="cpu, MLX or the GPU; empty: no model is loaded here.")
    alone: bool = Field(description="One system is measured, and nothing compared.")
    dataset: str = Field(description="Path of the held-out file.")
    dataset_sha256: str
    num_examples: int = Field(description="Held-out examples that are used.")
    stress: dict[str, int] = Field(
        default_factory=dict, description="Change of the questions -> rows that it applies to."
    )
    look: int = Field(1, description="How often these rows will have been looked at, by content.")
    metrics: dict[str, str] = Field(description="Metric -> why it was chosen.")
    check_files: dict[str, str] = Field(
        default_factory=dict, description="File that `checks` read -> its SHA-256."
    )
    rendering: Literal["chat", "plain"]
    batch_size: int
    num_general_prompts: int = Field(description="Questions of the general suite.")
    contamination: Contamination
    minimum_detectable_effect: float = Field(
        description="Change of a yes/no metric that this many examples detect in 4 of 5 runs, if "
        "the models differ on a fifth of them."
    )
    examples_for_smallest_effect: int = Field(
        description="Examples needed to detect the smallest effect that matters."
    )
    loading: LoadPlan | None = Field(
        None, description="Where models are loaded; null: none is, or no size is known yet."
    )
    duration: Duration | None = Field(
        None, description="Null where a model's size or its device is not known."
    )
    accepted: list[str] = Field(default_factory=list, description="Ids of accepted findings.")
    accept_reason: str = Field("", description="Why, in the user's words.")
    warnings: list[str] = Field(default_factory=list)

    @property
    def summary(self) -> str:
        """Return what is measured on how many examples."""
        names = ", ".join(system.name for system in self.systems)
        questions = sum(system.num_questions for system in self.systems)
        return (
            f"Measures {names} on {self.num_examples:,} held-out examples by "
            f"{', '.join(self.metrics)}: {questions:,} questions. Nothing has started."
        )
