"""Plans: what a launch would do, hashed, so that what was agreed to is what is done."""

import hashlib
import json

from pydantic import BaseModel, Field

from ft_tools.contract import NextStep, Report
from ft_tools.errors import PlanChanged

NOT_AGREED = {"estimate": {"duration"}}
"""Fields that are learnt on between a plan and its confirmation: no part of the hash."""


class Launch(Report):
    """A plan, and the run that was started from it if it was confirmed."""

    plan_hash: str = Field(description="Pass it as `confirm` to start exactly this plan.")
    plan: dict[str, object] = Field(description="What would be done: arguments, counts, costs.")
    warnings: list[str] = Field(default_factory=list)
    started: bool = False
    run_id: str | None = None
    next_steps: list[NextStep] = Field(default_factory=list)


def plan_hash(plan: BaseModel) -> str:
    """Return a short hash over everything the plan says, but for how long it may take."""
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
            f"confirm={confirm!r} does not fit: the data, the model or the arguments differ from "
            f"the plan that had this hash. The plan is now {now!r}; call again without confirm to "
            "see it, then confirm that one"
        )
