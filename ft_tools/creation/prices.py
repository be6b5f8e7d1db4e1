"""What a teacher costs: the caller's price, else that of a dated table; never invented."""

from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec

from pydantic import BaseModel, ConfigDict, Field

from ft_tools.creation.request import TeacherSpec
from ft_tools.endpoints.spec import Endpoint, Price

TABLE = "genai_prices"
TOKENS = 1000
"""Of which the table is asked the price: few enough for the first tier of each model."""


class KnownPrice(BaseModel):
    """A price, and who says so."""

    model_config = ConfigDict(frozen=True)

    usd_per_million_input_tokens: float
    usd_per_million_output_tokens: float
    source: str = Field(description="The caller, or a table with its version and today's date.")

    @property
    def price(self) -> Price:
        """Return it as the client takes it."""
        return Price(**self.model_dump(exclude={"source"}))


def known_price(teacher: TeacherSpec) -> KnownPrice | None:
    """Return what a teacher costs; None where nobody knows: half a price is no price."""
    given = teacher.price
    if given is not None and given.bounds_calls:
        prices = given.model_dump(exclude={"usd_per_hour"})
        return KnownPrice(**prices, source="the caller")
    return None if teacher.endpoint is None else _from_table(teacher.endpoint)


def _from_table(endpoint: Endpoint) -> KnownPrice | None:
    """Return the price that genai-prices has for an endpoint, if that is installed."""
    if endpoint.is_local or find_spec(TABLE) is None:
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
