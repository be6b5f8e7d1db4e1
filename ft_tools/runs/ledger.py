"""What a workspace has spent: hours, money, and trained models that nobody measured."""

import json
from collections.abc import Iterable
from pathlib import Path

from pydantic import Field

from ft_tools.contract import Report
from ft_tools.endpoints.budget import spent_in
from ft_tools.errors import BadData
from ft_tools.runs.state import directory
from ft_tools.runs.state.records import TRAINED, RunInfo

CALLS = "calls.jsonl"
"""Of an evaluation: a line for each call of an endpoint that costs."""
LISTED = 10


class WorkspaceSpending(Report):
    """What all runs of this workspace have taken, those that still run included."""

    gpu_hours: float = Field(description="Hours times GPUs.")
    cpu_hours: float = Field(description="Hours of runs without a GPU.")
    endpoint_usd: float = Field(description="Of endpoints with a price; at most.")
    never_evaluated: list[str] = Field(
        default_factory=list, description="Trained models without an evaluation; at most ten."
    )


def spent(runs: Iterable[Path]) -> WorkspaceSpending:
    """Return what runs have taken; they are listed newest first."""
    hours = {True: 0.0, False: 0.0}
    usd = 0.0
    models: list[str] = []
    sources: dict[str, str] = {}
    measured: list[str] = []
    for run_dir in runs:
        try:
            info = directory.read_info(run_dir)
        except BadData:
            continue
        status = directory.read_status(run_dir)
        hours[info.device not in {None, "cpu"}] += status.seconds / 3600 * _num_devices(info)
        if info.kind in TRAINED:
            models += [run_dir.name] if status.state == "succeeded" else []
        elif info.kind == "evaluate":
            usd += sum(spent_in(run_dir / CALLS).values())
            measured += [_request(run_dir)] if status.state == "succeeded" else []
        elif info.kind == "ship":
            sources[run_dir.name] = _request(run_dir)
    # What was merged and measured since was measured, too.
    names = "\n".join(measured)
    names += "\n".join(made for run_id, made in sources.items() if run_id in names)
    return WorkspaceSpending(
        gpu_hours=round(hours[True], 3),
        cpu_hours=round(hours[False], 3),
        endpoint_usd=round(usd, 4),
        never_evaluated=[run_id for run_id in models if run_id not in names][:LISTED],
    )


def _num_devices(info: RunInfo) -> int:
    return info.num_slots * int(info.backend_options.get("nodes", 1))


def _request(run_dir: Path) -> str:
    return json.dumps(directory.whole_json(run_dir / "request.json"))
