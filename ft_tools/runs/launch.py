"""The one flow of every tool that starts a run: plan, hash, confirm, start."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, Field

from ft_tools.contract import NextStep, Report
from ft_tools.errors import PlanChanged
from ft_tools.runs import start
from ft_tools.runs.records import Kind
from ft_tools.runs.request import LaunchRequest

NOT_AGREED = {"estimate": {"duration", "vram", "ram", "used_by_others_gib"}}
"""Fields that may change between a plan and its confirmation: not part of the hash."""
SAID_BESIDE = {"warnings", "size_warning"}
"""Fields of a plan that are among the launch's own warnings."""


class Launch(Report):
    """A plan, and the run that was started from it if it was confirmed."""

    plan_hash: str = Field(description="Pass it as `confirm` to start exactly this plan.")
    plan: dict[str, object] = Field(description="What would be done: arguments, counts, costs.")
    warnings: list[str] = Field(default_factory=list)
    started: bool = False
    run_id: str | None = None
    next_steps: list[NextStep] = Field(default_factory=list)


def launch(
    tool: str,
    kind: Kind,
    request: LaunchRequest,
    plan: BaseModel,
    *,
    warnings: list[str],
    **where: Any,
) -> Launch:
    """Return the plan; once `confirm` names it, start its run.

    Args:
        tool: The tool's name, for the call that confirms.
        kind: Of the run.
        request: The tool's request.
        plan: What would be done, and what is hashed.
        warnings: Shown beside the plan.
        where: `device`, `slots`, `backend`, `lineage`, another `name`: of `start.start`.

    Raises:
        PlanChanged: The data, the model or the arguments changed since the plan was shown.
    """
    shown = plan.model_dump(mode="json", exclude=SAID_BESIDE)
    found = Launch(plan_hash=plan_hash(plan), plan=shown, warnings=warnings)
    if request.confirm is None:
        step = NextStep(
            tool=tool,
            arguments=_confirmed(request, found.plan_hash),
            why="starts exactly this plan, once the user has agreed to it",
        )
        return found.model_copy(update={"next_steps": [step]})
    require_same(request.confirm, plan)
    where = {"name": request.name, "request_id": request.request_id} | where
    run_id = start.start(kind, request, plan, **where)
    why = "shows the progress; poll at most once a minute"
    step = NextStep(tool="get_run", arguments={"run_id": run_id}, why=why)
    return found.model_copy(update={"started": True, "run_id": run_id, "next_steps": [step]})


def plan_hash(plan: BaseModel) -> str:
    """Return a short hash over everything the plan says, except how long it may take."""
    said = plan.model_dump(mode="json")
    for part, fields in NOT_AGREED.items():
        if isinstance(said.get(part), dict):
            said[part] = {k: v for k, v in said[part].items() if k not in fields}
    text = json.dumps(said, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


def require_same(confirm: str, plan: BaseModel) -> None:
    """Refuse a confirmation that was given for another plan.

    Raises:
        PlanChanged: The data, the model or the arguments changed since; it names the new hash.
    """
    now = plan_hash(plan)
    if confirm != now:
        raise PlanChanged(
            f"confirm={confirm!r} does not match: the data, the model or the arguments differ from "
            f"the plan with that hash. The plan is now {now!r}; call again without confirm to see "
            "it, then confirm that one"
        )


def _confirmed(request: LaunchRequest, digest: str) -> Mapping[str, Any]:
    """Return the arguments that the caller gave, without what is only for planning."""
    given = request.model_dump(mode="json", exclude_unset=True, exclude={"export_dir"})
    return given | {"confirm": digest}
