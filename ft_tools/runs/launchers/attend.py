"""A run that executes elsewhere, as the supervisor sees it: submit its job, and look after that.

What the run does, and how it ended, stands in the run directory: the job writes it there, or its
copy is fetched. The scheduler is asked only whether the job is still there.
"""

import contextlib
import os
import secrets
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ft_tools import workspace
from ft_tools.errors import Missing
from ft_tools.publish import write_file
from ft_tools.runs.launchers import programs, workdir
from ft_tools.runs.launchers.launcher import UNKNOWN, Job, JobState, Launcher, Storage
from ft_tools.runs.launchers.options import Options
from ft_tools.runs.launchers.table import LAUNCHERS, parse, require_programs
from ft_tools.runs.launchers.torchrun import MARK, SAFE
from ft_tools.runs.processes import endings
from ft_tools.runs.processes.start import WORKERS_VARIABLE, environment
from ft_tools.runs.state import directory, locks, ranks
from ft_tools.runs.state.ranks import JOB_FILE, read_token
from ft_tools.runs.state.records import ENDED, JobRecord, RunError, RunInfo, State, Why

POLL_SECONDS = 0.5
LOOK_VARIABLE = "FINE_TUNING_LLM_LOOK_SECONDS"
LOOK_SECONDS = 15.0
"""Between two questions to the scheduler."""
GONE_LOOKS = 3
"""Looks without the job until it counts as gone: files of other machines may come late."""
FETCHED = "fetched"
SHOWN_ID = "0123456789abcdef"
GIVEN_VARIABLES = (
    workspace.VARIABLE,
    workspace.CACHE_VARIABLE,
    WORKERS_VARIABLE,
    "PYTHONPATH",
    "HF_HOME",
    "HF_HUB_OFFLINE",
    "OMP_NUM_THREADS",
)
"""What a job on a shared file system is given of this environment: places and switches."""


def shown_job(kind: str, module: str, options: Options) -> Job:
    """Return a job for a plan that is only shown: its run has no name yet."""
    return Job(f"{kind}-{SHOWN_ID}", "RUN_DIR", module, "TOKEN", _python(options), options, {})


def attend(run_dir: Path, info: RunInfo, terms: Callable[[], int], grace: float) -> None:
    """Look after a job until it is gone, and write its end if it could not.

    Args:
        run_dir: The run.
        info: Its run.json.
        terms: How many TERM signals arrived; on one this process leaves and the job continues.
        grace: Seconds that a job gets to stop by itself after a cancel.

    Raises:
        FineTuningError: It cannot be submitted.
    """
    launcher = LAUNCHERS[info.backend]
    options = parse(info.backend, info.backend_options)

    def is_called() -> bool:
        return terms() > 0 or (run_dir / "cancel").exists()

    record = _read(run_dir)
    if record is None or not record.job_id:
        record = _submit(run_dir, info, launcher, options, is_called)
    if record is None:
        if terms():
            endings.write(run_dir, "interrupted", "preempted")
        else:
            endings.write(run_dir, "cancelled", "user")
        return
    watch = Watch(run_dir, launcher, options, record, is_called)
    cancelled_at: float | None = None
    while not watch.is_over():
        if terms():
            directory.add_event(run_dir, f"left {info.backend} job {record.job_id} to itself")
            return
        if (run_dir / "cancel").exists():
            cancelled_at = cancelled_at or time.monotonic()
            watch.cancel(in_earnest=time.monotonic() - cancelled_at > grace)
        time.sleep(POLL_SECONDS)
    watch.record_end()


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
        self._state = UNKNOWN
        self._last = UNKNOWN
        self._looked_at = -LOOK_SECONDS
        self._gone = 0
        self._cancelled = False
        self._cancel_tried_at: float | None = None
        self._fetched = launcher.storage is None
        self._fetch_complained = False

    def is_over(self) -> bool:
        """Ask when it is due; return whether the job is gone and what it left is here."""
        if time.monotonic() - self._looked_at >= _look_seconds():
            self._looked_at = time.monotonic()
            self._look()
            if self._launcher.storage is not None:
                # After the look: of a job that has ended it brings everything.
                self._fetch(self._launcher.storage)
        return self._gone >= self._needed() and (self._fetched or not self._has_left_files())

    def cancel(self, *, in_earnest: bool) -> None:
        """Have a waiting job removed; one that runs stops by itself, unless it takes too long.

        A scheduler that fails to do so is asked again after each look.
        """
        started = locks.is_held(self._run_dir / locks.WORKER) or self._state.state == "running"
        if started and self._launcher.storage is None and not in_earnest:
            return
        is_done = self._cancelled or self._state.state == "ended"
        if is_done or self._cancel_tried_at == self._looked_at:
            return
        is_first = self._cancel_tried_at is None
        self._cancel_tried_at = self._looked_at
        argv = self._launcher.cancel(self._options, self._record.job_id)
        code, printed = programs.call(argv, programs.ANSWER_SECONDS)
        self._cancelled = code == 0
        if is_first:
            directory.note(self._run_dir, f"ending job {self._record.job_id}")
        if code and is_first:
            said = programs.failure(argv, code, printed)
            message = f"the job could not be ended, trying again: {said}"
            directory.note(self._run_dir, message, "error")

    def record_end(self) -> None:
        """Close the job, and write the end that it could not write."""
        status = directory.read_status(self._run_dir)
        cancelled = (self._run_dir / "cancel").exists()
        if cancelled and (status.state not in ENDED or status.state == "interrupted"):
            endings.write(self._run_dir, "cancelled", "user")
        elif status.state not in ENDED:
            self._write_end()
        (self._run_dir / ranks.WAITING).unlink(missing_ok=True)
        (self._run_dir / JOB_FILE).unlink(missing_ok=True)

    def _write_end(self) -> None:
        reason: Why = self._last.reason or "crash"  # type: ignore[assignment]
        error = RunError(
            code="job_ended",
            message=f"the job ended without a report of its worker; {self._record.backend} reports "
            f"{self._last.text}",
            hint="get_run with log_lines shows the last lines; resume_run submits it again",
            retryable=True,
        )
        state: State = "cancelled" if reason == "user" else "interrupted"
        endings.write(self._run_dir, state, reason, error)

    def _look(self) -> None:
        self._state = _ask(self._launcher, self._options, self._record.job_id)
        if self._state.state != "unknown":
            # The sign by which a reader distinguishes waiting from being stalled.
            sign = self._run_dir / ranks.WAITING
            with contextlib.suppress(OSError):
                if self._state.state == "waiting":
                    sign.touch(mode=0o600)
                else:
                    sign.unlink(missing_ok=True)
        if self._state.state != "unknown" and self._state.text != self._last.text:
            job = f"{self._record.backend} job {self._record.job_id}"
            directory.add_event(self._run_dir, f"{job}: {self._state.text}")
            self._last = self._state
        gone = self._state.state == "ended" and not locks.is_held(self._run_dir / locks.WORKER)
        self._gone = self._gone + 1 if gone else 0

    def _fetch(self, storage: Storage) -> None:
        """Bring the run's files here; a failure is reported once and tried again."""
        local = self._run_dir / FETCHED
        local.mkdir(mode=0o700, exist_ok=True)
        argv = storage.fetch(self._options, self._run_dir.name, str(local))
        code, printed = programs.call(argv, programs.TRANSFER_SECONDS, self._has_to_react)
        self._fetched = code == 0
        is_late = self._state.state != "waiting" and not self._has_to_react()
        if code and is_late and not self._fetch_complained:
            self._fetch_complained = True
            said = programs.failure(argv, code, printed)
            message = f"its files could not be fetched, trying again: {said}"
            directory.note(self._run_dir, message, "warning")
        storage.take_over(local, self._run_dir)

    def _has_to_react(self) -> bool:
        """Return whether a cancel or a TERM cannot wait for a fetch: the job continues."""
        return self._is_called() and not self._cancelled and self._state.state != "ended"

    def _has_left_files(self) -> bool:
        """Return whether there is something to wait for: the job wrote, or has succeeded.

        One that never started has left nothing. A cancel gives up what cannot be fetched.
        """
        if (self._run_dir / "cancel").exists():
            return False
        fetched = read_token(self._run_dir / FETCHED)
        return fetched == self._record.token or self._state.reason is None

    def _needed(self) -> int:
        state = directory.read_status(self._run_dir).state
        # An interrupted one may be between its end and its next start.
        return 1 if state in ENDED and state != "interrupted" else GONE_LOOKS


def _submit(
    run_dir: Path,
    info: RunInfo,
    launcher: Launcher,
    options: Options,
    is_called: Callable[[], bool],
) -> JobRecord | None:
    """Submit a job of the run.

    Returns:
        Its record; None when a cancel or a TERM came first: then there is no job.

    Raises:
        Missing: A program is not there, or has failed.
    """
    require_programs(info.backend, options)
    record = JobRecord(backend=info.backend, token=secrets.token_hex(4), submitted_at=time.time())
    # Before the submission: a job whose token is not this one ends at once.
    write_file(run_dir / JOB_FILE, record.model_dump_json())
    job = Job(
        run_id=run_dir.name,
        run_dir=str(run_dir),
        module=info.worker,
        token=record.token,
        python=_python(options),
        options=options,
        environment=_environment(launcher, record.token),
    )
    try:
        files, submitting = launcher.submission(job)
        for name, text in files.items():
            write_file(run_dir / name, text)
        if launcher.storage is not None:
            # Of an earlier submission; the storage may not have one of this for a while.
            (run_dir / FETCHED / workdir.STATUS).unlink(missing_ok=True)
            launcher.storage.pack(run_dir)
        if not is_called():
            return _hand_over(run_dir, launcher, job, record, submitting)
    except BaseException:
        (run_dir / JOB_FILE).unlink(missing_ok=True)
        raise
    finally:
        # It may hold a model, and is made anew by the next submission.
        shutil.rmtree(run_dir / workdir.FOLDER, ignore_errors=True)
    (run_dir / JOB_FILE).unlink(missing_ok=True)
    return None


def _hand_over(
    run_dir: Path, launcher: Launcher, job: Job, record: JobRecord, argv: list[str]
) -> JobRecord:
    """Call the submission, and write down the job's id.

    A program may fail after the scheduler has taken the job. Where the id is a name that we gave,
    the job is looked for then, so that nobody pays for two.

    Raises:
        Missing: It has failed, and there is no such job.
    """
    ours = launcher.job_id(job, "")
    record = record.model_copy(update={"job_id": ours})
    # Also for who looks after the run next, should this process end now.
    write_file(run_dir / JOB_FILE, record.model_dump_json())
    code, printed = programs.call(argv, programs.TRANSFER_SECONDS)
    said = programs.failure(argv, code, printed)
    if code == 0:
        ours = launcher.job_id(job, printed)
    elif code != programs.NO_ANSWER and not (
        ours and _ask(launcher, job.options, ours).state in {"waiting", "running"}
    ):
        raise Missing(said)
    if not ours:
        raise Missing(f"{' '.join(argv[:3])} returned no job id; find {job.name} there and stop it")
    if code:
        directory.note(run_dir, f"checking for job {ours} anyway: {said}", "warning")
    record = record.model_copy(update={"job_id": ours})
    write_file(run_dir / JOB_FILE, record.model_dump_json())
    directory.add_event(run_dir, f"submitted as {record.backend} job {record.job_id}")
    return record


def _ask(launcher: Launcher, options: Options, job_id: str) -> JobState:
    code, printed = programs.call(launcher.status(options, job_id), programs.ANSWER_SECONDS)
    return launcher.read_status(code, printed, job_id)


def _read(run_dir: Path) -> JobRecord | None:
    with contextlib.suppress(OSError, ValueError):
        return JobRecord.model_validate_json((run_dir / JOB_FILE).read_bytes())
    return None


def _python(options: Options) -> str:
    return options.python or sys.executable


def _environment(launcher: Launcher, token: str) -> dict[str, str]:
    """Return what a job needs of this environment: places and switches, never a secret."""
    ours = {MARK: token, **SAFE}
    if launcher.storage is not None:
        return ours
    here = environment()
    return {name: here[name] for name in GIVEN_VARIABLES if name in here} | ours


def _look_seconds() -> float:
    try:
        return max(0.0, float(os.environ[LOOK_VARIABLE]))
    except (KeyError, ValueError):
        return LOOK_SECONDS
