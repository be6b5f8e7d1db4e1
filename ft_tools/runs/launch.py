"""The one flow of every tool that starts a run: plan, hash, confirm, start.

A plan's hash covers what the user decides and the content of files and models. What the machine
does by itself (free memory, other runs, speed) is looked at again when the run is to start: the
plan is made anew then, and refuses by name what no longer holds.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from pydantic import ConfigDict, Field, PrivateAttr

from ft_tools import workspace
from ft_tools.contract import NextStep, Report
from ft_tools.errors import FineTuningError, PlanChanged, brief
from ft_tools.next_steps import next_step
from ft_tools.publish import private_folder, write_file
from ft_tools.runs.processes import start
from ft_tools.runs.request import LaunchRequest
from ft_tools.runs.state.records import Kind

NOT_DECISIONS = {"confirm", "request_id", "name", "export_dir", "price_per_hour", "response_format"}
"""Of a request: they change nothing that a run does."""
SHOWN_BESIDE = {"warnings", "size_warning"}
"""Fields of a plan that are among the launch's own warnings."""
FOLDER = "plans"
KEPT_PLANS = 50
MOST_DIFFERENCES = 5


class Plan(Report):
    """What a launch would do; `MACHINE` names the fields that the machine decides by itself."""

    # Plans of earlier versions, which may have more fields, are read by workers and reports.
    model_config = ConfigDict(extra="ignore")

    MACHINE: ClassVar[Mapping[str, Any]] = {}
    """As pydantic takes fields to exclude; the hash does not cover them."""

    @property
    def summary(self) -> str:
        """Return what would be done, in a sentence or two."""
        return ""


class Launch(Report):
    """A plan, and the run that was started from it if it was confirmed."""

    QUOTED: ClassVar[Mapping[str, str]] = {"heading": "", "quoted": ""}

    summary: str = ""
    plan_hash: str = Field(description="Pass it as `confirm` to start exactly this plan.")
    plan: dict[str, object] = Field(description="What would be done: arguments, counts, costs.")
    warnings: list[str] = Field(default_factory=list)
    started: bool = False
    run_id: str | None = None
    next_steps: list[NextStep] = Field(default_factory=list)
    _plan: Plan | None = PrivateAttr(None)

    def concise_parts(self, asked: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        """Yield the parts; of a confirmed plan, which was shown before, only its run."""
        yield "summary", self.summary
        yield "run_id", self.run_id
        if not self.started:
            yield "plan_hash", self.plan_hash
            yield "warnings", self.warnings
            yield "plan", self._plan or self.plan
            yield "export", self.plan.get("export") if self._plan else None
            if quoted := getattr(self._plan, "quoted", None):
                yield "heading", getattr(self._plan, "heading", "")
                yield "quoted", quoted


def launch(
    tool: str,
    kind: Kind,
    request: LaunchRequest,
    plan: Plan,
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
        where: `device`, `slots`, `lineage`, another `name`: fields of RunInfo.

    Raises:
        PlanChanged: The data, the model or the arguments changed since the plan was shown.
    """
    shown = plan.model_dump(mode="json", exclude=SHOWN_BESIDE)
    digest = plan_hash(request, plan)
    found = Launch(summary=plan.summary, plan_hash=digest, plan=shown, warnings=warnings)
    found._plan = plan
    if request.confirm is None:
        _remember(found.plan_hash, _decided(request, plan))
        step = next_step("confirm", _confirmed(request, found.plan_hash), tool=tool)
        return found.model_copy(update={"next_steps": [step]})
    require_same(request, plan)
    where = {"name": request.name, "request_id": request.request_id} | where
    run_id = start.start(kind, request, plan, **where)
    step = next_step("poll", {"run_id": run_id})
    done = {"started": True, "run_id": run_id, "summary": f"Started {run_id}."}
    return found.model_copy(update={**done, "next_steps": [step]})


def plan_hash(request: LaunchRequest, plan: Plan) -> str:
    """Return a short hash over what the user decides and the content of files and models."""
    text = json.dumps(_decided(request, plan), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


def require_same(request: LaunchRequest, plan: Plan) -> None:
    """Refuse a confirmation that was given for another plan.

    Raises:
        PlanChanged: It names what differs, and the new hash.
    """
    now = plan_hash(request, plan)
    if request.confirm == now:
        return
    shown = _remembered(str(request.confirm))
    if shown is None:
        why = "no plan with that hash was shown here"
    else:
        pairs = list(_differences(shown, _decided(request, plan)))
        why = "it differs in " + "; ".join(pairs[:MOST_DIFFERENCES])
        why += f"; and {len(pairs) - MOST_DIFFERENCES} more" * (len(pairs) > MOST_DIFFERENCES)
    raise PlanChanged(
        f"confirm={request.confirm!r} does not match this plan: {why}. The plan is now {now!r}; "
        "call again without confirm to see it, then confirm that one"
    )


def _decided(request: LaunchRequest, plan: Plan) -> dict[str, Any]:
    """Return what the hash covers."""
    asked = request.model_dump(mode="json", exclude_defaults=True, exclude=NOT_DECISIONS)
    machine: Any = dict.fromkeys(SHOWN_BESIDE, True) | dict(plan.MACHINE)
    return {"arguments": asked, "plan": plan.model_dump(mode="json", exclude=machine)}


def _differences(shown: Any, now: Any, where: str = "") -> Iterator[str]:
    """Yield where two plans differ, with both values."""
    if isinstance(shown, dict) and isinstance(now, dict):
        for name in dict.fromkeys([*shown, *now]):
            inner = f"{where}.{name}" if where else name
            yield from _differences(shown.get(name), now.get(name), inner)
    elif shown != now:
        before, after = (brief(json.dumps(value)) for value in (shown, now))
        yield f"{where} ({before} when it was shown, {after} now)"


def _remember(digest: str, decided: dict[str, Any]) -> None:
    """Keep what a shown plan's hash covers, so that a later refusal can name what differs."""
    folder = workspace.cache_dir() / FOLDER
    # Without it a refusal says less; a full disk refuses the run itself.
    with contextlib.suppress(OSError, FineTuningError):
        private_folder(folder)
        write_file(folder / f"{digest}.json", json.dumps(decided))
        oldest_first = sorted(folder.glob("*.json"), key=lambda file: file.stat().st_mtime)
        for file in oldest_first[:-KEPT_PLANS]:
            file.unlink(missing_ok=True)


def _remembered(digest: str) -> dict[str, Any] | None:
    folder = workspace.cache_dir() / FOLDER
    with contextlib.suppress(OSError, ValueError):
        if digest.isalnum():
            found: dict[str, Any] = json.loads((folder / f"{digest}.json").read_bytes())
            return found
    return None


def _confirmed(request: LaunchRequest, digest: str) -> Mapping[str, Any]:
    """Return the arguments that the caller gave, without what is only for planning."""
    given = request.model_dump(mode="json", exclude_unset=True, exclude={"export_dir"})
    return given | {"confirm": digest}
