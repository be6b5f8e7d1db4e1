"""A run directory as a start and a worker leave it, that nobody holds."""

import json

from pydantic import BaseModel

from ft_tools import workspace
from ft_tools.runs.state import directory
from ft_tools.runs.state.records import RunInfo


def made_run(run_id, status=None, *, files=None, runs=None, **info):
    """Write a run of this workspace; its directory.

    `files` are JSON files by name, without their ending; `info` is of run.json.
    """
    run_dir = (runs or workspace.runs_dir()) / run_id
    run_dir.mkdir(parents=True, exist_ok=True)
    about = {"run_id": run_id, "kind": run_id.rpartition("-")[0], "created_at": 1.0} | info
    for name, value in {"run": RunInfo.model_construct(**about), **(files or {})}.items():
        is_model = isinstance(value, BaseModel)
        text = value.model_dump_json() if is_model else json.dumps(value)
        (run_dir / f"{name}.json").write_text(text)
    if status is not None:
        directory.write_status(run_dir, status)
    return run_dir
