"""What a trainer tells the run: progress, metrics, health, checkpoints, the page."""

import math
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ft_tools.publish import write_file
from ft_tools.runs import directory
from ft_tools.runs.session import Session
from ft_tools.training import checkpoints
from ft_tools.training.health import health_signals, is_diverged
from ft_tools.training.plan import TrainingPlan
from ft_tools.training.reports import run_page

PAGE_SECONDS = 10.0


class RunCallback(TrainerCallback):  # type: ignore[misc]
    """Follow one attempt of a run."""

    def __init__(self, session: Session, plan: TrainingPlan) -> None:
        self.session = session
        self.plan = plan
        self.rows: list[dict[str, float]] = directory.read_metrics(session.run_dir)
        self.signals: list[Any] = []
        self.best_step: int | None = None
        self.tokens_seen = 0.0
        self.stopped = False
        self.diverged = False
        self._page_written = -math.inf
        self._tokens_before: float | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Forget what was logged after the checkpoint that this attempt starts from."""
        self.rows = [row for row in self.rows if row.get("step", 0) <= state.global_step]
        self.best_step = state.best_global_step or None
        self._progress(state)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Show the step; save and stop when asked to."""
        self._progress(state)
        if self.session.should_stop and state.global_step < state.max_steps:
            self.session.event(f"stopping at step {state.global_step}, after saving")
            self.stopped = True
            control.should_save = True
            control.should_evaluate = False
            control.should_training_stop = True

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Keep the metrics, look at the run's health, stop when the loss is not a number."""
        row = {"step": float(state.global_step)}
        row |= {k: float(v) for k, v in (logs or {}).items() if isinstance(v, int | float)}
        if "train_runtime" in row:
            return
        self.rows.append(row)
        self._count_tokens(row)
        self.session.metrics(row)
        signals = health_signals(self.rows, self.plan.task)
        if signals != self.signals:
            self.signals = signals
            self.session.health(signals)
        if is_diverged(self.rows):
            self.diverged = True
            control.should_training_stop = True
        if time.monotonic() - self._page_written > PAGE_SECONDS:
            self.write_page("running")

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Show the page with the new point."""
        self.write_page("running")

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Publish the checkpoint that was written, and only then remove older ones."""
        folder = Path(str(args.output_dir))
        written = folder / f"checkpoint-{state.global_step}"
        checkpoints.publish(written)
        best = state.best_model_checkpoint
        if state.best_metric is not None and best and state.best_global_step:
            if state.best_global_step != self.best_step:
                self.session.best("eval_loss", float(state.best_metric), state.best_global_step)
            self.best_step = int(state.best_global_step)
        checkpoints.rotate(folder, keep=[Path(best) if best else None])
        self.session.artifact("checkpoint", written)

    def write_page(self, state: str) -> None:
        """Replace report.html."""
        self._page_written = time.monotonic()
        title = self.session.info.name or self.session.info.run_id
        page = run_page(title, self.plan, self.rows, self.signals, {"state": state})
        write_file(self.session.run_dir / "report.html", page)

    def _progress(self, state: TrainerState) -> None:
        self.session.progress(state.global_step, state.max_steps)

    def _count_tokens(self, row: dict[str, float]) -> None:
        """Add up the tokens of this attempt: TRL counts from the attempt's start."""
        self.tokens_seen = max(self.tokens_seen, row.get("num_tokens", 0.0))
