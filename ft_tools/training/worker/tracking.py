"""Pass a run's metrics on to trackers: `python -m ft_tools.training.worker.tracking RUN_DIR`.

Reads `metrics.jsonl` as it grows, until its standard input ends. Whatever a tracker does, the run
does not wait: an error ends that tracker and is an event of the run.
"""

import contextlib
import os
import resource
import select
import shutil
import sys
from pathlib import Path
from typing import Any

from accelerate.state import PartialState
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker

from ft_tools.publish import private_folder
from ft_tools.runs.state import directory
from ft_tools.runs.state.records import RunInfo

POLL_SECONDS = 0.5
PROJECT = "fine-tuning-llm"
FOLDER = "trackers"
MAX_FILE_BYTES = 2**30
# The argument by which a tracker takes a run's own name. Source: accelerate 1.15, tracking.py.
NAMED = {"wandb": "name", "trackio": "name", "mlflow": "run_name"}
# Where a tracker that takes no folder puts its files. Source: wandb's environment variables.
FOLDER_VARIABLES = ("WANDB_DIR",)


def main(run_dir: Path) -> None:
    """Track until the input ends and every line is sent."""
    os.umask(0o077)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_FILE_BYTES, MAX_FILE_BYTES))
    # The trackers write to a logger that wants to know which process this is.
    PartialState(cpu=True)
    info = directory.read_info(run_dir)
    plan = directory.read_json(run_dir / "plan.json") or {}
    trackers = started(run_dir, info, plan)
    reserve = int(plan["estimate"]["disk_bytes"])
    sent, is_last = 0, False
    while trackers and not is_last:
        is_last = bool(select.select([sys.stdin], [], [], POLL_SECONDS)[0])
        rows = directory.read_metrics(run_dir)
        for row in rows[sent:]:
            trackers = [t for t in trackers if log(run_dir, t, row, reserve)]
        sent = len(rows)
    for tracker in trackers:
        guarded(run_dir, tracker.name, tracker.finish)


def started(run_dir: Path, info: RunInfo, plan: dict[str, Any]) -> list[GeneralTracker]:
    """Start the trackers that the plan names; one that cannot start is left out."""
    folder = run_dir / FOLDER
    private_folder(folder)
    os.environ.update(dict.fromkeys(FOLDER_VARIABLES, str(folder)))
    training = plan["training"]
    project = str(training.get("project") or PROJECT)
    found = []
    for name in training["report_to"]:
        options: dict[str, Any] = {NAMED[name]: info.run_id} if name in NAMED else {}
        made = LOGGER_TYPE_TO_CLASS[name]

        def start(made: Any = made, options: dict[str, Any] = options) -> GeneralTracker:
            if made.requires_logging_directory:
                options["logging_dir"] = str(folder)
            tracker = made(project, **options)
            tracker.start()
            flat = {k: v for k, v in training.items() if isinstance(v, int | float | str)}
            tracker.store_init_configuration(flat)
            return tracker

        tracker = guarded(run_dir, name, start)
        if tracker is not None:
            found.append(tracker)
    return found


def log(run_dir: Path, tracker: GeneralTracker, row: dict[str, float], reserve: int) -> bool:
    """Pass a line on; returns whether the tracker goes on."""
    if shutil.disk_usage(run_dir).free < reserve:
        note(run_dir, tracker.name, "stopped: the disk has only the room that the run needs")
        return False
    values = {name: value for name, value in row.items() if name != "step"}

    def send() -> bool:
        tracker.log(values, step=int(row.get("step", 0)))
        return True

    return bool(guarded(run_dir, tracker.name, send))


def guarded(run_dir: Path, name: str, work: Any) -> Any:
    """Return what a tracker's call returns; None, and an event, if it raises."""
    try:
        return work()
    except Exception as error:
        # Its words may hold an address or a key.
        note(run_dir, name, f"stopped after {type(error).__name__}; the run is not affected")
        return None


def note(run_dir: Path, name: str, text: str) -> None:
    """Append an event to the run."""
    with contextlib.suppress(Exception):
        directory.add_event(run_dir, f"{name}: {text}", "warning")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
