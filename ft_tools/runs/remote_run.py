"""A run that executes elsewhere, as the supervisor sees it: submit its job, and look after that.

What the run does, and how it ended, stands in the run directory: the job writes it there, or its
copy is fetched.
"""

import contextlib
import secrets
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ft_tools import workspace
from ft_tools.errors import Missing
from ft_tools.publish import write_file
from ft_tools.runs import bundle, directory, end_of_lost_worker, scheduler_programs
from ft_tools.runs.job_progress import Watch
from ft_tools.runs.launchers.job import Job, Launcher
from ft_tools.runs.launchers.options import Options, parse
from ft_tools.runs.launchers.table import LAUNCHERS, require_programs
from ft_tools.runs.launchers.torchrun import MARK, SAFE
from ft_tools.runs.ranks import JOB_FILE
from ft_tools.runs.records import JobRecord, RunInfo
from ft_tools.runs.start import WORKERS_VARIABLE, environment

POLL_SECONDS = 0.5
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


def submissions(launcher: Launcher, job: Job) -> tuple[dict[str, str], list[list[str]]]:
    """Return the files and the commands of a submission."""
    commands = []
    if launcher.send is not None:
        storage = bundle.storage(job.options, job.run_id)
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

    def is_called() -> bool:
        return terms() > 0 or (run_dir / "cancel").exists()

    record = _read(run_dir)
    if record is None or not record.job_id:
        record = _submit(run_dir, info, launcher, options, is_called)
    if record is None:
        if terms():
            end_of_lost_worker.write(run_dir, "interrupted", "preempted")
        else:
            end_of_lost_worker.write(run_dir, "cancelled", "user")
        return
    watch = Watch(run_dir, launcher, options, record, is_called)
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
        files, (*sending, submitting) = submissions(launcher, job)
        for name, text in files.items():
            write_file(run_dir / name, text)
        if not launcher.sees_the_run:
            # Of an earlier submission; the storage may not have one of this for a while.
            (run_dir / bundle.FETCHED / bundle.STATUS).unlink(missing_ok=True)
            bundle.pack(run_dir)
        for argv in sending:
            code, printed = scheduler_programs.call(
                argv, scheduler_programs.TRANSFER_SECONDS, is_called
            )
            if code and not is_called():
                raise Missing(scheduler_programs.failure(argv, code, printed))
        if not is_called():
            return _hand_over(run_dir, launcher, job, record, submitting)
    except BaseException:
        (run_dir / JOB_FILE).unlink(missing_ok=True)
        raise
    finally:
        # It may hold a model, and is made anew by the next submission.
        shutil.rmtree(run_dir / "bundle", ignore_errors=True)
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
    code, printed = scheduler_programs.call(argv, scheduler_programs.TRANSFER_SECONDS)
    if code == 0:
        ours = launcher.job_id(job, printed)
    elif code != scheduler_programs.NO_ANSWER and not (
        ours and _is_there(launcher, job.options, ours)
    ):
        raise Missing(scheduler_programs.failure(argv, code, printed))
    if not ours:
        raise Missing(f"{' '.join(argv[:3])} returned no job id; find {job.name} there and stop it")
    if code:
        said = scheduler_programs.failure(argv, code, printed)
        directory.note(run_dir, f"checking for job {ours} anyway: {said}", "warning")
    record = record.model_copy(update={"job_id": ours})
    write_file(run_dir / JOB_FILE, record.model_dump_json())
    directory.add_event(run_dir, f"submitted as {record.backend} job {record.job_id}")
    return record


def _is_there(launcher: Launcher, options: Options, job_id: str) -> bool:
    argv = launcher.look(options, job_id)
    code, printed = scheduler_programs.call(argv, scheduler_programs.ANSWER_SECONDS)
    return launcher.hint(code, printed, job_id).state in {"waiting", "running"}


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
