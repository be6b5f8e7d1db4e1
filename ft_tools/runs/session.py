"""The worker's side of a run: locks, status, metrics, events, cancel, and an honest end.

A worker module calls `main(work)`; `work(session)` returns the run's report. Whatever happens to
`work`, the run ends in a state with a reason and an advice.
"""

import contextlib
import faulthandler
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from pydantic import BaseModel

from ft_tools.errors import DiskFull, FineTuningError
from ft_tools.publish import append_line, disk_full_is_named, sha256, write_file
from ft_tools.runs import directory, locks
from ft_tools.runs.records import Artifact, Best, Health, Progress, RunError, State, Why
from ft_tools.runs.start import LOCKS_VARIABLE
from ft_tools.secrets import redact


class Stopped(Exception):
    """Raised by `work` when it stopped early because it was asked to, after saving its state."""


class Session:
    """A run, as its worker writes it."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.info = directory.read_info(run_dir)
        self.terminated = False
        self._status = directory.read_status(run_dir)
        self._began = time.time()

    def request_json(self) -> bytes:
        """Return the request that made the run, as JSON."""
        return (self.run_dir / "request.json").read_bytes()

    def plan_json(self) -> bytes:
        """Return the plan that was confirmed, as JSON."""
        return (self.run_dir / "plan.json").read_bytes()

    @property
    def attempt(self) -> int:
        """Return 1 for the first attempt, 2 after the first resume, and so on."""
        return self._status.attempt

    @property
    def should_stop(self) -> bool:
        """Tell whether to save and stop: a cancel was asked, or a TERM arrived."""
        return self.terminated or (self.run_dir / "cancel").exists()

    def phase(self, name: str) -> None:
        """Say what the worker is doing now."""
        self.event(name)
        self.update(state="running", phase=name)

    def event(self, message: str, level: str = "info") -> None:
        """Append an event."""
        directory.add_event(self.run_dir, redact(message), level)

    def progress(self, step: int, total_steps: int, eta_seconds: float | None = None) -> None:
        """Say how far the run is, in steps of the current phase."""
        fraction = step / total_steps if total_steps else 0.0
        elapsed = time.time() - self._began
        if eta_seconds is None and step >= 3:
            eta_seconds = elapsed / step * (total_steps - step)
        self.update(
            progress=Progress(
                step=step,
                total_steps=total_steps,
                fraction=round(fraction, 4),
                elapsed_seconds=round(elapsed, 1),
                eta_seconds=None if eta_seconds is None else round(eta_seconds, 1),
            )
        )

    def metrics(self, row: dict[str, float]) -> None:
        """Append a line of metrics and make it the latest."""
        append_line(self.run_dir / "metrics.jsonl", json.dumps(row))
        self.update(metrics=self._status.metrics | row)

    def best(self, metric: str, value: float, step: int) -> None:
        """Record the best value so far of the metric that decides."""
        self.update(best=Best(metric=metric, value=value, step=step))

    def health(self, signals: list[Health]) -> None:
        """Replace the health signals."""
        self.update(health=signals)

    def artifact(self, kind: str, path: Path) -> None:
        """Record a published file or folder, with its size and hash."""
        manifest = path / "manifest.json" if path.is_dir() else path
        files = [path] if path.is_file() else [f for f in path.rglob("*") if f.is_file()]
        made = Artifact(
            kind=kind,
            path=str(path),
            sha256=sha256(manifest) if manifest.exists() else "",
            bytes=sum(file.stat().st_size for file in files),
        )
        others = [a for a in self._status.artifacts if a.path != made.path]
        self.update(artifacts=[*others, made])

    def update(self, **fields: Any) -> None:
        """Replace fields of status.json."""
        status = self._status.model_copy(update=fields)
        self._status = directory.write_status(self.run_dir, status)

    def end(self, state: State, reason: Why | None = None, error: RunError | None = None) -> None:
        """Write the run's last state."""
        self.update(state=state, reason=reason, error=error, ended_at=time.time())
        self.event(state, "info" if state == "succeeded" else "warning")


def main(work: Callable[[Session], BaseModel]) -> None:
    """Run a worker over the directory named on the command line, and exit."""
    os.umask(0o077)
    for file in os.environ.get(LOCKS_VARIABLE, "").split(","):
        if file:
            locks.keep_from_forks(int(file))
    session = Session(Path(sys.argv[1]))
    sys.stdout = sys.stderr = _Redacted(sys.stderr)
    faulthandler.enable(2)
    signal.signal(signal.SIGTERM, lambda *_: setattr(session, "terminated", True))
    session.update(state="running", started_at=time.time(), error=None, reason=None)
    sys.exit(_run(session, work))


def _run(session: Session, work: Callable[[Session], BaseModel]) -> int:
    try:
        with disk_full_is_named(session.run_dir):
            report = work(session)
            text = report.model_dump_json(indent=1)
            write_file(session.run_dir / "report.json", redact(text))
            session.end("succeeded")
        return 0
    except Stopped:
        asked = (session.run_dir / "cancel").exists()
        session.end("cancelled" if asked else "interrupted", "user" if asked else "preempted")
        return 0
    except BaseException as error:
        sys.stderr.write("".join(traceback.format_exception(error)))
        # On a full disk even this may fail; the supervisor then records the end.
        with contextlib.suppress(DiskFull):
            _record_failure(session, error)
        return getattr(error, "exit_code", 5)


def _record_failure(session: Session, error: BaseException) -> None:
    if isinstance(error, DiskFull):
        hint = "free some space, then resume_run"
        failure = RunError(code="disk_full", message=str(error), hint=hint, retryable=True)
        session.end("interrupted", "disk_full", failure)
    elif isinstance(error, MemoryError) or "out of memory" in str(error).lower():
        hint = "lower per_device_train_batch_size or max_length; estimate_vram finds what fits"
        message = "out of memory"
        failure = RunError(code="out_of_memory", message=message, hint=hint, retryable=True)
        session.end("failed", "out_of_memory", failure)
    elif isinstance(error, FineTuningError):
        failure = RunError(code=error.code, message=redact(str(error)))
        session.end("failed", None, failure)
    else:
        # A library's message may quote a dataset or a template: it stays in log.txt.
        message = f"{type(error).__name__} in {_place(error)}"
        hint = "get_run with log_lines shows the traceback"
        failure = RunError(code="crash", message=message, hint=hint)
        session.end("failed", "crash", failure)


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "an unknown place"


class _Redacted:
    """A text stream without secrets."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(redact(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
