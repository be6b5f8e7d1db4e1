"""Pass a run's metrics on to trackers: `python -m ft_tools.training.worker.tracking RUN_DIR`.

A process of its own reads `metrics.jsonl` as it grows, until its standard input ends. A tracker
that raises, hangs or fills its quota hurts that process only; the run never waits for it.
"""

import contextlib
import os
import resource
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from accelerate.state import PartialState
from accelerate.tracking import LOGGER_TYPE_TO_CLASS

from ft_tools.publish import private_folder
from ft_tools.runs.processes.start import command, environment
from ft_tools.runs.processes.worker_session import Session
from ft_tools.runs.state import directory
from ft_tools.training.plan import TrainingPlan

POLL_SECONDS = 0.5
FINISH_SECONDS = 20.0
"""What trackers get to send the last lines."""
PROJECT = "fine-tuning-llm"
FOLDER = "trackers"
MAX_FILE_BYTES = 2**30
# The argument by which a tracker takes a run's own name. Source: accelerate 1.15, tracking.py.
NAMED = {"wandb": "name", "trackio": "name", "mlflow": "run_name"}
# A launcher of several processes would make the tracker one of them.
OF_A_LAUNCHER = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@contextlib.contextmanager
def tracked(session: Session, plan: TrainingPlan) -> Iterator[None]:
    """Track one attempt; with no tracker asked for, nothing."""
    names: list[str] = plan.training.get("report_to") or []
    process: subprocess.Popen[bytes] | None = None
    if names and session.leads:
        with contextlib.suppress(OSError):
            process = subprocess.Popen(
                command("ft_tools.training.worker.tracking", str(session.run_dir)),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={k: v for k, v in environment().items() if k not in OF_A_LAUNCHER},
            )
    try:
        yield
    finally:
        if process is not None and process.stdin is not None:
            # The end of its input is the sign to send the rest and leave.
            with contextlib.suppress(OSError):
                process.stdin.close()
            until = time.monotonic() + FINISH_SECONDS
            while process.poll() is None and time.monotonic() < until:
                session.heartbeat()
                time.sleep(0.05)
            if process.poll() is None:
                process.kill()
                process.wait()
                session.event(f"{', '.join(names)}: gave up after a hang", "warning")


class Tracker:
    """One tracker; its first error ends it and is an event of the run."""

    def __init__(self, name: str, run_dir: Path, plan: dict[str, Any]) -> None:
        self._name, self._run_dir = name, run_dir
        self._reserve = int(plan["estimate"]["disk_bytes"])
        self.is_on = True
        self._inner: Any = None
        self._guarded(lambda: self._start(plan["training"]))

    def log(self, row: dict[str, float]) -> None:
        """Pass a line on, while the disk has more room than the run needs."""
        if self.is_on and shutil.disk_usage(self._run_dir).free < self._reserve:
            self._stop("the disk has only the room that the run needs")
        values = {name: value for name, value in row.items() if name != "step"}
        self._guarded(lambda: self._inner.log(values, step=int(row.get("step", 0))))

    def finish(self) -> None:
        """Send the rest."""
        self._guarded(lambda: self._inner.finish())

    def _start(self, training: dict[str, Any]) -> None:
        made = LOGGER_TYPE_TO_CLASS[self._name]
        options: dict[str, Any] = {}
        if self._name in NAMED:
            options[NAMED[self._name]] = self._run_dir.name
        if made.requires_logging_directory:
            options["logging_dir"] = str(self._run_dir / FOLDER)
        self._inner = made(str(training.get("project") or PROJECT), **options)
        self._inner.start()
        flat = {k: v for k, v in training.items() if isinstance(v, int | float | str)}
        self._inner.store_init_configuration(flat)

    def _guarded(self, work: Callable[[], Any]) -> None:
        if self.is_on:
            try:
                work()
            except Exception as error:
                # Its words may hold an address or a key.
                self._stop(f"{type(error).__name__}; the run is not affected")

    def _stop(self, why: str) -> None:
        self.is_on = False
        with contextlib.suppress(Exception):
            directory.add_event(self._run_dir, f"{self._name}: stopped: {why}", "warning")


def main(run_dir: Path) -> None:
    """Track until the input ends and every line is sent."""
    os.umask(0o077)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_FILE_BYTES, MAX_FILE_BYTES))
    # The trackers write to a logger that wants to know which process this is.
    PartialState(cpu=True)
    private_folder(run_dir / FOLDER)
    # wandb takes no folder as an argument. Source: its environment variables.
    os.environ["WANDB_DIR"] = str(run_dir / FOLDER)
    plan = directory.read_json(run_dir / "plan.json") or {}
    trackers = [Tracker(name, run_dir, plan) for name in plan["training"]["report_to"]]
    sent, is_last = 0, False
    while not is_last and any(tracker.is_on for tracker in trackers):
        is_last = bool(select.select([sys.stdin], [], [], POLL_SECONDS)[0])
        rows = directory.read_metrics(run_dir)
        for row in rows[sent:]:
            for tracker in trackers:
                tracker.log(row)
        sent = len(rows)
    for tracker in trackers:
        tracker.finish()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
