"""What recommend_approach says of a launch: shown in the plan, and in the way if it is no."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ft_tools import anti_patterns
from ft_tools.approach.counted_rows import COUNTS
from ft_tools.approach.measured import trained_further
from ft_tools.approach.presumed import STILL_LEARNING
from ft_tools.approach.report import ApproachReport, ApproachVerdict
from ft_tools.approach.request import Approach, ApproachRequest
from ft_tools.approach.table import table
from ft_tools.approach.tool import recommend_approach
from ft_tools.formats.trl_formats import Task
from ft_tools.training.request import DpoRequest, SftRequest

LAUNCHED: dict[Task, tuple[Approach, ...]] = {
    "sft": (
        "sft",
        "small_model_fine_tuning",
        "distillation",
        "sft_and_rag",
        "sft_then_dpo",
        "continued_pretraining",
    ),
    "dpo": ("dpo", "sft_then_dpo"),
    "kto": ("kto",),
}
"""The approaches whose training a launch is; the first is meant if no other is considered."""
RULE = "advised_against"
NO_ADVICE = (
    "launched without advice: call recommend_approach first and pass its arguments as `advice`"
)


class Advised(BaseModel):
    """The verdict on a launch, from what is known of the situation."""

    model_config = ConfigDict(frozen=True)

    approach: Approach = Field(description="What this launch trains.")
    verdict: Literal["now", "later", "no"]
    condition: str = Field("", description="After or if what.")
    why: str
    rules: list[str] = Field(description="Rules that advise against it.")
    first_step: Approach = Field(description="What recommend_approach recommends now.")


def require_advised(task: Task, request: SftRequest | DpoRequest) -> Advised | None:
    """Return what the advice says of this launch; None if none was passed.

    Raises:
        Refused: By the rule `advised_against`, unless each rule is in `accept_findings`.
    """
    if request.advice is None:
        return None
    launched = LAUNCHED[task]
    report = recommend_approach(of_launch(task, request, request.advice))
    answer = report.verdicts[0]
    if report.approach in launched:
        return Advised(
            approach=report.approach,
            verdict="now",
            why=report.path[0].why,
            rules=report.path[0].rules,
            first_step=report.approach,
        )
    said = answer.model_dump(include=_SHARED) | {"why": _why(answer, report)}
    advised = Advised(first_step=report.approach, **said)
    if advised.verdict != "now":
        _require_accepted(advised, request.accept_findings)
    return advised


def of_launch(
    task: Task, request: SftRequest | DpoRequest, advice: ApproachRequest
) -> ApproachRequest:
    """Return the advice asked of this launch, which fills in what it leaves out of model and rows.

    The rows are read only if they are not counted.
    """
    launched = LAUNCHED[task]
    known: dict[str, Any] = {
        "considering": [each for each in advice.considering if each in launched] or [launched[0]],
        "response_format": "detailed",  # A concise verdict leaves out a reason that the path has.
    }
    if advice.model is None and request.model is not None:
        known["model"] = request.model
    if advice.dataset is None and getattr(advice, COUNTS[task]) is None:
        known["dataset"] = request.dataset
    if trained_further(request.model or ""):
        known["observed"] = [*dict.fromkeys([*advice.observed, STILL_LEARNING])]
    if isinstance(request, DpoRequest) and request.sft_run and advice.checkpoint is None:
        known["checkpoint"] = "sft_run"
    return advice.model_copy(update=known)


def _why(answer: ApproachVerdict, report: ApproachReport) -> str:
    """Return the reason: of what the path puts off, why its first step is first.

    The advice explains such an answer by how it is done well, which is no reason against it.
    """
    is_how = answer.why in {approach.guide for approach in table().approaches.values()}
    return report.path[0].why if is_how else answer.why


_SHARED = {"approach", "verdict", "condition", "why", "rules"}


def _require_accepted(advised: Advised, accepted: list[str]) -> None:
    if RULE in accepted or (advised.rules and set(advised.rules) <= set(accepted)):
        return
    ids = advised.rules or [RULE]
    what = ", ".join(filter(None, [advised.verdict, advised.condition]))
    why = advised.why.rstrip(".")
    observed = f"{advised.approach}: {what}" + (f" ({why})" if why else "")
    cure = (
        f"First: {advised.first_step}; recommend_approach lays out the path. To train "
        f"nevertheless, the user accepts: accept_findings={ids!r} with accept_reason."
    )
    raise anti_patterns.refusal(RULE, observed, cure)
