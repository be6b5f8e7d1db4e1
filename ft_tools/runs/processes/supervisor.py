"""Look after one run: wait for its device, start its worker, enforce a cancel, record how it ended.

`python -m ft_tools.runs.processes.supervisor RUN_DIR`. Holds the run's lock by inheritance and
hands it on to the worker, so either of them keeps the run alive and neither can be doubled. Imports
nothing heavy. With the argument `adopt` it looks after a run whose own supervisor is gone.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from ft_tools.errors import DiskFull, FineTuningError
from ft_tools.redaction import redact
from ft_tools.runs.hardware import device_slots
from ft_tools.runs.kinds import KINDS
from ft_tools.runs.launchers.attend import attend
from ft_tools.runs.launchers.launcher import LOCAL, MARK, SAFE, on_one_machine
from ft_tools.runs.launchers.table import parse
from ft_tools.runs.processes import endings, process_tree
from ft_tools.runs.processes.start import LOCKS_VARIABLE, allowed_worker, seconds_of
from ft_tools.runs.state import directory, locks
from ft_tools.runs.state.records import ENDED, RunInfo, run_error

POLL_SECONDS = 0.1
LEAVE_SECONDS = 60.0
GRACE_VARIABLE = "FINE_TUNING_LLM_CANCEL_GRACE"
TERM_VARIABLE = "FINE_TUNING_LLM_CANCEL_TERM"
MOST_GRACE_SECONDS = 600.0
GRACE_SECONDS, TERM_SECONDS = 60.0, 10.0
QUIET = {"HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}
"""TRL's trainers tell the Hub which class is used, unless they are told not to."""


class Since:
    """How long something has been so, in seconds; 0 while it is not."""

    def __init__(self) -> None:
        self._began: float | None = None

    def seconds(self, *, holds: bool) -> float:
        """Return how long it has held without a break, and that it does now or not."""
        now = time.monotonic()
        self._began = (self._began or now) if holds else None
        return now - self._began if self._began else 0.0


class Cancel:
    """A cancel on its way: asked for by a file, then by TERM, then done by KILL."""

    def __init__(self, run_dir: Path) -> None:
        self._run_dir = run_dir
        self._asked = Since()
        self._termed = False

    def enforce(self) -> None:
        """Do what is due now; call it again and again."""
        if not (late := self._asked.seconds(holds=directory.has(self._run_dir, "cancel"))):
            return
        late -= self._grace()
        if late > 0 and not self._termed:
            directory.note(self._run_dir, "cancel: no answer within the grace, sending TERM")
            for process in process_tree.members(self._run_dir):
                with contextlib.suppress(psutil.Error):
                    process.terminate()
            self._termed = True
        if late > seconds_of(TERM_VARIABLE, TERM_SECONDS):
            directory.note(self._run_dir, "cancel: killing the worker", "warning")
            process_tree.end(self._run_dir)

    def _grace(self) -> float:
        """Return what the worker may take to stop: the silence that it announced, if longer."""
        if GRACE_VARIABLE in os.environ:
            return seconds_of(GRACE_VARIABLE, GRACE_SECONDS)
        announced = directory.read_status(self._run_dir).stalled_after_seconds or 0.0
        return max(GRACE_SECONDS, min(announced, MOST_GRACE_SECONDS))


def main() -> int:
    """Supervise the run named on the command line."""
    run_dir = Path(sys.argv[1])
    # A closing terminal ends neither this process nor what it starts.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    # A system shuts down, or a scheduler takes the machine back.
    terms: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: terms.append(number))
    process_tree.become_subreaper()
    lock = os.environ.pop(LOCKS_VARIABLE, "")
    if not lock:
        sys.stderr.write("not started by a launch, so it holds no run; use resume_run\n")
        return 1
    try:
        info, is_adopted = directory.read_info(run_dir), sys.argv[2:] == ["adopt"]
        if is_adopted:
            directory.note(run_dir, "adopted: its supervisor was gone", "warning")
        if info.backend != LOCAL and (directory.has_job(run_dir) or not is_adopted):
            attend(run_dir, info, lambda: len(terms), seconds_of(GRACE_VARIABLE, GRACE_SECONDS))
        elif is_adopted:
            _wait_for_end(run_dir)
        else:
            _supervise(run_dir, info, int(lock), terms)
    except DiskFull as error:
        endings.record_full_disk(run_dir, str(error))
    except (FineTuningError, OSError) as error:
        failure = run_error("not_started", found=redact(str(error)))
        endings.write(run_dir, "failed", "crash", failure)
    directory.free_reserve(run_dir)
    return 0


def _supervise(run_dir: Path, info: RunInfo, owner: int, terms: list[int]) -> None:
    # What an earlier attempt left: its processes first, they could still be writing.
    _end_family(run_dir)
    directory.sweep_leftovers(run_dir)
    taken = _wait_for_device(run_dir, info, terms)
    if directory.has(run_dir, "cancel"):
        endings.write(run_dir, "cancelled", "user")
        return
    if taken is None:
        endings.write(run_dir, "interrupted", "preempted")
        return
    directory.update_status(run_dir, state="validating", phase="")

    def work() -> int:
        worker = _start_worker(run_dir, info, [owner, *taken.values()], list(taken))
        return_code = _watch(run_dir, worker, terms)
        _end_family(run_dir)
        return return_code

    endings.attempt(run_dir, work, lambda: bool(terms))


def _wait_for_end(run_dir: Path) -> None:
    """Look after a run that another supervisor started until nobody holds it; record its end."""
    cancel = Cancel(run_dir)
    while locks.take(run_dir / locks.OWNER) is None:
        cancel.enforce()
        time.sleep(POLL_SECONDS)
    # Both locks are held from here to the end of this process.
    _end_family(run_dir)
    endings.record(run_dir, None)


def _end_family(run_dir: Path) -> None:
    if left := process_tree.end(run_dir):
        directory.note(run_dir, f"{left} processes of the run cannot be ended", "error")


def _wait_for_device(run_dir: Path, info: RunInfo, terms: list[int]) -> dict[str, int] | None:
    """Take the slots of the run's devices, if it needs any.

    Returns:
        The slots and their locks; None when a cancel or a TERM came first.

    Raises:
        Missing: GPUs of the plan are not visible now.
    """
    names = device_slots.candidates(info)
    if not names:
        return {}
    launched_at = directory.read_status(run_dir).updated_at
    place = f"{launched_at:.6f}-{run_dir.name}"
    line = device_slots.Line(device_slots.folder(), names, info.num_slots, place)
    waited = ""
    try:
        while not directory.has(run_dir, "cancel"):
            taken = line.take_slots()
            if taken is not None or terms:
                return taken
            if not waited:
                waited = f"waiting: other runs use {info.device}"
                directory.note(run_dir, waited)
                directory.update_status(run_dir, phase=waited)
            time.sleep(POLL_SECONDS)
        return None
    finally:
        line.leave()


def _start_worker(
    run_dir: Path, info: RunInfo, run_locks: list[int], taken: list[str]
) -> subprocess.Popen[bytes]:
    module = allowed_worker(info.worker or KINDS[info.kind].worker)
    own = {LOCKS_VARIABLE: ",".join(map(str, run_locks)), process_tree.MARK: str(run_dir)}
    processes = parse(LOCAL, info.backend_options).processes
    if processes > 1:
        # Ranks inherit no descriptors: their launcher keeps the locks, rank 0 has one of its own.
        own |= {LOCKS_VARIABLE: "", MARK: LOCAL, **SAFE}
    worker = subprocess.Popen(
        on_one_machine(sys.executable, module, str(run_dir), processes),
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        pass_fds=run_locks,
        env=os.environ | QUIET | device_slots.environment(info, taken) | own,
    )
    process_tree.keep_awake(worker.pid)
    directory.note(run_dir, "worker started")
    return worker


def _watch(run_dir: Path, worker: subprocess.Popen[bytes], terms: list[int]) -> int:
    """Wait for the worker, passing on a TERM and enforcing a cancel; returns its exit status."""
    cancel, leaving = Cancel(run_dir), Since()
    while worker.poll() is None:
        if terms:
            # A sign, not the signal: the launcher of several ranks would end them too early.
            with contextlib.suppress(DiskFull):
                directory.mark(run_dir, "preempt")
        cancel.enforce()
        if leaving.seconds(holds=_has_ended(run_dir)) > LEAVE_SECONDS:
            directory.note(run_dir, "the worker finished but does not exit; killing it", "warning")
            process_tree.end(run_dir)
        time.sleep(POLL_SECONDS)
    return worker.returncode


def _has_ended(run_dir: Path) -> bool:
    """Return whether the worker wrote an end; a status that cannot be read is none."""
    status = directory.read_status(run_dir)
    is_read = status.error is None or status.error.code != directory.UNREADABLE
    return is_read and status.state in ENDED


if __name__ == "__main__":
    sys.exit(main())
