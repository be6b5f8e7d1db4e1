"""A plan as it is shown, hashed, confirmed, stored and obeyed."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from ft_tools.advice.launches import LaunchAdvice
from ft_tools.formats.masking import LossOn
from ft_tools.formats.training_rows import DatasetFacts
from ft_tools.formats.trl_formats import Task
from ft_tools.models import model_folder
from ft_tools.models.shape import ALL_LINEAR
from ft_tools.runs.estimates import Duration
from ft_tools.runs.hardware.devices import Device
from ft_tools.runs.launch import Plan
from ft_tools.runs.launchers.table import Place
from ft_tools.training import defaults
from ft_tools.training.request import Method
from ft_tools.training.token_counts import Counts

Engine = Literal["torch", "mlx"]
SHOWN_MEMORY = ("fits", "peak_allocated_gib", "usable_gib", "needed_gib", "free_gib")
SHOWN_ARGUMENTS = (
    *("learning_rate", "lr_scheduler_type", "max_length", "packing", "eval_steps", "beta"),
    *("loss_type", "num_generations", "max_completion_length"),
)
"""Arguments of a concise plan; the rows of a step and the epochs are in its summary."""
Reference = Literal["adapter_off", "frozen_copy", "second_model"]


class ModelPlan(BaseModel):
    """Where the weights come from; plans of earlier versions name more."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str = Field(description="As it was asked for.")
    load_from: str = Field(description="Folder or Hub id of the base weights.")
    adapter: str | None = Field(None, description="Adapter that training continues from.")
    base_model: str = Field(description="Model argument that names the base; kept as lineage.")
    num_params: int | None = Field(
        None, description="Parameters of the base model, by its files' headers or its config.json."
    )
    hidden_size: int | None = Field(None, description="Width of the text model.")
    config_sha256: str = Field("", description="Hash of config.json; empty if not downloaded yet.")
    files_sha256: str = Field("", description="Hash of local files, of large ones by pages.")
    revision: str = Field("", description="Commit on the Hub that is trained; empty: local files.")
    template_sha256: str = Field("", description="Hash of the chat template; empty without one.")


class Estimate(BaseModel):
    """What the run would take; estimates, not measurements."""

    CONCISE: ClassVar[tuple[str, ...]] = ("duration", "memory")

    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int = Field(description="Optimizer steps, before early stopping.")
    tokens: int = Field(
        description="Tokens of all epochs: counted where the plan has `counts`, else a quarter of "
        "the characters."
    )
    duration: Duration | None = Field(
        None, description="Null where the size is not known, or no rate of such a device."
    )
    disk_bytes: int = Field(description="Checkpoints, the artifact and the logs.")
    used_by_others_gib: float = Field(
        0.0, description="GPU memory that other programs use now; not available to the run."
    )
    vram: dict[str, Any] | None = Field(None, description="Of estimate_vram, for a GPU.")
    ram: dict[str, float] | None = Field(
        None, description="On a CPU: what the run needs, and what this machine has and has free."
    )

    @property
    def memory(self) -> dict[str, Any]:
        """Return what the run needs of the GPU, or of the machine's memory."""
        known: dict[str, Any] = self.vram or self.ram or {}
        return {name: known[name] for name in SHOWN_MEMORY if name in known}


class TrainingPlan(Plan):
    """The parts that all kinds of run share."""

    CONCISE = (
        *("missing", "method", "estimate", "reference", "rewards", "probe", "chosen_arguments"),
        *("accepted", "advice", "place", "counts"),
    )
    MACHINE: ClassVar[Mapping[str, Any]] = {
        "device": {"memory_gib", "capability", "driver", "cards"},
        # Where the caller names them, the hash covers the request's arguments.
        "training": {
            *defaults.BATCH,
            "gradient_checkpointing",
            "optim",
            "packing",
            "model_init_kwargs",
            "steps_per_generation",
        },
        **dict.fromkeys(("advice", "chosen_for", "counts", "estimate", "missing"), True),
    }

    task: Task
    model: ModelPlan
    dataset: DatasetFacts
    validation: DatasetFacts | None = None
    counts: Counts | None = Field(
        None, description="After tokenisation; null where the tokenizer is not on this machine."
    )
    method: Method
    engine: Engine = Field("torch", description="What computes forward and backward passes.")
    device: Device
    weights_dtype: str = Field(description="Numbers that the base weights are held in.")
    peft: dict[str, Any] | None = Field(description="Of peft.LoraConfig; null for full.")
    attention: str = Field("", description="Kernel that was chosen, with its commit on the Hub.")
    quantization: dict[str, Any] | None = Field(
        description="Of BitsAndBytesConfig, or of mlx.nn.quantize; null if none."
    )
    training: dict[str, Any] = Field(description="Of trl.SFTConfig or DPOConfig.")
    chosen_for: str = Field("", description="What open arguments were chosen for.")
    patience: int | None = Field(
        None, description="Evaluations without a better one until it stops; null: never early."
    )
    place: Place = Field(default_factory=Place, description="Where it runs.")
    estimate: Estimate
    accepted: list[str] = Field(default_factory=list, description="Findings taken as they are.")
    accept_reason: str = Field("", description="Why, in the user's words.")
    advice: LaunchAdvice | None = Field(None, description="What recommend_approach says of it.")
    missing: list[str] = Field(
        default_factory=list,
        description="What this machine lacks for it; a confirmation is refused while it does.",
    )
    warnings: list[str] = Field(default_factory=list)

    @property
    def summary(self) -> str:
        """Return what is trained on what, in how many steps of how many rows."""
        micro, accumulated = (int(self.training[name]) for name in defaults.BATCH)
        processes = self.place.num_processes
        parts = f"{micro} x {accumulated}" + (f" x {processes}" if processes > 1 else "")
        return (
            f"{self.method} of {self.model.name} on {self.dataset.num_examples:,} examples: "
            f"{self.estimate.steps:,} steps ({self.epochs:.3g} epochs) of {self.effective_batch} "
            f"sequences (micro-batch x accumulation: {parts}). Nothing has started."
        )

    @property
    def chosen_arguments(self) -> dict[str, Any]:
        """Return the arguments that matter most to what is learned."""
        peft = {name: self.peft[name] for name in ("r", "lora_alpha") if self.peft}
        return peft | {key: self.training[key] for key in SHOWN_ARGUMENTS if key in self.training}

    @property
    def is_here(self) -> bool:
        """Return whether this machine trains it."""
        return self.place.backend == "local" and not self.place.exported_for

    @property
    def effective_batch(self) -> int:
        """Return the examples that one optimizer step sees."""
        micro, accumulated = (int(self.training[name]) for name in defaults.BATCH)
        return micro * accumulated * self.place.num_processes

    @property
    def adapter(self) -> dict[str, Any] | None:
        """Return the adapter's arguments: planned, or of the one that goes on; None: not known."""
        if self.peft is not None or not self.model.adapter:
            return self.peft
        trained = model_folder.adapter_config(Path(self.model.adapter))
        kept = ("r", "lora_alpha", "lora_dropout", "target_modules", "exclude_modules",
                "target_parameters")  # fmt: skip
        found = {name: trained[name] for name in kept if trained.get(name) is not None}
        return {"target_modules": ALL_LINEAR, **found} if "r" in found else None

    @property
    def num_rows(self) -> int:
        """Return the rows that batches are made of: sequences, pairs or packs."""
        return self.counts.num_rows if self.counts else self.dataset.num_examples

    @property
    def epochs(self) -> float:
        """Return the epochs in which the planned steps are made."""
        of_one = defaults.steps_an_epoch(self.training, self.num_rows, self.place.num_processes)
        return self.estimate.steps / of_one

    @property
    def num_evaluations(self) -> int:
        """Return the evaluations of the run, without one before the first step."""
        training = self.training
        if training["eval_strategy"] == "no":
            return 0
        every, end = 1, math.ceil(self.epochs)
        if training["eval_strategy"] == "steps":
            every, end = training["eval_steps"], self.estimate.steps
        left_out = max(0, math.ceil(training.get("eval_delay", 0) / every) - 1)
        return max(0, int(end // every - left_out))

    @property
    def most_tokens(self) -> int | None:
        """Return the tokens that a row of a batch may have before it is cut; None: not counted."""
        counts = self.counts
        if counts is None or counts.num_counted < counts.data.num_examples:
            return None
        if self.training.get("packing"):
            return counts.data.num_tokens
        longest, answer = counts.lengths.longest_tokens, self.training.get("max_completion_length")
        # No prompt is cut, and held-out ones are answered, too.
        return max(longest, counts.longest_held_out) + int(answer) if answer else longest

    @property
    def padding(self) -> float:
        """Return the fraction of padding in batches, where tokens were counted."""
        alone = self.training.get("packing") or self.training[defaults.BATCH[0]] == 1
        return 0.0 if alone or self.counts is None else self.counts.lengths.padding


class SftPlan(TrainingPlan):
    """A supervised run."""

    task: Literal["sft"] = "sft"
    loss_on: LossOn = Field("answers", description="Which tokens the loss counts.")


class DpoPlan(TrainingPlan):
    """A preference run."""

    task: Literal["dpo"] = "dpo"
    reference: Reference = Field(
        description="adapter_off: the base without the new adapter. frozen_copy: the SFT adapter "
        "as it was. second_model: the model before training, kept beside it."
    )


class KtoPlan(TrainingPlan):
    """A run on answers that are marked good or bad."""

    task: Literal["kto"] = "kto"
    reference: Reference = Field(description="As of a preference run.")
