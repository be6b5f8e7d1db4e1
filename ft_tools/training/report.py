"""What a finished training run reports."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal

from pydantic import Field, computed_field

from ft_tools.contract import NextStep, Report
from ft_tools.runs.state.records import Health
from ft_tools.training.token_counts import DataReport


class Diagnosis(Report):
    """What a run's curves show about its settings or data."""

    CONCISE = ("id", "observed", "training", "continues")

    id: Literal[
        "masked_wrongly", "nothing_to_learn", "rate_too_high", "rate_too_low", "noise",
        "memorising", "still_learning", "too_few_steps", "too_few_evaluations", "gamed",
        "nothing_gained",
    ]  # fmt: skip
    observed: str = Field(description="The evidence.")
    advice: str
    training: dict[str, Any] = Field(
        default_factory=dict, description="Arguments to change; null: leave it out."
    )
    continues: bool = Field(False, description="Whether the run's result is trained further.")


class TrainingRunReport(Report):
    """What a finished training run did."""

    METRICS: ClassVar[Mapping[str, str]] = {}
    """Field of the report -> the metric whose last value it is."""
    CONCISE: ClassVar[tuple[str, ...]] = (
        *("summary", "first_loss", "train_loss", "validation_loss", "best_step", "artifact"),
        *("diagnosis", "health", "stopped_early", "attempts", "data"),
    )

    artifact: str = Field(description="Folder with the adapter or the model, and its tokenizer.")
    steps: int = Field(description="Optimizer steps of all attempts together.")
    epochs: float
    seconds: float = Field(description="Training and evaluation time of the last attempt.")
    tokens_per_second: float = Field(description="In the last attempt, without padding.")
    train_loss: float | None = Field(description="Mean of the last logged tenth of the run.")
    first_loss: float | None = Field(description="The first logged one.")
    validation_loss: float | None = Field(
        None, description="Validation loss of the model that was kept."
    )
    best_step: int | None = Field(None, description="Step of the checkpoint that was kept.")
    stopped_early: bool = False
    attempts: int = Field(1, description="1 if it was never resumed.")
    data: DataReport
    validation: DataReport | None = None
    num_trainable_params: int
    num_params: int
    micro_batch: int = Field(
        description="Micro-batch size at the end, after out-of-memory retries."
    )
    accumulation: int = Field(description="Micro-batches per step at the end.")
    peak_memory_gib: float | None = Field(
        None, description="Peak of the GPU; on CPU, of the process."
    )
    health: list[Health] = Field(default_factory=list)
    diagnosis: list[Diagnosis] = Field(
        default_factory=list, description="What to change; empty: nothing."
    )
    next_steps: list[NextStep] = Field(default_factory=list)
    lock_file: str = Field(description="Everything needed to repeat the run.")

    @computed_field  # type: ignore[prop-decorator]
    @property
    def summary(self) -> str:
        """Return how far it trained, and which checkpoint was kept."""
        kept = "" if self.best_step is None else f"; kept the checkpoint of step {self.best_step}"
        signs = ", ".join(one.id for one in self.diagnosis)
        return (
            f"{self.steps} steps, {self.epochs:.3g} epochs, {self.seconds:.0f} seconds{kept}."
            + (f" Diagnosis: {signs}." if signs else "")
        )

    def concise_parts(self, asked: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        """Yield the parts that all kinds have, then the kind's own figures."""
        yield from super().concise_parts(asked)
        for name in [*self.METRICS, "held_out_gain"]:
            yield name, getattr(self, name, None)


class Gain(Report):
    """How the mean reward of the same held-out prompts changed."""

    start: float
    end: float
    low: float = Field(description="Of the change, lower end of the 95% interval.")
    high: float
    prompts: int


class SftRunReport(TrainingRunReport):
    """What a supervised run did."""

    METRICS = MappingProxyType({"token_accuracy": "mean_token_accuracy"})

    token_accuracy: float | None = Field(
        None, description="Last logged fraction of next tokens that were the most likely one."
    )


class PreferenceRunReport(TrainingRunReport):
    """What a run on pairs (DPO), or on marked answers (KTO), did."""

    METRICS = MappingProxyType(
        {
            "reward_accuracy": "rewards/accuracies",
            "reward_margin": "rewards/margins",
            "validation_margin": "eval_rewards/margins",
            "chosen_reward": "rewards/chosen",
        }
    )

    reward_accuracy: float | None = Field(
        None, description="Last logged fraction of pairs whose chosen answer has the higher reward."
    )
    reward_margin: float | None = Field(
        None, description="Last logged mean reward of chosen, or good, minus other answers."
    )
    validation_margin: float | None = Field(None, description="The same of held-out answers.")
    chosen_reward: float | None = Field(None, description="Last logged mean reward of chosen ones.")


class GrpoRunReport(TrainingRunReport):
    """What a reinforcement run did."""

    METRICS = MappingProxyType(
        {
            "reward": "reward",
            "held_out_reward": "eval_reward",
            "mean_completion_tokens": "completions/mean_length",
        }
    )

    reward: float | None = Field(None, description="Last logged mean reward of training.")
    held_out_reward: float | None = Field(
        None, description="Last logged mean reward of sampled answers to held-out prompts."
    )
    held_out_gain: Gain | None = Field(
        None, description="Of the checkpoint that was kept, over the start."
    )
    mean_completion_tokens: float | None = Field(None, description="Last logged.")
