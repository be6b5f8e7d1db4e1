"""What an approach costs, in orders of magnitude."""

from ft_tools.approach.gpu_time import gpu_time
from ft_tools.approach.report import CostBracket
from ft_tools.approach.request import Approach, ApproachRequest
from ft_tools.approach.situation import number_of
from ft_tools.approach.table import table
from ft_tools.contract import Reason


def bracket(approach: Approach, request: ApproachRequest) -> CostBracket:
    """Return the cost bracket of an approach; the bounds are not a quote.

    Raises:
        UnknownName: The request names a GPU that no table lists.
    """
    row = table().approaches[approach]
    return CostBracket(
        usd_low=row.usd_low,
        usd_high=row.usd_high,
        time=row.time,
        data=row.data,
        running=row.running,
        gpu_time=gpu_time(approach, request),
        source=row.source,
    )


def shortening(request: ApproachRequest) -> Reason | None:
    """Return when training to shorten the prompt would pay for itself; None if unknown.

    saving a call = (m * L - S) * price, with L the fixed part of the prompt, S what would remain
    of it, and m the price of a cached token over that of a fresh one (1 below the length that is
    cached). Needs the fixed part and the calls per day.

    >>> request = ApproachRequest(symptoms=["cost"], prompt_tokens=2000, calls_per_day=10_000)
    >>> shortening(request).threshold
    'pays off after 3,333,333 calls (333 days)'
    """
    calls_per_day = number_of(request.calls_per_day)
    if "cost" not in request.symptoms or not request.prompt_tokens or not calls_per_day:
        return None
    given = {name: row.value for name, row in table().prices.items()}
    cached = request.prompt_tokens >= table().thresholds["cacheable_prefix"].value
    fixed = request.prompt_tokens * (given["cached_fraction"] if cached else 1)
    saving = (fixed - given["short_prompt_tokens"]) * given["input_usd_per_million"] / 1e6
    repaid = "never pays off"
    if saving > 0:
        calls = given["run_usd"] / saving
        repaid = f"pays off after {calls:,.0f} calls ({calls / calls_per_day:,.0f} days)"
    return Reason(
        rule=f"Training to shorten the {'cached ' if cached else ''}prompt, at "
        f"{given['input_usd_per_million']:g} USD per million tokens and {given['run_usd']:,g} USD "
        "per run; a smaller model saves more.",
        observed=f"{request.prompt_tokens:,} tokens, {calls_per_day:,} calls per day",
        threshold=repaid,
        source="ft_tools/facts/approaches.toml#prices",
    )
