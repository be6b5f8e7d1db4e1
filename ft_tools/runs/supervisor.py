"""Look after one run: wait for its device, start its worker, enforce a cancel, record how it ended.

`python -m ft_tools.runs.supervisor RUN_DIR`. Holds the run's lock by inheritance and hands it on to
the worker, so either of them keeps the run alive and neither can be doubled. Imports nothing heavy.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil

from ft_tools import workspace
from ft_tools.publish import private_folder, write_file
from ft_tools.runs import directory, locks
from ft_tools.runs.records import ENDED, RunError, RunInfo, State, Status, Why
from ft_tools.runs.start import LOCKS_VARIABLE

WORKERS: dict[str, str] = {
    "sft": "sft",
    "dpo": "dpo",
    "ship": "shipping",
    "evaluate": "evaluation",
    "audit": "audit",
    "demo_model": "demo_model",
}
POLL_SECONDS = 0.2
GRACE_SECONDS = float(os.environ.get("FINE_TUNING_LLM_CANCEL_GRACE", "60"))
TERM_SECONDS = 10.0


def main() -> int:
    """Supervise the run named on the command line."""
    run_dir = Path(sys.argv[1])
    run_locks = [int(part) for part in os.environ.get(LOCKS_VARIABLE, "").split(",") if part]
    info = directory.read_info(run_dir)
    before = directory.read_status(run_dir)
    resumed = (run_dir / "status.json").exists()
    status = Status(state="queued", attempt=before.attempt + 1 if resumed else 1)
    directory.write_status(run_dir, status)
    device_lock = _wait_for_device(run_dir, info)
    if device_lock is None and info.device is not None:
        _end(run_dir, "cancelled", "user")
        return 0
    if device_lock is not None:
        run_locks.append(device_lock)
    directory.write_status(run_dir, status.model_copy(update={"state": "validating"}))
    worker = _start_worker(run_dir, info, run_locks)
    return_code = _watch(run_dir, worker)
    _record_end(run_dir, return_code)
    return 0


def _wait_for_device(run_dir: Path, info: RunInfo) -> int | None:
    """Take the slot of the run's device; None when it needs none, or was cancelled meanwhile."""
    if info.device is None:
        return None
    folder = workspace.cache_dir() / "devices"
    private_folder(folder)
    waited = False
    while not (run_dir / "cancel").exists():
        lock = locks.take(folder / f"{info.device.replace(':', '-')}.lock")
        if lock is not None:
            return lock
        if not waited:
            directory.add_event(run_dir, f"waiting: another run trains on {info.device}")
            waited = True
        time.sleep(POLL_SECONDS)
    return None


def _start_worker(run_dir: Path, info: RunInfo, run_locks: list[int]) -> subprocess.Popen[bytes]:
    worker = subprocess.Popen(
        [sys.executable, "-m", f"ft_tools.workers.{WORKERS[info.kind]}", str(run_dir)],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        pass_fds=run_locks,
        env=os.environ | {LOCKS_VARIABLE: ",".join(map(str, run_locks))},
    )
    about = {"worker_pid": worker.pid, "started_at": psutil.Process(worker.pid).create_time()}
    write_file(run_dir / "owner.json", json.dumps(about))
    directory.add_event(run_dir, "worker started")
    return worker


def _watch(run_dir: Path, worker: subprocess.Popen[bytes]) -> int:
    """Wait for the worker; after a cancel give it grace, then TERM, then KILL, descendants too."""
    asked_at: float | None = None
    termed = False
    family: list[psutil.Process] = []
    while worker.poll() is None:
        time.sleep(POLL_SECONDS)
        if not (run_dir / "cancel").exists():
            continue
        family = _family(worker.pid) or family
        asked_at = asked_at or time.monotonic()
        waited = time.monotonic() - asked_at
        if waited > GRACE_SECONDS and not termed:
            directory.add_event(run_dir, "cancel: no answer within the grace, sending TERM")
            worker.terminate()
            termed = True
        if waited > GRACE_SECONDS + TERM_SECONDS:
            directory.add_event(run_dir, "cancel: killing the worker", "warning")
            break
    _kill(family)
    return worker.wait()


def _family(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _kill(family: list[psutil.Process]) -> None:
    for process in family:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue


def _record_end(run_dir: Path, return_code: int) -> None:
    """Write the end that the worker could not write itself."""
    directory.add_event(run_dir, f"worker ended with {return_code}")
    if directory.read_status(run_dir).state in ENDED:
        return
    if (run_dir / "cancel").exists():
        _end(run_dir, "cancelled", "user")
    else:
        message = (
            f"the worker was ended by signal {-return_code}"
            if return_code < 0
            else f"the worker ended with {return_code} before it could say why"
        )
        hint = "get_run with log_lines shows the last lines; resume_run continues it"
        error = RunError(code="worker_died", message=message, hint=hint, retryable=True)
        _end(run_dir, "interrupted", "crash", error)


def _end(run_dir: Path, state: State, reason: Why, error: RunError | None = None) -> None:
    status = directory.read_status(run_dir)
    update = {"state": state, "reason": reason, "error": error, "ended_at": time.time()}
    directory.write_status(run_dir, status.model_copy(update=update))


if __name__ == "__main__":
    sys.exit(main())
