"""A job as it is seen from here: what its scheduler says, which of its files have come, its end.

The run directory is believed first, the scheduler second: see `ft_tools/runs/launchers`.
"""

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

from ft_tools.runs import bundle, directory, end_of_lost_worker, locks, ranks, scheduler_programs
from ft_tools.runs.launchers.job import UNKNOWN, Launcher
from ft_tools.runs.launchers.options import Options
from ft_tools.runs.ranks import JOB_FILE, read_token
from ft_tools.runs.records import ENDED, JobRecord, RunError, State, Why

LOOK_VARIABLE = "FINE_TUNING_LLM_LOOK_SECONDS"
LOOK_SECONDS = 15.0
"""Between two questions to the scheduler."""
GONE_LOOKS = 3
"""Looks without the job until it counts as gone: files of other machines may come late."""


class Watch:
    """What is known about a job, from the run directory first and from the scheduler second."""

    def __init__(
        self,
        run_dir: Path,
        launcher: Launcher,
        options: Options,
        record: JobRecord,
        is_called: Callable[[], bool],
    ) -> None:
        self._run_dir = run_dir
        self._launcher = launcher
        self._options = options
        self._record = record
        self._is_called = is_called
        self._hint = UNKNOWN
        self._last = UNKNOWN
        self._looked_at = -LOOK_SECONDS
        self._gone = 0
        self._stopped = False
        self._stop_tried_at: float | None = None
        self._fetched = launcher.fetch is None
        self._fetch_complained = False

    def is_over(self) -> bool:
        """Ask when it is due; tell whether the job is gone for good, and what it left is here."""
        if time.monotonic() - self._looked_at >= _look_seconds():
            self._looked_at = time.monotonic()
            self._look()
            if self._launcher.fetch is not None:
                # After the look: of a job that has ended it brings everything.
                self._fetch(self._launcher.fetch)
        return self._gone >= self._needed() and (self._fetched or not self._has_left_files())

    def stop(self, in_earnest: bool) -> None:
        """Have a waiting job removed; one that runs stops by itself, unless it takes too long.

        A scheduler that fails to do so is asked again after each look.
        """
        started = locks.is_held(self._run_dir / locks.WORKER) or self._hint.state == "running"
        if started and self._launcher.sees_the_run and not in_earnest:
            return
        is_done = self._stopped or self._hint.state == "ended"
        if is_done or self._stop_tried_at == self._looked_at:
            return
        is_first = self._stop_tried_at is None
        self._stop_tried_at = self._looked_at
        if is_first:
            directory.note(self._run_dir, f"ending job {self._record.job_id}")
        argv = self._launcher.stop(self._options, self._record.job_id)
        code, printed = scheduler_programs.call(argv, scheduler_programs.ANSWER_SECONDS)
        self._stopped = code == 0
        if code and is_first:
            said = scheduler_programs.failure(argv, code, printed)
            message = f"the job could not be ended, trying again: {said}"
            directory.note(self._run_dir, message, "error")

    def record_end(self) -> None:
        """Close the job, and write the end that it could not write."""
        status = directory.read_status(self._run_dir)
        cancelled = (self._run_dir / "cancel").exists()
        if cancelled and (status.state not in ENDED or status.state == "interrupted"):
            end_of_lost_worker.write(self._run_dir, "cancelled", "user")
        elif status.state not in ENDED:
            self._write_end()
        (self._run_dir / ranks.WAITING).unlink(missing_ok=True)
        (self._run_dir / JOB_FILE).unlink(missing_ok=True)

    def _write_end(self) -> None:
        reason: Why = self._last.reason or "crash"  # type: ignore[assignment]
        error = RunError(
            code="job_ended",
            message=f"the job ended before its worker could say why; {self._record.backend} says "
            f"{self._last.said}",
            hint="get_run with log_lines shows the last lines; resume_run submits it again",
            retryable=True,
        )
        state: State = "cancelled" if reason == "user" else "interrupted"
        end_of_lost_worker.write(self._run_dir, state, reason, error)

    def _look(self) -> None:
        argv = self._launcher.look(self._options, self._record.job_id)
        code, printed = scheduler_programs.call(argv, scheduler_programs.ANSWER_SECONDS)
        self._hint = self._launcher.hint(code, printed, self._record.job_id)
        if self._hint.state != "unknown":
            self._sign_waiting()
        if self._hint.state != "unknown" and self._hint.said != self._last.said:
            directory.add_event(
                self._run_dir,
                f"{self._record.backend} job {self._record.job_id}: {self._hint.said}",
            )
            self._last = self._hint
        gone = self._hint.state == "ended" and not locks.is_held(self._run_dir / locks.WORKER)
        self._gone = self._gone + 1 if gone else 0

    def _sign_waiting(self) -> None:
        """Leave or remove the sign by which a reader tells waiting from being stalled."""
        sign = self._run_dir / ranks.WAITING
        with contextlib.suppress(OSError):
            if self._hint.state == "waiting":
                sign.touch(mode=0o600)
            else:
                sign.unlink(missing_ok=True)

    def _fetch(self, fetch: Callable[[Options, str, str], list[str]]) -> None:
        """Bring the run's files here; a failure is told once, and tried again at the next look."""
        local = self._run_dir / bundle.FETCHED
        local.mkdir(mode=0o700, exist_ok=True)
        argv = fetch(self._options, bundle.storage(self._options, self._run_dir.name), str(local))
        code, printed = scheduler_programs.call(
            argv, scheduler_programs.TRANSFER_SECONDS, self._has_something_to_do
        )
        self._fetched = code == 0
        is_late = self._hint.state != "waiting" and not self._has_something_to_do()
        if code and is_late and not self._fetch_complained:
            self._fetch_complained = True
            said = scheduler_programs.failure(argv, code, printed)
            message = f"its files could not be fetched, trying again: {said}"
            directory.note(self._run_dir, message, "warning")
        bundle.take_over(local, self._run_dir)

    def _has_something_to_do(self) -> bool:
        """Tell whether a cancel or a TERM cannot wait for a fetch: the job goes on meanwhile."""
        return self._is_called() and not self._stopped and self._hint.state != "ended"

    def _has_left_files(self) -> bool:
        """Tell whether there is something to wait for: the job wrote, or is said to have succeeded.

        One that never started has left nothing. A cancel gives up what cannot be fetched.
        """
        if (self._run_dir / "cancel").exists():
            return False
        fetched = read_token(self._run_dir / bundle.FETCHED)
        return fetched == self._record.token or self._hint.reason is None

    def _needed(self) -> int:
        state = directory.read_status(self._run_dir).state
        # An interrupted one may be between its end and its next start.
        return 1 if state in ENDED and state != "interrupted" else GONE_LOOKS


def _look_seconds() -> float:
    try:
        return max(0.0, float(os.environ[LOOK_VARIABLE]))
    except (KeyError, ValueError):
        return LOOK_SECONDS
