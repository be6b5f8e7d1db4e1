"""The micro-batch of a run: as planned, or smaller since memory ran out; kept from then on."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from ft_tools.errors import BadData
from ft_tools.publish import write_file
from ft_tools.runs.state import directory
from ft_tools.training.findings import message_and_cure
from ft_tools.training.plan import TrainingPlan

FILE = "micro_batch.json"


class MicroBatch(BaseModel):
    """How the effective batch is made."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: int = Field(ge=1, description="Examples a micro-batch.")
    accumulation: int = Field(ge=1, description="Micro-batches a step, of one process.")
    processes: int = Field(1, ge=1, repr=False, description="Processes that share a step.")
    least: int = Field(1, ge=1, repr=False, description="What the loss needs in a micro-batch.")

    @property
    def effective(self) -> int:
        """Return the examples that a step sees."""
        return self.size * self.accumulation * self.processes


def of_run(run_dir: Path, plan: TrainingPlan) -> MicroBatch:
    """Return what an earlier attempt of the run has come down to, or what the plan says."""
    planned = MicroBatch(
        size=plan.training["per_device_train_batch_size"],
        accumulation=plan.training["gradient_accumulation_steps"],
        processes=plan.place.num_processes,
        least=2 if plan.training.get("loss_type") == "kto" else 1,
    )
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

    An odd micro-batch has no half: it goes to single examples, which divide every batch.

    >>> smaller(MicroBatch(size=4, accumulation=2))
    MicroBatch(size=2, accumulation=4)
    >>> smaller(MicroBatch(size=3, accumulation=2))
    MicroBatch(size=1, accumulation=6)
    """
    size = 1 if batch.size % 2 else batch.size // 2
    if size < batch.least or batch.size == 1:
        return None
    accumulation = batch.size * batch.accumulation // size
    return batch.model_copy(update={"size": size, "accumulation": accumulation})


def advice(batch: MicroBatch) -> str:
    """Return what a run does after memory ran out with this micro-batch."""
    less = smaller(batch)
    if less is None:
        return message_and_cure("one_row_does_not_fit")[0]
    sizes = {"less": less.size, "accumulation": less.accumulation, "effective": less.effective}
    return message_and_cure("resumes_with_less", **sizes)[0]


def halved(batch: MicroBatch, less: MicroBatch) -> str:
    """Return what happened when memory ran out, for the run's events."""
    sizes = {"less": less.size, "accumulation": less.accumulation, "effective": less.effective}
    return message_and_cure("halved", size=batch.size, **sizes)[0]
