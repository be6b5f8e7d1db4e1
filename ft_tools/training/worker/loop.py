"""The training loop that the SFT and the DPO worker share, with its recoveries."""

import time
from collections.abc import Callable
from typing import Any, TypeVar

from transformers import EarlyStoppingCallback, Trainer

from ft_tools.errors import FineTuningError
from ft_tools.runs.processes.endings import is_out_of_memory
from ft_tools.runs.processes.worker_session import Again, Session, Stopped
from ft_tools.training import checkpoints, micro_batches
from ft_tools.training.micro_batches import MicroBatch
from ft_tools.training.training_plan import TrainingPlan
from ft_tools.training.worker import loading, ranks_agree
from ft_tools.training.worker.artifacts import Outcome
from ft_tools.training.worker.callbacks import RunCallback
from ft_tools.training.worker.loading import CHECKPOINTS, run_arguments
from ft_tools.training.worker.tracking import Trackers


class Diverged(FineTuningError):
    """The loss is not a number any more."""

    code = "diverged"


MakeTrainer = Callable[[dict[str, Any]], Trainer]
"""Trainer arguments that the run decides -> a trainer over a freshly loaded model."""
Found = TypeVar("Found")


def train(session: Session, plan: TrainingPlan, make_trainer: MakeTrainer) -> Outcome:
    """Train from the last valid checkpoint to the end.

    When memory runs out, fresh processes continue with half the micro-batch. It stays so in later
    attempts; if the kernel ended an attempt for its memory, the next one starts with half.

    Raises:
        Again: Memory ran out, and fresh processes were asked for.
        Stopped: A cancel or a TERM arrived; a checkpoint has been written.
        Diverged: The loss is not a number.
    """
    ranks_agree.meet(plan)
    return with_less_memory(
        session, plan, lambda batch: _train_once(session, plan, make_trainer, batch)
    )


def with_less_memory(
    session: Session, plan: TrainingPlan, attempt: Callable[[MicroBatch], Found]
) -> Found:
    """Return what an attempt does, with half the micro-batch where memory ran out before.

    Raises:
        Again: Memory ran out, and fresh processes were asked for.
    """
    batch = micro_batches.of_run(session.run_dir, plan)
    if session.status.ended_before == "out_of_memory" and session.leads:
        batch = _halved_before(session, batch)
    batch = ranks_agree.from_the_first(batch)
    session.update(if_out_of_memory=micro_batches.advice(batch))
    try:
        return attempt(batch)
    except Exception as error:
        less = micro_batches.smaller(batch)
        if less is None or not is_out_of_memory(error):
            raise
        # Every rank comes to the same from the same batch; the processes start anew, because what
        # the failed step holds is not all given back, and other ranks wait in the middle of it.
        micro_batches.keep(session.run_dir, less)
        session.ask_again(micro_batches.halved(batch, less))
        raise Again from error


def _train_once(
    session: Session, plan: TrainingPlan, make_trainer: MakeTrainer, batch: MicroBatch
) -> Outcome:
    folder = session.run_dir / CHECKPOINTS
    resumed, removed = checkpoints.last_valid(folder) if session.leads else (None, [])
    for line in removed:
        session.event(f"removed a checkpoint that cannot be trusted: {line}", "warning")
    resumed = ranks_agree.from_the_first(resumed)
    session.phase("loading")
    trainer = make_trainer(run_arguments(session, plan, batch))
    loading.train_in_float32(plan, trainer.model)
    # A card in each checkpoint is read by nobody, and TRL imports trackio to write one.
    trainer.create_model_card = _nothing
    callback = RunCallback(session, plan)
    callback.trainer = trainer
    callback.scaler = getattr(trainer.accelerator, "scaler", None)
    trainer.add_callback(callback)
    if plan.patience is not None:
        trainer.add_callback(EarlyStoppingCallback(plan.patience))
    if session.should_stop:
        raise Stopped
    if resumed is not None:
        session.event(f"continuing from {resumed.name}")
        # Evaluated once more, the checkpoint would count as one that is no better than the best.
        trainer.args.eval_on_start = False
        if checkpoints.is_last(resumed):
            # The trainer would take one more step; it still loads the best model.
            trainer._run_epoch = _nothing
    session.phase("training")
    began = time.monotonic()
    trackers = callback.trackers = Trackers(session, plan)
    try:
        trainer.train(resume_from_checkpoint=str(resumed) if resumed else None)
    finally:
        trackers.finish()
    seconds = time.monotonic() - began
    if callback.diverged or callback.stopped:
        # The page does not wait for more.
        callback.write_page("stopped")
    if callback.diverged:
        raise _diverged(plan, trainer.state.global_step)
    if callback.stopped:
        raise Stopped
    return Outcome(trainer, callback, seconds, batch)


def _diverged(plan: TrainingPlan, step: int) -> Diverged:
    cure = "divide learning_rate by three"
    if plan.device.precision == "float16":
        # Families that are known to overflow never get here: their plan computes in float32.
        cure = "this model may overflow float16: pass training.fp16=false, which is float32"
    return Diverged(f"the loss is not a number at step {step}; {cure}, and launch again")


def _nothing(*_: Any, **__: Any) -> None:
    """Do nothing, in place of a step or a model card."""


def _halved_before(session: Session, batch: MicroBatch) -> MicroBatch:
    """Halve the micro-batch, once in the attempt after one that the kernel ended for its memory."""
    less = micro_batches.smaller(batch)
    if less is None:
        return batch
    micro_batches.keep(session.run_dir, less)
    # Fresh processes of this attempt start from what is kept.
    session.update(ended_before=None)
    session.event(micro_batches.halved(batch, less), "warning")
    return less
