"""Inside a job: start the worker's processes, pass on a TERM, write the end they could not write.

`python -m ft_tools.runs.launchers.inside_job RUN_DIR TOKEN [--workdir DIR --kept DIR] --
COMMAND...`. What a supervisor is on one machine, this is in a scheduler's job: it runs on the first
machine of the job and may be started again by the scheduler after a preemption. A job whose token
is not the run's ends at once: the run was given to another one.

The exit code says whether the run has succeeded. A job that depends on this one (Slurm's `afterok`)
waits for that; SkyPilot starts a job that failed once more. Slurm queues a preempted job again,
whatever its code is.
"""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from ft_tools.runs.hardware import device_slots
from ft_tools.runs.launchers import workdir
from ft_tools.runs.processes import endings
from ft_tools.runs.processes.worker_session import RUN_FAILED
from ft_tools.runs.state import directory
from ft_tools.runs.state.records import ENDED

POLL_SECONDS = 0.2
KEEP_SECONDS = 5.0
"""Between two copies of a run's files to the storage that outlives the machine."""
LAST_COPIES = 12
"""Tries to make the last copy, before the job counts as failed."""


def main() -> int:
    """Look after the job named on the command line; returns 0 once its run has succeeded."""
    os.umask(0o077)
    ours, command = _split(sys.argv[1:])
    run_dir, token = Path(ours[0]), ours[1]
    places = [Path(place).absolute() for place in ours[3::2]]
    stopped: list[float] = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(time.monotonic()))
    if places:
        workdir.unpack(places[0], places[1], run_dir)
    if directory.read_token(run_dir) != token:
        sys.stderr.write(f"run {run_dir.name} was given to another job; this one ends\n")
        return 0
    kept = places[1] if places else None
    return_code = RUN_FAILED
    if _begin(run_dir):
        work = partial(_run, run_dir, command, stopped, kept)
        return_code = endings.attempt(run_dir, work, lambda: bool(stopped))
    # Also of a run that had ended before: an earlier start may have failed to copy it.
    is_copied = kept is None or _copied_at_last(run_dir, kept)
    if is_copied and directory.read_status(run_dir).state == "succeeded":
        return 0
    return return_code if return_code > 0 else RUN_FAILED


def _split(given: list[str]) -> tuple[list[str], list[str]]:
    ours_end = given.index("--")
    return given[:ours_end], given[ours_end + 1 :]


def _begin(run_dir: Path) -> bool:
    """Count this start as an attempt, unless it is the first of its submission.

    Returns:
        False when there is nothing left to do.
    """
    status = directory.read_status(run_dir)
    if status.is_final:
        directory.note(
            run_dir,
            "restarted by the scheduler, but this plan cannot succeed: change it and launch again",
        )
        return False
    is_over = status.state == "succeeded" or status.reason == "budget"
    if is_over or directory.has(run_dir, "cancel"):
        if status.state not in ENDED:
            endings.write(run_dir, "cancelled", "user")
        return False
    directory.clear_signs(run_dir)
    directory.sweep_leftovers(run_dir)
    if status.state != "queued":
        status = status.again()
        directory.add_event(run_dir, f"started again by the scheduler, attempt {status.attempt}")
    directory.write_status(run_dir, status.model_copy(update={"state": "validating"}))
    return True


def _run(run_dir: Path, command: list[str], stopped: list[float], kept: Path | None) -> int:
    """Run the processes to their end; a TERM becomes a sign that every rank sees."""
    seen = device_slots.environment(directory.read_info(run_dir), [])
    with (run_dir / "log.txt").open("ab") as log:
        worker = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=os.environ | seen
        )
    kept_at = time.monotonic()
    while worker.poll() is None:
        if stopped:
            # Not passed on: a launcher of several processes would end them too early.
            directory.mark(run_dir, "preempt")
        if kept is not None and time.monotonic() - kept_at > KEEP_SECONDS:
            workdir.keep(run_dir, kept)
            kept_at = time.monotonic()
        time.sleep(POLL_SECONDS)
    (run_dir / "preempt").unlink(missing_ok=True)
    return worker.returncode


def _copied_at_last(run_dir: Path, kept: Path) -> bool:
    """Copy what is new, again and again if need be: nothing else outlives the machine."""
    for tries_left in reversed(range(LAST_COPIES)):
        if workdir.keep(run_dir, kept):
            return True
        if tries_left:
            time.sleep(KEEP_SECONDS)
    return False


if __name__ == "__main__":
    sys.exit(main())
