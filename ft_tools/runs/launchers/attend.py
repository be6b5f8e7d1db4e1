"""A run that executes elsewhere, as the supervisor sees it: submit its job, and look after that.

What the run does, and how it ended, stands in the run directory: the job writes it there, or its
copy is fetched. The scheduler is asked only whether the job is still there.
"""

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ft_tools import workspace
from ft_tools.errors import Missing
from ft_tools.publish import write_file
from ft_tools.redaction import redact
from ft_tools.runs.launchers import workdir
from ft_tools.runs.launchers.launcher import MARK, SAFE, UNKNOWN, Job, JobState, Launcher
from ft_tools.runs.launchers.table import parse, require_programs
from ft_tools.runs.processes import endings
from ft_tools.runs.processes.start import WORKERS_VARIABLE, environment, seconds_of
from ft_tools.runs.state import directory, locks
from ft_tools.runs.state.records import ENDED, RunInfo, State, Why, run_error

POLL_SECONDS = 0.5
LOOK_VARIABLE = "FINE_TUNING_LLM_LOOK_SECONDS"
LOOK_SECONDS = 15.0
"""Between two questions to the scheduler."""
GONE_LOOKS = 3
"""Looks without the job until it counts as gone: files of other machines may come late."""
ANSWER_SECONDS = 120.0
"""That a program gets to answer a question."""
SUBMIT_SECONDS = 6 * 3600.0
"""That it gets to submit a job, with a model of gibibytes."""
FETCH_SECONDS = 600.0
"""That it gets to fetch files; the next time it continues."""
NO_ANSWER = 124
"""Exit code for a program that was given up, as timeout(1) has it."""
SHOWN_CHARS = 500
FETCHED = "fetched"
ALIVE = frozenset({"waiting", "running"})
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


def shown_job(kind: str, module: str, options: Launcher) -> Job:
    """Return a job for a plan that is only shown: its run has no name yet."""
    python = options.python or sys.executable
    return Job(f"{kind}-{SHOWN_ID}", "RUN_DIR", module, "TOKEN", python, {})


def attend(run_dir: Path, info: RunInfo, terms: Callable[[], int], grace: float) -> None:
    """Look after a job until it is gone, and write its end if it could not.

    On a TERM (`terms` counts them) this process leaves and the job continues. After a cancel a job
    gets `grace` seconds to stop by itself.

    Raises:
        FineTuningError: It cannot be submitted.
    """
    watch = Watch(run_dir, info)
    if not watch.job_id and not watch.submit(terms):
        if terms():
            endings.write(run_dir, "interrupted", "preempted")
        else:
            endings.write(run_dir, "cancelled", "user")
        return
    looked_at = cancelled_at = 0.0
    while True:
        if terms():
            directory.add_event(run_dir, f"left {watch.job} to itself")
            return
        now = time.monotonic()
        if not cancelled_at and directory.has(run_dir, "cancel"):
            # Looked at now, too.
            cancelled_at, looked_at = now, 0.0
        if not looked_at or now - looked_at >= seconds_of(LOOK_VARIABLE, LOOK_SECONDS):
            looked_at = now
            watch.look()
            if cancelled_at:
                watch.cancel(in_earnest=now - cancelled_at > grace)
            if watch.is_over():
                break
        time.sleep(POLL_SECONDS)
    watch.record_end()


class Watch:
    """What is known about a job, from the run directory first and from the scheduler second."""

    def __init__(self, run_dir: Path, info: RunInfo) -> None:
        saved = directory.whole_json(run_dir / directory.JOB)
        self.token, self.job_id = (str(saved.get(name, "")) for name in ("token", "job_id"))
        self._run_dir = run_dir
        self._info = info
        launcher = parse(info.backend, info.backend_options)
        assert isinstance(launcher, Launcher)
        self._launcher = launcher
        self._state = self._last = UNKNOWN
        self._gone = 0
        self._cancelled = False
        self._is_shared = not launcher.fetch("", "")
        self._fetched = self._is_shared
        self._notes: set[str] = set()

    @property
    def job(self) -> str:
        """The job, as people name it."""
        return f"{self._info.backend} job {self.job_id}"

    def submit(self, terms: Callable[[], int]) -> bool:
        """Submit a job of the run.

        Returns:
            False when a cancel or a TERM came first: then there is no job.

        Raises:
            Missing: A program is not there, or has failed.
        """
        run_dir, launcher = self._run_dir, self._launcher
        require_programs(self._info.backend, launcher)
        token = secrets.token_hex(4)
        # Before the submission: a job whose token is not this one ends at once.
        self._write(token, "")
        job = Job(
            run_id=run_dir.name,
            run_dir=str(run_dir),
            module=self._info.worker,
            token=token,
            python=launcher.python or sys.executable,
            environment=_environment(token, is_shared=self._is_shared),
        )
        is_submitted = False
        try:
            for name, text in launcher.files(job).items():
                write_file(run_dir / name, text)
            if not self._is_shared:
                # Of an earlier submission; the storage may not have one of this for a while.
                (run_dir / FETCHED / workdir.STATUS).unlink(missing_ok=True)
                workdir.pack(run_dir)
            if not terms() and not directory.has(run_dir, "cancel"):
                self._hand_over(job)
                is_submitted = True
        finally:
            # It may hold a model, and is made anew by the next submission.
            shutil.rmtree(run_dir / workdir.FOLDER, ignore_errors=True)
            if not is_submitted:
                (run_dir / directory.JOB).unlink(missing_ok=True)
        return is_submitted

    def look(self) -> None:
        """Ask the scheduler for the job, and then the storage for its files."""
        self._state = self._ask()
        if self._state.state != "unknown":
            if self._state.text != self._last.text:
                directory.add_event(self._run_dir, f"{self.job}: {self._state.text}")
                self._write(self.token, self.job_id)
            self._last = self._state
        gone = self._state.state == "ended" and not locks.is_held(self._run_dir / locks.WORKER)
        self._gone = self._gone + 1 if gone else 0
        # After the look: of a job that has ended it brings everything.
        if not self._is_shared:
            local = self._run_dir / FETCHED
            local.mkdir(mode=0o700, exist_ok=True)
            argv = self._launcher.fetch(self._run_dir.name, str(local))
            code, printed = call(argv, FETCH_SECONDS)
            self._fetched = code == 0
            if code and self._state.state != "waiting":
                self._note("its files could not be fetched, trying again", argv, code, printed)
            workdir.take_over(local, self._run_dir)

    def is_over(self) -> bool:
        """Return whether the job is gone and what it left is here."""
        state = directory.read_status(self._run_dir).state
        # An interrupted one may be between its end and its next start.
        needed = 1 if state in ENDED and state != "interrupted" else GONE_LOOKS
        # A job that never started has left nothing; a cancel gives up what cannot be fetched.
        wrote = directory.read_token(self._run_dir / FETCHED) == self.token
        waits = (wrote or self._state.reason is None) and not directory.has(self._run_dir, "cancel")
        return self._gone >= needed and (self._fetched or not waits)

    def cancel(self, *, in_earnest: bool) -> None:
        """Have a waiting job removed; one that runs stops by itself, unless it takes too long.

        A scheduler that fails to do so is asked again after the next look.
        """
        started = locks.is_held(self._run_dir / locks.WORKER) or self._state.state == "running"
        listens = started and self._is_shared and not in_earnest
        if listens or self._cancelled or self._state.state == "ended":
            return
        directory.note(self._run_dir, f"ending job {self.job_id}")
        argv = self._launcher.cancel(self.job_id)
        code, printed = call(argv, ANSWER_SECONDS)
        self._cancelled = code == 0
        if code:
            self._note("the job could not be ended, trying again", argv, code, printed)

    def record_end(self) -> None:
        """Close the job, and write the end that it could not write."""
        state = directory.read_status(self._run_dir).state
        reason: Why = self._last.reason or "crash"  # type: ignore[assignment]
        cancelled = directory.has(self._run_dir, "cancel")
        if cancelled and (state not in ENDED or state == "interrupted"):
            endings.write(self._run_dir, "cancelled", "user")
        elif state not in ENDED:
            reports = {"backend": self._info.backend, "state": self._last.text}
            error = run_error("job_ended", **reports)
            ended: State = "cancelled" if reason == "user" else "interrupted"
            endings.write(self._run_dir, ended, reason, error)
        (self._run_dir / directory.JOB).unlink(missing_ok=True)

    def _hand_over(self, job: Job) -> None:
        """Call the submission, and write down the job's id.

        A program may fail after the scheduler has taken the job. Where the id is a name that we
        gave, the job is looked for then, so that nobody pays for two.

        Raises:
            Missing: It has failed, and there is no such job.
        """
        argv, ours = self._launcher.submit(job), self._launcher.job_id(job, "")
        # Also for who looks after the run next, should this process end now.
        self._write(self.token, ours)
        code, printed = call(argv, SUBMIT_SECONDS)
        if code == 0:
            self._write(self.token, self._launcher.job_id(job, printed))
        elif code != NO_ANSWER and not (ours and self._ask().state in ALIVE):
            raise Missing(failure(argv, code, printed))
        if not self.job_id:
            raise Missing(
                f"{' '.join(argv[:3])} returned no job id; find {job.name} there and stop it"
            )
        if code:
            self._note(f"checking for job {ours} anyway", argv, code, printed)
        directory.add_event(self._run_dir, f"submitted as {self.job}")

    def _ask(self) -> JobState:
        job_id = self.job_id
        argv = self._launcher.status(job_id)
        return self._launcher.read_status(*call(argv, ANSWER_SECONDS), job_id)

    def _note(self, what: str, argv: list[str], code: int, printed: str) -> None:
        """Note once that a program failed."""
        if what not in self._notes:
            self._notes.add(what)
            message = f"{what}: {failure(argv, code, printed)}"
            directory.note(self._run_dir, message, "warning")

    def _write(self, token: str, job_id: str) -> None:
        self.token, self.job_id = token, job_id
        # By `waiting` a reader distinguishes a job that waits from a run that is stalled.
        job = {"token": token, "job_id": job_id, "waiting": self._state.state == "waiting"}
        write_file(self._run_dir / directory.JOB, json.dumps(job))


def call(argv: list[str], seconds: float) -> tuple[int, str]:
    """Run a program; return its exit code, or NO_ANSWER, and what it printed."""
    try:
        # In a session of its own, so that a program which is a script ends with what it started.
        child = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        return 1, f"{argv[0]}: {type(error).__name__}"
    try:
        printed, complained = child.communicate(timeout=seconds)
        return child.returncode, printed + (complained if child.returncode else "")
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
        return NO_ANSWER, "no answer"


def failure(argv: list[str], code: int, printed: str) -> str:
    """Return how a program failed, in its own last words, without secrets."""
    said = redact(printed.strip()[-SHOWN_CHARS:])
    return f"{' '.join(argv[:3])} ended with {code}: {said}"


def _environment(token: str, *, is_shared: bool) -> dict[str, str]:
    """Return what a job needs of this environment: places and switches, never a secret."""
    here = environment() if is_shared else {}
    given = {name: here[name] for name in GIVEN_VARIABLES if name in here}
    return given | {MARK: token, **SAFE}
