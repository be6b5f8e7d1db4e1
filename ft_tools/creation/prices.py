"""What a teacher costs: the caller's price, else that of a dated table; never invented."""

from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec

from pydantic import Field

from ft_tools.creation.request import TeacherSpec
from ft_tools.endpoints.spec import Price

TABLE = "genai_prices"
TOKENS = 1000
"""Of which the table is asked the price: few enough for the first tier of each model."""


class KnownPrice(Price):
    """A price, and who says so."""

    source: str = Field(description="The caller, or a table with its version and today's date.")


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
