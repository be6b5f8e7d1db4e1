"""A run directory as a start and a worker leave it, that nobody holds."""

import json

from ft_tools.runs.state import directory
from ft_tools.runs.state.records import RunInfo


def made_run(folder, run_id, status=None, *, request=None, plan=None, report=None, **info):
    """Write a run below a folder, `runs` of a workspace; its directory."""
    run_dir = folder / run_id
    run_dir.mkdir(parents=True)
    kind = run_id.rpartition("-")[0]
    about = {"run_id": run_id, "kind": kind, "created_at": 1.0} | info
    (run_dir / "run.json").write_text(RunInfo.model_construct(**about).model_dump_json())
    for name, value in (("request", request), ("plan", plan), ("report", report)):
        if value is not None:
            (run_dir / f"{name}.json").write_text(json.dumps(value))
    if status is not None:
        directory.write_status(run_dir, status)
    return run_dir
