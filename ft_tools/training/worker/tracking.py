"""Pass a run's metrics on to experiment trackers; one that raises is dropped, the run continues."""

import os
from collections.abc import Callable
from functools import partial
from typing import Any

from accelerate.tracking import LOGGER_TYPE_TO_CLASS

from ft_tools.publish import private_folder
from ft_tools.runs.processes.worker_session import Session
from ft_tools.training.training_plan import TrainingPlan

PROJECT = "fine-tuning-llm"
FOLDER = "trackers"
# The argument by which a tracker takes a run's own name. Source: accelerate 1.15, tracking.py.
NAMED = {"wandb": "name", "trackio": "name", "mlflow": "run_name"}


class Trackers:
    """The trackers that the user named, for one attempt of a run."""

    def __init__(self, session: Session, plan: TrainingPlan) -> None:
        self._session = session
        self._folder = session.run_dir / FOLDER
        self._open: dict[str, Any] = {}
        names: list[str] = plan.training.get("report_to") or []
        if not names or not session.leads:
            return
        private_folder(self._folder)
        # wandb takes no folder as an argument. Source: its environment variables.
        os.environ["WANDB_DIR"] = str(self._folder)
        for name in names:
            self._guarded(name, partial(self._start, name, plan.training))

    def log(self, row: dict[str, float]) -> None:
        """Pass a line of metrics on."""
        values = {name: value for name, value in row.items() if name != "step"}
        for name, tracker in [*self._open.items()]:
            self._guarded(name, partial(tracker.log, values, step=int(row["step"])))

    def finish(self) -> None:
        """Send the rest."""
        for name, tracker in [*self._open.items()]:
            self._guarded(name, tracker.finish)

    def _start(self, name: str, training: dict[str, Any]) -> None:
        made = LOGGER_TYPE_TO_CLASS[name]
        options = {NAMED[name]: self._session.run_dir.name} if name in NAMED else {}
        if made.requires_logging_directory:
            options["logging_dir"] = str(self._folder)
        tracker = made(str(training.get("project") or PROJECT), **options)
        tracker.start()
        flat = {k: v for k, v in training.items() if isinstance(v, int | float | str)}
        tracker.store_init_configuration(flat)
        self._open[name] = tracker

    def _guarded(self, name: str, work: Callable[[], Any]) -> None:
        try:
            work()
        except Exception as error:
            self._open.pop(name, None)
            # Its words may hold an address or a key.
            why = f"{name}: stopped: {type(error).__name__}; the run is not affected"
            self._session.event(why, "warning")
