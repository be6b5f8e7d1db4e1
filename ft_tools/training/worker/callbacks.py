"""What a trainer tells the run: progress, metrics, health, checkpoints, the page."""

import math
import random
import statistics
import time
from pathlib import Path
from typing import Any

import numpy
import torch
from transformers import TrainerCallback, TrainerControl, TrainerState

from ft_tools.publish import write_file
from ft_tools.runs.processes.worker_session import Session, Stopped
from ft_tools.runs.state import directory
from ft_tools.runs.state.records import Best, Health
from ft_tools.training import checkpoints, defaults, samples
from ft_tools.training.diagnosis import diagnose, health_of, setup_of
from ft_tools.training.health import (
    STOPS,
    cut_rows,
    health_signals,
    is_diverged,
    without_repeats,
)
from ft_tools.training.pace import Patience
from ft_tools.training.page import run_page
from ft_tools.training.training_plan import TrainingPlan
from ft_tools.training.worker import ranks_agree
from ft_tools.training.worker.tracking import Trackers

PAGE_SECONDS = 10.0
STOP_SECONDS = 10.0
"""What an evaluation may take that is due at the step at which a run is asked to stop."""


class Randomness:
    """The states of all random numbers that a step of this rank draws."""

    def __init__(self) -> None:
        self._python, self._numpy = random.getstate(), numpy.random.get_state()
        self._torch = torch.get_rng_state()
        self._card = torch.cuda.get_rng_state() if torch.cuda.is_available() else None

    def restore(self) -> None:
        """Have the numbers drawn again, so that a step that is repeated is the same step."""
        random.setstate(self._python)
        numpy.random.set_state(self._numpy)
        torch.set_rng_state(self._torch)
        if self._card is not None:
            torch.cuda.set_rng_state(self._card)


class RunCallback(TrainerCallback):  # type: ignore[misc]
    """Follow one attempt of a run."""

    def __init__(self, session: Session, plan: TrainingPlan) -> None:
        self.session = session
        self.plan = plan
        self.rows: list[dict[str, float]] = directory.read_metrics(session.run_dir)
        self.signals: list[Health] = []
        self.scaler: Any = None
        self.trainer: Any = None
        self.trackers: Trackers | None = None
        self.best_step: int | None = None
        self.tokens_seen = 0.0
        self.stopped = False
        self.diverged = False
        self._patience = Patience()
        self._step_began = math.nan
        self._step_ended = math.nan
        self._since_log: list[float] = []
        self._page_written = -math.inf
        self._evaluation_seconds = 0.0
        self._evaluation_began: float | None = None
        self._within_step = False
        self._randomness: Randomness | None = None
        self._epoch_begins = False
        self._saved_step = 0
        self._setup = setup_of(plan) if plan.task == "sft" else None
        self._found: list[Health] = []

    def on_train_begin(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        """Forget what was logged after the checkpoints that this attempt and others start from."""
        self.rows = without_repeats(self.rows, state.global_step)
        if self.session.leads:
            samples.forget_after(self.session.run_dir, state.global_step)
        self.best_step = state.best_global_step or None
        self._saved_step = state.global_step
        self._progress(state)

    def on_epoch_begin(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        """Note the randomness before the epoch's order is drawn: a resumed run draws it again."""
        self._randomness, self._epoch_begins = Randomness(), True

    def on_step_begin(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        """Start the clock of a step, and note the randomness that it begins with."""
        self._step_began = time.monotonic()
        if args.gradient_accumulation_steps > 1 and not self._epoch_begins:
            self._randomness = Randomness()
        self._epoch_begins = False

    def on_substep_end(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        """Show that a micro-batch is done; stop here when asked to, a step may take minutes.

        What the step has added up is dropped: the run resumes with the step's first micro-batch.
        """
        self.session.heartbeat(self._patience.for_a_step())
        if not self.stopped and ranks_agree.any_of(self.session.is_asked):
            self.session.event(f"stopping within step {state.global_step + 1}")
            self.stopped = self._within_step = True
            control.should_training_stop = True

    def on_prediction_step(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        """Show that a batch of an evaluation is done, and give a long one up when asked to stop.

        Raises:
            Stopped: The step before the evaluation is saved.
        """
        self.session.heartbeat(self._patience.for_a_step())
        self._evaluation_began = self._evaluation_began or time.monotonic()
        is_long = time.monotonic() - self._evaluation_began > STOP_SECONDS
        if ranks_agree.any_of(is_long and self.session.is_asked):
            self.session.event(f"stopping at step {state.global_step}, within an evaluation")
            if self.trainer is not None and self._is_unsaved(state):
                self.trainer._save_checkpoint(self.trainer.model, trial=None)
                self.on_save(args, state, control)
            self.write_page("stopped")
            raise Stopped

    def on_step_end(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        """Show the step; save and stop when asked to."""
        self._step_ended = time.monotonic()
        took = self._step_ended - self._step_began
        self._patience.step_took(took)
        self._since_log.append(took)
        asked = ranks_agree.any_of(self.session.is_asked)
        if asked and state.global_step < state.max_steps:
            self.session.event(f"stopping at step {state.global_step}, after saving")
            self.stopped = True
            # At the end of an epoch that is evaluated, the checkpoint is written after that.
            control.should_save = not (args.eval_strategy == "epoch" and _ends_epoch(state))
            self._shorten_evaluation(control)
            control.should_training_stop = True
        if control.should_save:
            # Written at once: nothing says anything while a checkpoint is written.
            self.session.update(stalled_after_seconds=self._patience.for_a_save())
        else:
            self.session.heartbeat(self._patience.for_a_step())
        self._progress(state)

    def on_epoch_end(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        """Leave out what is due at an epoch's end where a stop has ended it early."""
        if not self.stopped:
            return
        if self._within_step:
            control.should_evaluate = False
            control.should_save = self._is_unsaved(state)
            if self._randomness is not None:
                self._randomness.restore()
            return
        if not _ends_epoch(state):
            control.should_evaluate = control.should_save = False
        self._shorten_evaluation(control)

    def on_log(self, args: Any, state: TrainerState, control: Any, **given: Any) -> None:
        """Keep the metrics, look at the run's health, stop when the loss is not a number."""
        row = {"step": float(state.global_step)}
        row |= {
            k: float(v) for k, v in (given.get("logs") or {}).items() if isinstance(v, int | float)
        }
        if "train_loss" in row:
            # The summary of the whole; its other names are in every row of some runs.
            return
        if "loss" in row:
            if self._since_log:
                row["step_seconds"] = round(statistics.median(self._since_log), 4)
                self._since_log = []
            if self.scaler is not None:
                row["loss_scale"] = float(self.scaler.get_scale())
        self.rows.append(row)
        # TRL counts from the attempt's start.
        self.tokens_seen = max(self.tokens_seen, row.get("num_tokens", 0.0))
        self.session.metrics(row)
        if self.trackers is not None:
            self.trackers.log(row)
        self._read_health(row)
        stops = {one.signal for one in self.signals} & STOPS
        if stops and getattr(self.plan, "stop_rules", False) and not control.should_training_stop:
            self.session.event(f"stopping by {', '.join(sorted(stops))}", "warning")
            control.should_training_stop = True
        if is_diverged(self.rows):
            self.diverged = True
            control.should_training_stop = True
            control.should_save = False
        if time.monotonic() - self._page_written > PAGE_SECONDS:
            self.write_page("running")

    def _read_health(self, row: dict[str, float]) -> None:
        signals = health_signals(self.rows, self.plan.task, self.plan.training.get("loss_type"))
        if self._setup is not None and "eval_loss" in row:
            self._found = health_of(diagnose(self.rows, self._setup))
        signals += [*self._found, *cut_rows(self.plan.counts)]
        if signals != self.signals:
            self.signals = signals
            self.session.update(health=signals)

    def on_evaluate(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        """Show the page with the new point."""
        self._evaluation_seconds = time.monotonic() - self._step_ended
        self._evaluation_began = None
        self.write_page("running")

    def on_save(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        """Publish the checkpoint that was written, and only then remove older ones."""
        folder = Path(str(args.output_dir))
        written = folder / f"checkpoint-{state.global_step}"
        # Each rank writes its own random state into it.
        ranks_agree.wait()
        if self.session.leads:
            checkpoints.publish(written)
        best = state.best_model_checkpoint
        if state.best_metric is not None and best and state.best_global_step:
            if state.best_global_step != self.best_step:
                name = defaults.best_metric(self.plan.task)
                value, step = float(state.best_metric), state.best_global_step
                self.session.update(best=Best(metric=name, value=value, step=step))
            self.best_step = int(state.best_global_step)
        if self.session.leads:
            checkpoints.rotate(folder, keep=[Path(best) if best else None])
        self._saved_step = state.global_step
        self.session.artifact("checkpoint", written)
        self._patience.save_took(time.monotonic() - self._step_ended)

    def write_page(self, state: str) -> None:
        """Replace report.html."""
        if not self.session.leads:
            return
        self._page_written = time.monotonic()
        title = self.session.info.name or self.session.info.run_id
        shown = samples.read(self.session.run_dir)
        page = run_page(title, self.plan, self.rows, self.signals, state, shown)
        write_file(self.session.run_dir / "report.html", page)

    def _is_unsaved(self, state: TrainerState) -> bool:
        """Return whether the last step has no checkpoint yet; the start needs none."""
        return bool(0 < state.global_step != self._saved_step)

    def _shorten_evaluation(self, control: TrainerControl) -> None:
        """Leave out a long evaluation: who asks a run to stop may not wait for long.

        Left out always, the resumed run would choose and draw otherwise than the uninterrupted one.
        """
        if ranks_agree.any_of(self._evaluation_seconds > STOP_SECONDS):
            control.should_evaluate = False

    def _progress(self, state: TrainerState) -> None:
        self.session.progress(state.global_step, state.max_steps)


def _ends_epoch(state: TrainerState) -> bool:
    return float(state.epoch or 0).is_integer()
