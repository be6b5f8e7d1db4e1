"""Start a run: write its directory, then a supervisor in its own OS session."""

import hashlib
import json
import os
import secrets
import subprocess
import sys
import threading
import time
from pathlib import Path

from pydantic import BaseModel

from ft_tools import workspace
from ft_tools.errors import BadInput, OutputExists, RunBusy
from ft_tools.publish import new_folder, private_folder
from ft_tools.runs import directory, locks
from ft_tools.runs.records import Kind, RunInfo

LOCKS_VARIABLE = "FINE_TUNING_LLM_RUN_LOCKS"


def start(
    kind: Kind,
    request: BaseModel,
    plan: BaseModel,
    *,
    request_id: str = "",
    name: str = "",
    device: str | None = None,
    lineage: dict[str, str] | None = None,
) -> str:
    """Start a run, or find the one that this request id started already.

    The directory's name comes from the request id and is taken by a rename, so of many equal calls
    exactly one starts anything.

    Returns:
        The run id.

    Raises:
        BadInput: The request id was used for a different request.
    """
    digest = hashlib.sha256(f"{kind}:{request_id}".encode()).hexdigest()[:16]
    run_id = f"{kind}-{digest if request_id else secrets.token_hex(8)}"
    run_dir = workspace.runs_dir() / run_id
    info = RunInfo(
        run_id=run_id,
        kind=kind,
        name=name,
        created_at=time.time(),
        request_id=request_id,
        device=device,
        lineage=lineage or {},
    )
    private_folder(run_dir.parent)
    try:
        with new_folder(run_dir) as staging:
            for file, record in {"run": info, "request": request, "plan": plan}.items():
                text = record.model_dump_json(indent=1)
                (staging / f"{file}.json").write_text(text, encoding="utf-8")
    except OutputExists:
        _require_same_request(run_dir, request)
        return run_id
    directory.add_event(run_dir, "created")
    supervise(run_dir)
    return run_id


def supervise(run_dir: Path) -> None:
    """Start a supervisor for a run that nobody holds.

    The lock is taken here and inherited, so there is no moment at which the run looks abandoned.
    The supervisor gets neither stdin nor stdout: in the server those carry JSON-RPC.

    Raises:
        RunBusy: Somebody holds the run.
    """
    lock = locks.take(run_dir / "owner.lock")
    if lock is None:
        raise RunBusy(f"run {run_dir.name} is held by a living process; get_run shows its state")
    environment = os.environ | {LOCKS_VARIABLE: str(lock), workspace.VARIABLE: _workspace()}
    log = os.open(run_dir / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        child = subprocess.Popen(
            [sys.executable, "-m", "ft_tools.runs.supervisor", str(run_dir)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=(lock,),
            cwd=run_dir,
            env=environment,
            umask=0o077,
        )
    finally:
        os.close(log)
        os.close(lock)
    # Reaped when it ends: a zombie would keep the process id that a person may look at.
    threading.Thread(target=child.wait, name=f"reap {run_dir.name}", daemon=True).start()


def _require_same_request(run_dir: Path, request: BaseModel) -> None:
    saved = json.loads((run_dir / "request.json").read_bytes())
    if saved != json.loads(request.model_dump_json()):
        raise BadInput(
            f"request_id was used before, for a different request (run {run_dir.name}); use a new "
            "request_id, or get_run to follow that run"
        )


def _workspace() -> str:
    return os.pathsep.join(map(str, workspace.roots()))
