"""A run that executes elsewhere, as the supervisor sees it: submit, watch, cancel, note its end.

The scheduler is asked now and then whether the job is still there. What the run does, and how it
ended, stands in the run directory: the job writes it there, or its copy is fetched.
"""

import contextlib
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from ft_tools import workspace
from ft_tools.errors import Missing
from ft_tools.launchers.job import UNKNOWN, Job, Launcher
from ft_tools.launchers.options import Options, parse
from ft_tools.launchers.processes import MARK, SAFE
from ft_tools.launchers.table import LAUNCHERS, require_programs
from ft_tools.publish import write_file
from ft_tools.runs import bundle, directory, locks
from ft_tools.runs.ranks import JOB_FILE
from ft_tools.runs.records import ENDED, RunError, RunInfo, Why
from ft_tools.runs.start import WORKERS_VARIABLE, environment

LOOK_VARIABLE = "FINE_TUNING_LLM_LOOK_SECONDS"
LOOK_SECONDS = 15.0
"""Between two questions to the scheduler."""
POLL_SECONDS = 0.5
ASK_SECONDS = 120.0
"""That a scheduler's program gets to answer."""
GONE_LOOKS = 3
"""Looks without the job until it counts as gone: files of other machines may come late."""
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


class JobRecord(BaseModel):
    """job.json: the job that has the run; it is there as long as the job may be."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    backend: str
    token: str = Field(description="Only the job with this token may write the run.")
    job_id: str = Field("", description="The scheduler's; empty while it is being submitted.")
    submitted_at: float = Field(0.0, description="Seconds since 1970.")


def shown_job(kind: str, module: str, options: Options) -> Job:
    """Return a job for a plan that is only shown: its run has no name yet."""
    return Job(f"{kind}-{SHOWN_ID}", "RUN_DIR", module, "TOKEN", _python(options), options, {})


def submissions(launcher: Launcher, job: Job) -> tuple[dict[str, str], list[list[str]]]:
    """Return the files and the commands of a submission."""
    commands = []
    if launcher.send is not None:
        storage = _storage(job.options, job.run_id)
        commands.append(launcher.send(job.options, f"{job.run_dir}/bundle", f"{storage}/bundle"))
    return launcher.files(job), [*commands, launcher.submit(job)]


def attend(run_dir: Path, info: RunInfo, terms: Callable[[], int], grace: float) -> None:
    """Look after a job until it is gone, and write its end if it could not.

    Args:
        run_dir: The run.
        info: Its run.json.
        terms: How many TERM signals arrived; on one this process leaves and the job goes on.
        grace: Seconds that a job gets to stop by itself after a cancel.

    Raises:
        FineTuningError: It cannot be submitted.
    """
    launcher = LAUNCHERS[info.backend]
    options = parse(info.backend, info.backend_options)
    record = _read(run_dir)
    if record is None or not record.job_id:
        record = _submit(run_dir, info, launcher, options)
    watch = _Watch(run_dir, launcher, options, record)
    cancelled_at: float | None = None
    while not watch.is_over():
        if terms():
            directory.add_event(run_dir, f"left {info.backend} job {record.job_id} to itself")
            return
        if (run_dir / "cancel").exists():
            cancelled_at = cancelled_at or time.monotonic()
            watch.stop(time.monotonic() - cancelled_at > grace)
        time.sleep(POLL_SECONDS)
    watch.record_end()


class _Watch:
    """What is known about a job, from the run directory first and from the scheduler second."""

    def __init__(
        self, run_dir: Path, launcher: Launcher, options: Options, record: JobRecord
    ) -> None:
        self._run_dir = run_dir
        self._launcher = launcher
        self._options = options
        self._record = record
        self._hint = UNKNOWN
        self._last = UNKNOWN
        self._looked_at = -LOOK_SECONDS
        self._gone = 0
        self._stopped = False

    def is_over(self) -> bool:
        """Ask when it is due; tell whether the job is gone for good."""
        if time.monotonic() - self._looked_at >= _look_seconds():
            self._looked_at = time.monotonic()
            self._look()
        return self._gone >= self._needed()

    def stop(self, in_earnest: bool) -> None:
        """Have a waiting job removed; one that runs stops by itself, unless it takes too long."""
        started = locks.is_held(self._run_dir / locks.WORKER) or self._hint.state == "running"
        if self._stopped or (started and self._launcher.sees_the_run and not in_earnest):
            return
        self._stopped = True
        directory.add_event(self._run_dir, f"ending job {self._record.job_id}")
        _ask(self._launcher.stop(self._options, self._record.job_id))

    def record_end(self) -> None:
        """Close the job, and write the end that it could not write."""
        status = directory.read_status(self._run_dir)
        cancelled = (self._run_dir / "cancel").exists()
        if status.state not in ENDED or (cancelled and status.state == "interrupted"):
            directory.write_status(self._run_dir, status.model_copy(update=self._end(cancelled)))
        (self._run_dir / JOB_FILE).unlink(missing_ok=True)

    def _end(self, cancelled: bool) -> dict[str, object]:
        ended: dict[str, object] = {"ended_at": time.time(), "error": None}
        if cancelled:
            return ended | {"state": "cancelled", "reason": "user"}
        reason: Why = self._last.reason or "crash"  # type: ignore[assignment]
        error = RunError(
            code="job_ended",
            message=f"the job ended before its worker could say why; {self._record.backend} says "
            f"{self._last.said}",
            hint="get_run with log_lines shows the last lines; resume_run submits it again",
            retryable=True,
        )
        state = "cancelled" if reason == "user" else "interrupted"
        return ended | {"state": state, "reason": reason, "error": error}

    def _look(self) -> None:
        if self._launcher.fetch is not None:
            fetched = _storage(self._options, self._run_dir.name)
            local = self._run_dir / bundle.FETCHED
            local.mkdir(mode=0o700, exist_ok=True)
            _ask(self._launcher.fetch(self._options, fetched, str(local)))
            bundle.take_over(local, self._run_dir)
        code, printed = _ask(self._launcher.look(self._options, self._record.job_id))
        self._hint = self._launcher.hint(code, printed, self._record.job_id)
        if self._hint.state != "unknown" and self._hint.said != self._last.said:
            directory.add_event(
                self._run_dir,
                f"{self._record.backend} job {self._record.job_id}: {self._hint.said}",
            )
            self._last = self._hint
        gone = self._hint.state == "ended" and not locks.is_held(self._run_dir / locks.WORKER)
        self._gone = self._gone + 1 if gone else 0

    def _needed(self) -> int:
        state = directory.read_status(self._run_dir).state
        # An interrupted one may be between its end and its next start.
        return 1 if state in ENDED and state != "interrupted" else GONE_LOOKS


def _submit(run_dir: Path, info: RunInfo, launcher: Launcher, options: Options) -> JobRecord:
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
    files, commands = submissions(launcher, job)
    for name, text in files.items():
        write_file(run_dir / name, text)
    if not launcher.sees_the_run:
        bundle.pack(run_dir)
    printed = ""
    try:
        for argv in commands:
            code, printed = _ask(argv)
            if code:
                raise Missing(f"{' '.join(argv[:3])} ended with {code}: {printed.strip()[-500:]}")
    except BaseException:
        (run_dir / JOB_FILE).unlink(missing_ok=True)
        raise
    record = record.model_copy(update={"job_id": launcher.job_id(job, printed)})
    write_file(run_dir / JOB_FILE, record.model_dump_json())
    directory.add_event(run_dir, f"submitted as {info.backend} job {record.job_id}")
    return record


def _read(run_dir: Path) -> JobRecord | None:
    with contextlib.suppress(OSError, ValueError):
        return JobRecord.model_validate_json((run_dir / JOB_FILE).read_bytes())
    return None


def _python(options: Options) -> str:
    return options.python or sys.executable


def _environment(launcher: Launcher, token: str) -> dict[str, str]:
    """Return what a job needs of this environment: places and switches, never a secret."""
    ours = {MARK: token, **SAFE}
    if not launcher.sees_the_run:
        return ours
    here = environment()
    return {name: here[name] for name in GIVEN_VARIABLES if name in here} | ours


def _storage(options: Options, run_id: str) -> str:
    return f"{str(getattr(options, 'storage', '')).rstrip('/')}/{run_id}"


def _ask(argv: list[str]) -> tuple[int, str]:
    """Run a scheduler's program; returns its exit code and what it printed."""
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=ASK_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return 1, f"{argv[0]}: {type(error).__name__}"
    return done.returncode, done.stdout + (done.stderr if done.returncode else "")


def _look_seconds() -> float:
    try:
        return max(0.0, float(os.environ[LOOK_VARIABLE]))
    except (KeyError, ValueError):
        return LOOK_SECONDS
