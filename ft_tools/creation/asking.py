"""What asking a teacher would take: prompts, requests, price, a pilot and its forecast."""

import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ft_tools import facts, workspace
from ft_tools.creation import pilots
from ft_tools.creation.findings import refusal, warning
from ft_tools.creation.leaks import TestQuestions
from ft_tools.creation.pilots import Agreement, Forecast
from ft_tools.creation.prompts import Prompt
from ft_tools.creation.request import CreateRequest, TeacherSpec
from ft_tools.creation.requests import KINDS, Requests, hashes_of
from ft_tools.data.judge import privacy
from ft_tools.endpoints.client import read_replies
from ft_tools.endpoints.spec import Price
from ft_tools.errors import require_installed
from ft_tools.evaluation.systems.models import ModelFiles, find_model, model_files
from ft_tools.evaluation.systems.plan import budget_of, require_grammar
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
    key: str = Field(description="Hash of teacher and source, by which earlier replies are found.")
    pilot_key: str = Field("", description="Hash of all that a pilot measures.")
    reused_from: list[str] = Field(default_factory=list, description="Runs with such replies.")
    forecast: Forecast | None = Field(None, description="Null before the pilot.")
    judges: dict[str, Agreement] = Field(
        default_factory=dict, description="Judge -> how far it agreed with the marked rows."
    )
    files_sha256: dict[str, str] = Field(
        default_factory=dict, description="Files that the teacher or a check reads -> hash."
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
    endpoints = [
        (one.endpoint, bool(one.price and one.price.bounds_calls))
        for one in request.judges.values()
    ]
    if request.teacher and request.teacher.endpoint:
        endpoints.append((request.teacher.endpoint, price is not None))
    unknown = [one for one, is_known in endpoints if not is_known and not one.is_local]
    return not unknown and any(is_known for _, is_known in endpoints)


def prompts_of(request: CreateRequest, path: Path, test: Path | None) -> tuple[list[Prompt], int]:
    """Return the prompts in a random order, and how many of them test rows ask.

    Raises:
        BadData: The source cannot be read.
        BadInput: It has no prompt, or none that is no test row.
    """
    held = TestQuestions(test)
    found = list(KINDS[request.kind].prompts(request, path))
    free = [one for one in found if not (one.asked and held.hold(one.asked))]
    if not free:
        raise refusal("no_prompts", num=len(found), source=request.source, test=request.test)
    drawn = random.Random(f"{request.seed}\x1fprompts").sample(free, len(free))
    return drawn[: request.num_rows], len(found) - len(free)


def plan_asking(
    request: CreateRequest, prompts: Sequence[Prompt], source_sha256: str
) -> tuple[AskingPlan, bool, list[str]]:
    """Return what would be asked, whether it is a pilot, and what the user should know first.

    Raises:
        Refused: A judge that decides alone does not agree with the user.
        MissingExtra: The forecast needs `fine-tuning-llm[eval]`.
        BadInput: A budget cannot be kept, a key is missing, or a check reads what no row has.
    """
    teacher = request.teacher
    assert teacher is not None
    # Before a pilot is paid for: its forecast needs it.
    require_installed("eval", "scipy")
    endpoint, price = teacher.endpoint, known_price(teacher)
    if request.budget_usd is not None and price is None:
        raise refusal("price_unknown", budget=request.budget_usd)
    for name, judge in request.judges.items():
        is_known = judge.endpoint.is_local or (judge.price and judge.price.bounds_calls)
        if request.budget_usd is not None and not is_known:
            raise refusal("judge_price_unknown", budget=request.budget_usd, name=name)
    _require_checks(request, prompts)
    require_grammar(teacher, [])
    files = model_files(find_model(teacher.model)) if teacher.model else None
    asked, hashes = Requests(request, teacher, files), hashes_of(request)
    key, pilot_key = pilots.keys_of(request, source_sha256, hashes)
    runs, pilot = pilots.earlier_runs(key, pilot_key)
    known = set[str]().union(*(read_replies(run / pilots.REPLIES) for run in runs))
    has_pilot = request.marked is not None or 0 < request.pilot_rows < len(prompts)
    is_pilot = pilot is None and has_pilot
    judges = pilots.agreements_of(pilot)
    _require_judge(request, judges, is_pilot=is_pilot)
    used = prompts[: request.pilot_rows] if is_pilot else prompts
    lacking = [[q for q in asked.questions(one) if q.key not in known] for one in used]
    missing = [question for questions in lacking for question in questions]
    num_missing, num_all = len(missing), len(used) * request.samples
    limits: dict[str, Any] = {"budget": {}} | budget_of(teacher, num_missing)
    if asked.max_usd is not None:
        limits["budget"]["max_usd"] = asked.max_usd
    most = round(sum(one.most_usd(price) for one in missing), 6) if price else None
    num_more, at_once = sum(map(bool, lacking)), endpoint.max_concurrency if endpoint else 1
    plan = AskingPlan(
        teacher=teacher.model_name,
        model=files,
        num_prompts=len(used),
        num_requests=num_all,
        num_known=num_all - num_missing,
        max_tokens=asked.max_tokens,
        price=price,
        most_usd=most,
        **limits,
        key=key,
        pilot_key=pilot_key,
        reused_from=[run.name for run in runs],
        judges=judges,
        files_sha256=hashes,
        forecast=pilots.forecast_of(
            pilot, runs, len(used), num_more, price, at_once, is_priced=is_priced(request, price)
        ),
    )
    return plan, is_pilot, list(_warnings(request, teacher, plan, used))


def _require_judge(request: CreateRequest, judges: dict[str, Agreement], *, is_pilot: bool) -> None:
    """Refuse a judge that decides alone before it agrees with the user."""
    if request.marked is not None:
        pilots.read_marked(workspace.existing(request.marked))
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
        rows = [(int(one.source.rpartition(":")[2]), one.row) for one in prompts]
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
        found = list(filter(None, map(_personal_data_in, prompts)))
        if found:
            listed = ", ".join(sorted(set().union(*found)))
            yield warning("personal_data_sent", num=len(found), kinds=listed, host=endpoint.host)
    if plan.most_usd and budget is None:
        yield warning("no_budget", most=plan.most_usd)
    usd = plan.forecast.usd if plan.forecast else None
    if budget is not None and usd is not None and usd.high > budget:
        yield warning("budget_low", budget=budget, high=usd.high)
    for name, judge in request.judges.items():
        if request.marked is None:
            yield warning("judge_uncalibrated", name=name)
        if judge.endpoint.model == teacher.model_name:
            yield warning("judge_is_teacher", name=name)
    if not request.checks and request.kind == "answers":
        yield warning("no_checks")


def _personal_data_in(prompt: Prompt) -> set[str]:
    """Return which kinds of secrets and personal data a prompt holds."""
    seen: privacy.Seen = {}
    privacy.mask_all(prompt.messages, seen)
    return {kind for kind, _ in seen}
