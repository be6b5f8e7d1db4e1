"""What asking a teacher would take: requests, price, a pilot and its forecast."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from statistics import fmean
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from ft_tools import facts, workspace
from ft_tools.creation.findings import refusal, warning
from ft_tools.creation.pilots import REPLIES, Agreement, Forecast, find_earlier, read_marked
from ft_tools.creation.prompts import Asking, Prompt
from ft_tools.creation.request import CreateRequest, TeacherSpec
from ft_tools.data.judge import privacy
from ft_tools.endpoints.client import Question, read_replies
from ft_tools.endpoints.spec import Price
from ft_tools.errors import require_installed
from ft_tools.evaluation.systems.models import ModelFiles
from ft_tools.evaluation.systems.plan import budget_of, require_grammar
from ft_tools.metrics.checks import judge
from ft_tools.metrics.checks.request import NEVER_ALONE
from ft_tools.metrics.checks.scorer import Scorer, require_columns

OF_DOCUMENTS = frozenset({"prompt", "question", "passage"})
"""Columns of rows from documents; new inputs have prompt and their attributes."""
TABLE, TOKENS = "genai_prices", 1000
"""Prices, and tokens of which it is asked the price: few enough for a model's first tier."""


class KnownPrice(Price):
    """A price, and who says so."""

    source: str = Field(description="The caller, or a table with its version and today's date.")


class AskingPlan(BaseModel):
    """What would be asked of the teacher."""

    CONCISE: ClassVar[tuple[str, ...]] = (
        *("sent_to", "num_prompts", "num_requests", "num_known", "price", "most_usd", "budget"),
        *("forecast", "judges"),
    )
    model_config = ConfigDict(extra="ignore", frozen=True)

    teacher: str = Field(description="Name at the endpoint, or model.")
    sent_to: str | None = Field(None, description="Host that the texts are sent to.")
    model: ModelFiles | None = None
    num_prompts: int
    num_requests: int = Field(description="Prompts times samples.")
    num_known: int = Field(0, description="Of these, answered by an earlier run: not asked again.")
    max_tokens: int
    price: KnownPrice | None = Field(None, description="Null: unknown.")
    most_usd: float | None = Field(None, description="Bound, without retries; null: unknown.")
    budget: dict[str, float] = Field(
        default_factory=dict, description="max_calls and max_usd: never exceeded."
    )
    judge_fraction: float = Field(
        0.0, description="Part of the budget that the teacher leaves for judges."
    )
    key: str = Field(description="Hash of teacher and source, by which earlier replies are found.")
    pilot_key: str = Field("", description="Hash of all that a pilot measures.")
    reused_from: list[str] = Field(default_factory=list, description="Runs with such replies.")
    forecast: Forecast | None = Field(None, description="Null before the pilot.")
    judges: dict[str, Agreement] = Field(
        default_factory=dict, description="Judge -> how far it agreed with the marked rows."
    )


def known_price(teacher: TeacherSpec) -> KnownPrice | None:
    """Return what a teacher costs; None where nobody knows: half a price is no price."""
    given, endpoint = teacher.price, teacher.endpoint
    if given is not None and given.bounds_calls:
        return KnownPrice(**given.model_dump(exclude={"usd_per_hour"}), source="the caller")
    if endpoint is None or endpoint.is_local or find_spec(TABLE) is None:
        return None
    from genai_prices import Usage, calc_price

    usage = Usage(input_tokens=TOKENS, output_tokens=TOKENS)
    try:
        found = calc_price(usage, endpoint.model, provider_api_url=endpoint.url)
    except LookupError:
        return None
    return KnownPrice(
        usd_per_million_input_tokens=float(found.input_price) * 1e6 / TOKENS,
        usd_per_million_output_tokens=float(found.output_price) * 1e6 / TOKENS,
        source=f"genai-prices {version('genai-prices')}, {datetime.now(UTC):%Y-%m-%d}",
    )


def is_priced(request: CreateRequest, price: Price | None) -> bool:
    """Return whether what a creation spends is known: of all that it asks elsewhere, the price."""
    asked = [(one.endpoint, one.price) for one in request.judges.values()]
    if request.teacher and request.teacher.endpoint:
        asked.append((request.teacher.endpoint, price))
    known = [given for _, given in asked if given and given.bounds_calls]
    return bool(known) and all(one.is_local or given in known for one, given in asked)


def plan_asking(
    asking: Asking, prompts: Sequence[Prompt], files: Mapping[str, str]
) -> tuple[AskingPlan, bool, list[str]]:
    """Return what would be asked, whether it is a pilot, and what the user should know first.

    Raises:
        Refused: A judge that decides alone does not agree with the user.
        MissingExtra: The forecast needs `fine-tuning-llm[eval]`.
        BadInput: A budget cannot be kept, a key is missing, or a check reads what no row has.
    """
    request, teacher = asking.request, asking.teacher
    # Before a pilot is paid for: its forecast needs it.
    require_installed("eval", "scipy")
    endpoint, price = teacher.endpoint, known_price(teacher)
    _require_prices(request, price)
    _require_checks(request, prompts)
    require_grammar(teacher, [])
    earlier = find_earlier(request, files)
    known = set[str]().union(*(read_replies(run / REPLIES) for run in earlier.runs))
    has_pilot = request.marked is not None or 0 < request.pilot_rows < len(prompts)
    is_pilot = earlier.pilot is None and has_pilot
    _require_judge(request, earlier.judges, is_pilot=is_pilot)
    used = prompts[: request.pilot_rows] if is_pilot else prompts
    lacking = [[q for q in asking.questions(one) if q.key not in known] for one in used]
    missing = [question for questions in lacking for question in questions]
    num_more, at_once = sum(map(bool, lacking)), endpoint.max_concurrency if endpoint else 1
    forecast, judge_fraction = earlier.forecast(
        price, len(used), num_more, at_once, is_priced=is_priced(request, price)
    )
    if judge_fraction is None:
        judge_fraction = _judge_fraction(asking, price, missing)
    limits: dict[str, Any] = {"budget": {}} | budget_of(teacher, len(missing))
    if (max_usd := asking.max_usd()) is not None:
        limits["budget"]["max_usd"] = max_usd
    plan = AskingPlan(
        teacher=teacher.model_name,
        model=asking.files,
        num_prompts=len(used),
        num_requests=len(used) * request.samples,
        num_known=len(used) * request.samples - len(missing),
        max_tokens=asking.max_tokens,
        price=price,
        most_usd=round(sum(one.most_usd(price) for one in missing), 6) if price else None,
        **limits,
        judge_fraction=round(judge_fraction, 4),
        key=earlier.key,
        pilot_key=earlier.pilot_key,
        reused_from=[run.name for run in earlier.runs],
        judges=earlier.judges,
        forecast=forecast,
    )
    return plan, is_pilot, list(_warnings(request, teacher, plan, used))


def _judge_fraction(asking: Asking, price: Price | None, missing: Sequence[Question]) -> float:
    """Return which part of the cost is of judges, by the highest prices of what they are sent."""
    teacher = fmean(one.most_usd(price) for one in missing) if price and missing else 0.0
    sent = asking.max_tokens + fmean(len(one.body) for one in missing) if missing else 0.0
    judges = sum(
        one.price.usd_of(sent + len(one.rubric), judge.MAX_TOKENS)
        for one in asking.request.judges.values()
        if one.price
    )
    return judges / (teacher + judges) if judges else 0.0


def _require_prices(request: CreateRequest, price: Price | None) -> None:
    """Refuse a budget that cannot be kept: a price is unknown."""
    if (budget := request.budget_usd) is None:
        return
    if price is None:
        raise refusal("price_unknown", budget=budget)
    for name, one in request.judges.items():
        if not (one.endpoint.is_local or (one.price and one.price.bounds_calls)):
            raise refusal("judge_price_unknown", budget=budget, name=name)


def _require_judge(request: CreateRequest, judges: dict[str, Agreement], *, is_pilot: bool) -> None:
    """Refuse a judge that decides alone before it agrees with the user."""
    if request.marked is not None:
        read_marked(workspace.existing(request.marked))
    decides_alone = all(check.kind in NEVER_ALONE for check in request.checks)
    if not request.judges or not decides_alone or (is_pilot and request.marked is not None):
        return
    if request.marked is None or not judges:
        raise refusal("judge_alone", needed=int(facts.number("creation.marked_rows")))
    needed = facts.number("creation.judge_kappa")
    for name, found in judges.items():
        if found.kappa.likely < needed:
            about = {"num": found.num_rows, "kappa": found.kappa, "needed": needed}
            raise refusal("judge_disagrees", name=name, **about)


def _require_checks(request: CreateRequest, prompts: Sequence[Prompt]) -> None:
    """Refuse checks that read what no row of this kind has, or that cannot be set up."""
    with Scorer(request.checks):
        pass
    if request.kind == "answers":
        rows = [(int(one.source.rpartition(":")[2]), one.columns) for one in prompts]
        require_columns(request.checks, rows, request.source)
        return
    known = OF_DOCUMENTS if request.kind == "documents" else {"prompt", *request.attributes}
    for check in request.checks:
        if other := sorted(set(check.columns) - known):
            about = {"name": check.name or check.kind, "column": other[0], "kind": request.kind}
            raise refusal("check_columns", **about, known=", ".join(sorted(known)))


def _warnings(
    request: CreateRequest, teacher: TeacherSpec, plan: AskingPlan, prompts: Sequence[Prompt]
) -> Iterator[str]:
    """Yield what the user should know before anything is sent, judged or paid."""
    endpoint, budget = teacher.endpoint, plan.budget.get("max_usd")
    if endpoint is not None and not endpoint.is_local:
        if plan.price is None:
            yield warning("price_unknown")
        texts = [json.dumps(one.messages, ensure_ascii=False) for one in prompts]
        found = [{*privacy.secrets_in(one), *privacy.personal_data_in(one)} for one in texts]
        if kinds := ", ".join(sorted(set().union(*found))):
            num = sum(map(bool, found))
            yield warning("personal_data_sent", num=num, kinds=kinds, host=endpoint.host)
    if plan.most_usd and budget is None:
        yield warning("no_budget", most=plan.most_usd)
    usd = plan.forecast.usd if plan.forecast else None
    if budget is not None and usd is not None and usd.high > budget:
        yield warning("budget_low", budget=budget, high=usd.high)
    for name, one in request.judges.items():
        if request.marked is None:
            yield warning("judge_uncalibrated", name=name)
        if one.endpoint.model == teacher.model_name:
            yield warning("judge_is_teacher", name=name)
    if not request.checks and request.kind == "answers":
        yield warning("no_checks")
