"""The micro-batch of a run: as planned, or smaller since memory ran out; kept from then on.

A reinforcement run also writes fewer answers together: as many as a step sees, unless the plan's
estimate says that fewer fit, or memory ran out. TRL then writes several times in a step.

Source: TRL 1.16, grpo_trainer.py, compute_loss: losses that are means over the tokens written
together are rescaled to the whole step by steps_per_generation.
"""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from ft_tools.errors import BadData
from ft_tools.publish import write_file
from ft_tools.runs.state import directory
from ft_tools.training.checks.memory import is_scaled_over_all
from ft_tools.training.findings import message_and_cure
from ft_tools.training.training_plan import TrainingPlan

FILE = "micro_batch.json"


class MicroBatch(BaseModel):
    """How the effective batch is made."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: int = Field(ge=1, description="Examples a micro-batch.")
    accumulation: int = Field(ge=1, description="Micro-batches a step, of one process.")
    processes: int = Field(1, ge=1, repr=False, description="Processes that share a step.")
    least: int = Field(1, ge=1, repr=False, description="What the loss needs in a micro-batch.")
    group: int = Field(0, ge=0, repr=False, description="Answers to a prompt; 0: none are written.")
    together: int = Field(0, ge=0, repr=False, description="Answers that are written together.")
    whole: bool = Field(False, repr=False, description="Whether these stay together.")

    @property
    def effective(self) -> int:
        """Return the examples that a step sees."""
        return self.size * self.accumulation * self.processes

    @property
    def arguments(self) -> dict[str, int]:
        """Return it as arguments of the trainer's configuration."""
        found = {
            "per_device_train_batch_size": self.size,
            "gradient_accumulation_steps": self.accumulation,
        }
        return found | ({"steps_per_generation": self.together // self.size} if self.group else {})


def of_run(run_dir: Path, plan: TrainingPlan) -> MicroBatch:
    """Return what an earlier attempt of the run has come down to, or what the plan says."""
    planned = MicroBatch(
        size=plan.training["per_device_train_batch_size"],
        accumulation=plan.training["gradient_accumulation_steps"],
        processes=plan.place.num_processes,
        least=2 if plan.training.get("loss_type") == "kto" else 1,
    )
    if plan.task == "grpo":
        calls = plan.training.get("steps_per_generation", planned.accumulation)
        written = {
            "group": plan.training["num_generations"],
            "together": planned.size * calls,
            "whole": is_scaled_over_all(plan.training),
        }
        planned = planned.model_copy(update=written)
    try:
        saved = directory.read_json(run_dir / FILE)
        kept = MicroBatch.model_validate(saved) if saved else planned
    except (BadData, ValueError):
        return planned
    return kept if kept.effective == planned.effective else planned


def keep(run_dir: Path, batch: MicroBatch) -> None:
    """Let later attempts of the run start with this micro-batch."""
    write_file(run_dir / FILE, batch.model_dump_json())


def smaller(batch: MicroBatch) -> MicroBatch | None:
    """Halve the micro-batch and keep the effective batch; None when it is one example already.

    An odd micro-batch has no half: it goes to single examples, which divide every batch. Of answers
    that are written together whole groups stay.

    >>> smaller(MicroBatch(size=4, accumulation=2))
    MicroBatch(size=2, accumulation=4)
    >>> smaller(MicroBatch(size=3, accumulation=2))
    MicroBatch(size=1, accumulation=6)
    >>> smaller(MicroBatch(size=1, accumulation=24, group=8, together=24)).arguments
    {'per_device_train_batch_size': 1, 'gradient_accumulation_steps': 24, 'steps_per_generation': 8}
    >>> whole = MicroBatch(size=2, accumulation=12, group=8, together=24, whole=True)
    >>> smaller(whole).together, smaller(smaller(whole))
    (24, None)
    """
    size = 1 if batch.size % 2 else batch.size // 2
    most = 0 if batch.whole else batch.together // 2
    fewer = [
        count
        for count in range(batch.group, most + 1, batch.group or 1)
        if count and not batch.together % count and not count % size
    ]
    together = max(fewer, default=batch.together)
    if size < batch.least or (batch.size, batch.together) == (1, together):
        return None
    accumulation = batch.size * batch.accumulation // size
    changed = {"size": size, "accumulation": accumulation, "together": together}
    return batch.model_copy(update=changed)


def advice(batch: MicroBatch) -> str:
    """Return what a run does after memory ran out with this micro-batch."""
    less = smaller(batch)
    if less is None:
        least = "one_group_does_not_fit" if batch.group else "one_row_does_not_fit"
        return message_and_cure(least)[0]
    return message_and_cure("resumes_with_less", **_sizes(less))[0]


def halved(batch: MicroBatch, less: MicroBatch) -> str:
    """Return what happened when memory ran out, for the run's events."""
    return message_and_cure("halved", size=batch.size, **_sizes(less))[0]


def _sizes(less: MicroBatch) -> dict[str, int | str]:
    """Return what messages name of a smaller micro-batch."""
    return {
        "less": less.size,
        "accumulation": less.accumulation,
        "effective": less.effective,
        "written": f", {less.together} answers written together" if less.group else "",
    }
