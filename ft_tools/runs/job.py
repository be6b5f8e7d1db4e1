"""Inside a job: start the worker's processes, pass on a TERM, write the end they could not write.

`python -m ft_tools.runs.job RUN_DIR TOKEN [--bundle DIR --kept DIR] -- COMMAND...`. What a
supervisor is on one machine, this is in a scheduler's job: it runs on the first machine of the
job and may be started again by the scheduler after a preemption. A job whose token is not the run's
ends at once: the run was given to another one.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from ft_tools.launchers.table import LAUNCHERS
from ft_tools.runs import bundle, directory, ranks
from ft_tools.runs.records import ENDED, RunError, Status

POLL_SECONDS = 0.2
KEEP_SECONDS = 5.0
"""Between two copies of a run's files to the storage that outlives the machine."""


def main() -> int:
    """Look after the job named on the command line; returns the worker's exit code."""
    os.umask(0o077)
    ours, command = _split(sys.argv[1:])
    run_dir, token = Path(ours[0]), ours[1]
    places = [Path(place).absolute() for place in ours[3::2]]
    stopped: list[float] = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(time.monotonic()))
    if places:
        bundle.unpack(places[0], places[1], run_dir)
    if ranks.read_token(run_dir) != token:
        sys.stderr.write(f"run {run_dir.name} was given to another job; this one ends\n")
        return 0
    if not _begin(run_dir):
        return 0
    kept = bundle.Kept(run_dir, places[1]) if places else None
    return_code = _run(run_dir, command, stopped, kept)
    _record_end(run_dir, return_code)
    if kept is not None:
        kept.copy()
    if stopped:
        _queue_again(run_dir)
    return 0 if directory.read_status(run_dir).state in ENDED else return_code


def _split(given: list[str]) -> tuple[list[str], list[str]]:
    ours_end = given.index("--")
    return given[:ours_end], given[ours_end + 1 :]


def _begin(run_dir: Path) -> bool:
    """Count this start as an attempt, unless it is the first of its submission.

    Returns:
        False when there is nothing left to do.
    """
    status = directory.read_status(run_dir)
    if status.state == "succeeded" or (run_dir / "cancel").exists():
        if status.state not in ENDED:
            _write(run_dir, status, state="cancelled", reason="user", ended_at=time.time())
        return False
    ranks.clear_signs(run_dir)
    directory.sweep_leftovers(run_dir)
    if status.state != "queued":
        again: dict[str, object] = dict.fromkeys(("reason", "error", "ended_at", "started_at"))
        again |= {"attempt": status.attempt + 1, "ended_before": status.reason, "phase": ""}
        directory.add_event(run_dir, f"started again by the scheduler, attempt {again['attempt']}")
        status = status.model_copy(update=again | {"health": []})
    _write(run_dir, status, state="validating")
    return True


def _run(run_dir: Path, command: list[str], stopped: list[float], kept: bundle.Kept | None) -> int:
    """Run the processes to their end; a TERM becomes a sign that every rank sees."""
    worker = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    kept_at = time.monotonic()
    while worker.poll() is None:
        if stopped and not (run_dir / ranks.PREEMPT).exists():
            # Not passed on: a launcher of several processes would end them too early.
            (run_dir / ranks.PREEMPT).touch(mode=0o600)
        if kept is not None and time.monotonic() - kept_at > KEEP_SECONDS:
            kept.copy()
            kept_at = time.monotonic()
        time.sleep(POLL_SECONDS)
    (run_dir / ranks.PREEMPT).unlink(missing_ok=True)
    return worker.returncode


def _record_end(run_dir: Path, return_code: int) -> None:
    status = directory.read_status(run_dir)
    if status.state in ENDED:
        return
    error = RunError(
        code="worker_died",
        message=f"the worker's processes ended with {return_code} before they could say why",
        hint="get_run with log_lines shows the last lines; resume_run continues it",
        retryable=True,
    )
    end = {"state": "interrupted", "reason": "crash", "error": error, "ended_at": time.time()}
    if (run_dir / ranks.OUT_OF_MEMORY).exists():
        error = error.model_copy(update={"code": "out_of_memory", "hint": status.if_out_of_memory})
        end |= {"reason": "out_of_memory", "error": error}
    directory.add_event(run_dir, f"worker ended with {return_code}", "warning")
    _write(run_dir, status, **end)


def _queue_again(run_dir: Path) -> None:
    """Have the scheduler start this job once more, where it does not do so by itself."""
    if directory.read_status(run_dir).state != "interrupted":
        return
    again = LAUNCHERS[directory.read_info(run_dir).backend].again
    argv = again(os.environ, time.time()) if again is not None else []
    if argv:
        directory.add_event(run_dir, "the time limit is near: queueing the job again")
        subprocess.run(argv, stdin=subprocess.DEVNULL, check=False)


def _write(run_dir: Path, status: Status, **fields: object) -> None:
    directory.write_status(run_dir, status.model_copy(update=fields))


if __name__ == "__main__":
    sys.exit(main())
