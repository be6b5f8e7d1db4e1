"""The worker's side of a run: locks, status, metrics, events, cancel, and an honest end.

A worker module calls `main(work)`; `work(session)` returns the run's report. Whatever happens to
`work`, the run ends in a state with a reason and an advice.
"""

import contextlib
import faulthandler
import gc
import json
import math
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any, TextIO, TypeVar, cast

from pydantic import BaseModel, ValidationError

from ft_tools.contract import complaints
from ft_tools.errors import DiskFull, Refused, RunBusy
from ft_tools.publish import append_line, disk_full_is_named, sha256, write_file
from ft_tools.redaction import redact
from ft_tools.runs.processes.endings import diagnosis, disk_full
from ft_tools.runs.processes.eta import Pace
from ft_tools.runs.processes.start import LOCKS_VARIABLE
from ft_tools.runs.state import directory, locks, ranks
from ft_tools.runs.state.records import Artifact, Progress, RunError, State, Why

Saved = TypeVar("Saved", bound=BaseModel)
WRITE_SECONDS = 0.5
RUN_FAILED = 5
End = tuple[State, Why | None, RunError | None]


class Stopped(Exception):
    """Raised by `work` when it stopped early because it was asked to, after saving its state."""


class Again(Exception):
    """Raised by `work` after `ask_again`: fresh processes continue where this one failed."""


class Session:
    """A run, as its worker writes it."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.info = directory.read_info(run_dir)
        self.status = directory.read_status(run_dir)
        """What status.json says, or will say within half a second."""
        self.terminated = False
        self.leads = ranks.rank() == 0
        self._began = time.monotonic()
        budget = directory.whole_json(run_dir / "request.json").get("budget_hours")
        # A scheduler's restarts share a budget; so do fresh processes of one attempt.
        spent = self.status.earlier_seconds - self.status.budgeted_from_seconds
        spent += max(0.0, time.time() - (self.status.started_at or time.time()))
        self._ends_at = self._began + budget * 3600 - spent if budget else math.inf
        self._written = -math.inf
        self._pace = Pace()
        self._not_finite: set[str] = set()

    def request_json(self) -> bytes:
        """Return the request that made the run, as JSON."""
        return (self.run_dir / "request.json").read_bytes()

    def plan_json(self) -> bytes:
        """Return the plan that was confirmed, as JSON."""
        return (self.run_dir / "plan.json").read_bytes()

    def request(self, kind: type[Saved]) -> Saved:
        """Return the request that made the run; fields that only an earlier version had are gone.

        Raises:
            Refused: Another version took a value that this one does not.
        """
        return _read(kind, "request", self.request_json())

    def plan(self, kind: type[Saved]) -> Saved:
        """Return the plan that was confirmed, as `request`.

        Raises:
            Refused: Another version planned what this one does not.
        """
        return _read(kind, "plan", self.plan_json())

    @property
    def attempt(self) -> int:
        """Return 1 for the first attempt, 2 after the first resume, and so on."""
        return self.status.attempt

    @property
    def should_stop(self) -> bool:
        """Return whether to save and stop; of several ranks none may go alone, see `is_asked`."""
        return self.is_asked and not ranks.are_several()

    @property
    def is_asked(self) -> bool:
        """Return whether a stop is due: a cancel, a TERM, or the end of the budget."""
        signs = (directory.has(self.run_dir, sign) for sign in ("cancel", "preempt"))
        return self.is_over_budget or self.terminated or any(signs)

    @property
    def is_over_budget(self) -> bool:
        """Return whether this attempt has taken its `budget_hours`."""
        return time.monotonic() >= self._ends_at

    def phase(self, name: str) -> None:
        """Set what the worker is doing now; steps are counted anew."""
        self._pace = Pace()
        self.event(name)
        self.update(state="running", phase=name, stalled_after_seconds=None)

    def heartbeat(self, stalled_after_seconds: float) -> None:
        """Record a sign of life, and after how long a silence the run is stalled."""
        self._write_soon(stalled_after_seconds=stalled_after_seconds)

    def event(self, message: str, level: str = "info") -> None:
        """Append an event."""
        if self.leads:
            directory.add_event(self.run_dir, redact(message), level)

    def progress(self, step: int, total_steps: int) -> None:
        """Set how far the run is, in steps of the current phase.

        Quick steps are not each written to the disk: the status is at most half a second old.
        """
        now = time.monotonic()
        self._pace.at(step, now)
        left = self._pace.left(max(0, total_steps - step))
        low, likely, high = (None,) * 3 if left is None else (round(s, 1) for s in left)
        self._write_soon(
            progress=Progress(
                step=step,
                total_steps=total_steps,
                fraction=round(min(1.0, step / total_steps), 4) if total_steps else 0.0,
                elapsed_seconds=round(now - self._began, 1),
                eta_seconds=likely,
                eta_low_seconds=low,
                eta_high_seconds=high,
            )
        )

    def metrics(self, row: dict[str, float]) -> None:
        """Append a line of metrics and make it the latest.

        JSON has no NaN and no infinity: such a value is left out, and an event says so once.
        """
        finite = {name: value for name, value in row.items() if math.isfinite(value)}
        for name in row.keys() - finite.keys() - self._not_finite:
            self._not_finite.add(name)
            self.event(f"{name} became NaN or infinite", "error")
        if self.leads:
            append_line(self.run_dir / "metrics.jsonl", json.dumps(finite))
        self._write_soon(metrics=self.status.metrics | finite)

    def artifact(self, kind: str, path: Path) -> None:
        """Record a published file or folder, with its size and hash; forget those that are gone."""
        if not self.leads:
            return
        manifest = path / "manifest.json" if path.is_dir() else path
        files = [path] if path.is_file() else [f for f in path.rglob("*") if f.is_file()]
        made = Artifact(
            kind=kind,
            path=str(path),
            sha256=sha256(manifest) if manifest.exists() else "",
            bytes=sum(file.stat().st_size for file in files),
        )
        there = [a for a in self.status.artifacts if Path(a.path).exists() and a.path != made.path]
        self.update(artifacts=[*there, made])

    def update(self, **fields: Any) -> None:
        """Replace fields of status.json; of several processes, the first one's."""
        self.status = self.status.model_copy(update=fields)
        if self.leads:
            self.status = directory.write_status(self.run_dir, self.status)
        self._written = time.monotonic()

    def ask_again(self, message: str) -> None:
        """Ask whoever started this process for fresh ones, which have all memory back.

        What they do differently has to be written down first. Of several ranks that ask, one
        says why.
        """
        if directory.mark(self.run_dir, "again"):
            directory.add_event(self.run_dir, redact(message), "warning")

    def end(self, state: State, reason: Why | None = None, error: RunError | None = None) -> None:
        """Write the run's last state."""
        self.update(state=state, reason=reason, error=error, ended_at=time.time())
        self.event(state, "info" if state == "succeeded" else "warning")

    def _write_soon(self, **fields: Any) -> None:
        """Replace fields; the next write after half a second, or of anything else, has them."""
        self.status = self.status.model_copy(update=fields)
        if time.monotonic() - self._written >= WRITE_SECONDS:
            self.update()


def main(work: Callable[[Session], BaseModel]) -> None:
    """Run a worker over the directory named on the command line, and exit."""
    # What was imported stays: see run_worker.
    gc.freeze()
    gc.enable()
    os.umask(0o077)
    run_dir = Path(sys.argv[1])
    _hold(run_dir)
    sys.stdout = sys.stderr = cast("TextIO", _RedactedStream(sys.stderr))
    faulthandler.enable(2)
    session = Session(run_dir)
    signal.signal(signal.SIGTERM, lambda *_: setattr(session, "terminated", True))
    sys.exit(_run(session, work))


def read_saved(kind: type[Saved], text: bytes) -> Saved:
    """Parse a saved plan or request without what only an earlier version had: fields, list items.

    An item is one of a list of names, such as a metric.

    Raises:
        ValidationError: There is a value in it that this version refuses.
    """
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        unknown = [detail["loc"] for detail in error.errors() if detail["type"] == "literal_error"]
    saved = json.loads(text)
    for *path, place in reversed(unknown):
        if isinstance(place, int):
            del reduce(getitem, path, saved)[place]
    return kind.model_validate_json(json.dumps(saved), extra="ignore")


def _read(kind: type[Saved], name: str, text: bytes) -> Saved:
    try:
        return read_saved(kind, text)
    except ValidationError as error:
        said = "; ".join(complaints(kind, error))
        raise Refused(
            f"the {name} of this run is of another version, and this one refuses it: {said}; "
            "change that and make a new run"
        ) from error


def _hold(run_dir: Path) -> None:
    """Keep the locks that the supervisor hands on; started by hand, take the run's own."""
    if ranks.is_rank():
        ranks.hold(run_dir)
        return
    inherited = list(filter(None, os.environ.pop(LOCKS_VARIABLE, "").split(",")))
    for file in map(int, inherited) if inherited else [locks.take(run_dir / locks.OWNER)]:
        if file is None:
            raise RunBusy(
                f"run {run_dir.name} is held by a living process; stop it with cancel_run"
            )
        locks.keep_from_forks(file)


def _run(session: Session, work: Callable[[Session], BaseModel]) -> int:
    """Do the work and write how it ended; returns the exit code."""
    try:
        with disk_full_is_named(session.run_dir):
            # Fresh processes of an attempt go on.
            began = session.status.started_at or time.time()
            session.update(state="running", started_at=began, error=None, reason=None)
            if session.should_stop:
                raise Stopped
            text = work(session).model_dump_json(indent=1)
            if session.leads:
                write_file(session.run_dir / "report.json", redact(text))
            session.end("succeeded")
        return 0
    except BaseException as error:
        return _record_end(session, error)


def _record_end(session: Session, error: BaseException) -> int:
    """Write why the run stopped or failed; returns the exit code."""
    run_dir, is_failure = session.run_dir, not isinstance(error, Stopped | Again)
    if is_failure:
        with contextlib.suppress(OSError):
            sys.stderr.write("".join(traceback.format_exception(error)))
        # Closes what `work` has open: a process out of files can write its end then.
        traceback.clear_frames(error.__traceback__)
        if full := disk_full(run_dir, error):
            error = full
            directory.free_reserve(run_dir)
    if directory.has(run_dir, "again"):
        # Of this rank, or of another: then this one was only ended with it.
        return RUN_FAILED
    if is_failure:
        ended, code = _failure(session, error), getattr(error, "exit_code", RUN_FAILED)
    elif directory.has(run_dir, "cancel"):
        ended, code = ("cancelled", "user", None), 0
    else:
        ended, code = ("interrupted", "budget" if session.is_over_budget else "preempted", None), 0
    # On a full disk even this may fail; the supervisor then records the end.
    with contextlib.suppress(DiskFull):
        session.end(*ended)
    return code


def _failure(session: Session, error: BaseException) -> End:
    """Return the end that an error is, in this rank or in another that had it first."""
    if directory.has(session.run_dir, "out_of_memory"):
        # Another rank's: this one only lost its partner.
        error = MemoryError()
    state, reason, failure = diagnosis(error)
    if reason == "out_of_memory" and not session.leads:
        directory.mark(session.run_dir, "out_of_memory")
    if failure.code == "out_of_memory" and session.status.if_out_of_memory:
        failure = failure.model_copy(update={"hint": session.status.if_out_of_memory})
    return state, reason, failure


class _RedactedStream:
    """A text stream without secrets."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(redact(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
