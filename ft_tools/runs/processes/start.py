"""Start a run: write its directory, then a supervisor in its own OS session."""

import contextlib
import hashlib
import json
import os
import re
import secrets
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel

import ft_tools
from ft_tools import workspace
from ft_tools.errors import (
    BadInput,
    FineTuningError,
    NoWorkspace,
    OutputExists,
    Refused,
    RunBusy,
)
from ft_tools.publish import new_folder, private_folder, require_own, require_space, sweep
from ft_tools.runs.kinds import KINDS
from ft_tools.runs.processes import process_tree
from ft_tools.runs.state import directory, locks
from ft_tools.runs.state.records import Kind, RunInfo, Status

LOCKS_VARIABLE = "FINE_TUNING_LLM_RUN_LOCKS"
WORKERS_VARIABLE = "FINE_TUNING_LLM_WORKERS"
"""Further packages, separated by commas, whose modules may be workers."""

# The run's own files: status, events, metrics, log. What a job writes it checks itself.
MIN_FREE_BYTES = 50 * 2**20
MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", re.ASCII)


def start(
    kind: Kind,
    request: BaseModel,
    plan: BaseModel,
    *,
    request_id: str = "",
    worker: str | None = None,
    **about: Any,
) -> str:
    """Start a run, or find the one that this request id started already.

    The directory's name comes from the request id and is taken by a rename, so of many equal calls
    exactly one starts anything. A call that died between the rename and the start is made good by
    the next equal one. The directory appears locked: it never looks abandoned.

    Args:
        kind: What the run does.
        request: The tool's request, kept as request.json.
        plan: What was confirmed, kept as plan.json.
        request_id: The caller's own name for this start; empty: each call starts a run.
        worker: Module to run; None: the kind's own.
        about: More fields of RunInfo: name, device, slots, num_slots, lineage, backend ...

    Returns:
        The run id.

    Raises:
        BadInput: The request id was used for a different request, or the worker is not allowed.
        DiskFull: The run directory cannot be written.
    """
    digest = hashlib.sha256(request_id.encode()).hexdigest()[:16]
    run_id = f"{kind}-{digest if request_id else secrets.token_hex(8)}"
    about |= {"run_id": run_id, "kind": kind, "created_at": time.time(), "request_id": request_id}
    about["worker"] = allowed_worker(worker or KINDS[kind].worker)
    info = RunInfo.model_validate(about, extra="forbid")
    runs = workspace.runs_dir()
    with contextlib.ExitStack() as held:
        _prepare(runs)
        try:
            with new_folder(runs / run_id) as staging:
                for file, record in {"run": info, "request": request, "plan": plan}.items():
                    (staging / f"{file}.json").write_text(record.model_dump_json(indent=1), "utf-8")
                held_locks = _hold(staging, held)
        except OutputExists:
            _require_same_request(runs / run_id, request)
            held_locks = _hold(runs / run_id, held)
            status = directory.read_status(runs / run_id)
            if status.state != "queued" or status.attempt > 1:
                return run_id
        if held_locks:
            _launch(runs / run_id, held_locks, Status(state="queued"))
    return run_id


def resume(run_dir: Path) -> None:
    """Start a supervisor, and by it another attempt, for a run that nobody holds.

    Raises:
        RunBusy: Somebody holds the run.
        Refused: It has succeeded.
        DiskFull: There is no space for its own files.
    """
    with contextlib.ExitStack() as held:
        _prepare(run_dir.parent)
        held_locks = _hold(run_dir, held)
        if not held_locks:
            raise RunBusy(
                f"run {run_dir.name} is held by a living process, so it is not started again; "
                "see its state with get_run, stop it with cancel_run"
            )
        before = directory.read_status(run_dir)
        if before.state == "succeeded":
            raise Refused(f"run {run_dir.name} has succeeded; there is nothing to resume")
        # Under the lock: a cancel of the last attempt is over, one of the next is not lost.
        (run_dir / "cancel").unlink(missing_ok=True)
        directory.clear_signs(run_dir)
        _launch(
            run_dir, held_locks, before.again(state="queued", budgeted_from_seconds=before.seconds)
        )


def adopt(run_dir: Path) -> None:
    """Start a supervisor for a run whose own one is gone; if it has one, do nothing.

    Its lock is taken here and inherited, so from now on the run does not look settled before the
    new supervisor has seen to its processes.
    """
    with contextlib.ExitStack() as held:
        if guard := _hold(run_dir, held, locks.SUPERVISOR):
            _spawn(run_dir, "adopt", held_locks=guard)


def allowed_worker(module: str) -> str:
    """Return the module if it may be a worker: run.json may have come with a stranger's folder.

    Raises:
        BadInput: It is neither a worker of ours nor in a further package.
    """
    others = [other for other in os.environ.get(WORKERS_VARIABLE, "").split(",") if other]
    is_further = MODULE.fullmatch(module) and module.rpartition(".")[0] in others
    ours = [row.worker for row in KINDS.values()]
    if module in ours or is_further:
        return module
    known = ", ".join([*ours, *(f"{other}.*" for other in others)])
    raise BadInput(
        f"worker {module!r} is not allowed; known: {known}; {WORKERS_VARIABLE} adds packages"
    )


def command(module: str, *arguments: str) -> list[str]:
    """Return the argv that runs a module; the working folder is not searched for modules."""
    return [sys.executable, "-P", "-m", module, *arguments]


def _prepare(runs: Path) -> None:
    private_folder(runs)
    require_own(runs)
    require_space(runs, MIN_FREE_BYTES, "a run")
    sweep(runs)


def _hold(run_dir: Path, held: contextlib.ExitStack, *names: str) -> tuple[int, ...]:
    """Take locks of a run until `held` ends, without names both of them.

    Returns:
        The descriptors, of both supervisor.lock and owner.lock; empty when somebody has one.
    """
    files = []
    for name in names or (locks.SUPERVISOR, locks.OWNER):
        file = locks.take(run_dir / name)
        if file is None:
            return ()
        held.callback(os.close, file)
        files.append(file)
    return tuple(files)


def _launch(run_dir: Path, held_locks: tuple[int, ...], status: Status) -> None:
    directory.write_status(run_dir, status)
    directory.reserve_space(run_dir)
    directory.add_event(run_dir, "created" if status.attempt == 1 else "resumed")
    _spawn(run_dir, held_locks=held_locks)


def _spawn(run_dir: Path, *arguments: str, held_locks: tuple[int, ...]) -> None:
    """Start a supervisor; it inherits the locks, so there is no moment without a holder.

    It gets neither stdin nor stdout: in the server those carry JSON-RPC.
    """
    # The supervisor's own lock is held by being open; the last one is handed on to the worker.
    variables = environment() | {LOCKS_VARIABLE: str(held_locks[-1])}
    # A run that another run's worker starts is not a part of that run.
    variables.pop(process_tree.MARK, None)
    with open(run_dir / "log.txt", "ab", opener=partial(os.open, mode=0o600)) as log:
        try:
            child = subprocess.Popen(
                command("ft_tools.runs.processes.supervisor", str(run_dir), *arguments),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=held_locks,
                cwd=run_dir,
                env=variables,
                umask=0o077,
            )
        except OSError as error:
            raise FineTuningError(
                f"no process could be started for run {run_dir.name} ({error.strerror}); end some "
                "others or raise the limit, then resume_run"
            ) from error
    # Reaped when it ends: a zombie would keep the process id that a person may look at.
    threading.Thread(target=child.wait, name=f"reap {run_dir.name}", daemon=True).start()


def environment() -> dict[str, str]:
    """Return the environment of our processes: the same places, whatever its working folder is."""
    ours = dict(os.environ)
    # What needs a workspace says that there is none; connect and doctor work without one.
    with contextlib.suppress(NoWorkspace):
        ours[workspace.VARIABLE] = os.pathsep.join(map(str, workspace.roots()))
    if os.environ.get(workspace.CACHE_VARIABLE):
        ours[workspace.CACHE_VARIABLE] = str(workspace.cache_dir())
    package = str(Path(ft_tools.__file__).parent.parent)
    ours["PYTHONPATH"] = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    return ours


def seconds_of(variable: str, default: float) -> float:
    """Return what a variable of the environment sets, in seconds, or the default."""
    try:
        return max(0.0, float(os.environ[variable]))
    except (KeyError, ValueError):
        return default


def _require_same_request(run_dir: Path, request: BaseModel) -> None:
    # The plan may know more by now than when it was confirmed, such as what was measured since.
    saved = {**(directory.read_json(run_dir / "request.json") or {}), "confirm": None}
    if saved != {**json.loads(request.model_dump_json()), "confirm": None}:
        raise BadInput(
            f"request_id was used before, for a different request (run {run_dir.name}); use a new "
            "request_id, or get_run to follow that run"
        )
