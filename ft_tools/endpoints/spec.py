"""An endpoint as a caller names it, and what it costs."""

import re
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from ft_tools.contract import Request

LOOPBACK = re.compile(r"localhost|127(?:\.\d{1,3}){3}|::1")


class Endpoint(Request):
    """A server with the OpenAI chat completions API."""

    url: str = Field(max_length=500, description="Base URL including /v1.")
    model: str = Field(max_length=200, description="Model name at that server.")
    key_variable: str | None = Field(
        None,
        pattern=r"^[A-Z][A-Z0-9_]*$",
        description="Environment variable with the API key.",
    )
    max_calls: int = Field(1000, ge=1, description="Call budget, retries included.")
    max_usd: float | None = Field(None, gt=0, description="Budget; requires price.")
    max_concurrency: int = Field(4, ge=1, le=64, description="Requests in flight at a time.")
    timeout_seconds: float = Field(60, gt=0, le=600, description="Per request.")
    response_format: Literal["json_schema", "json_object"] = Field(
        "json_schema", description="json_object: for llama_cpp.server."
    )
    sampling: dict[str, float] = Field(
        default_factory=dict,
        max_length=10,
        description="More request fields; llama_cpp.server is greedy with repeat_penalty 1.",
    )

    @field_validator("url")
    @classmethod
    def _plain_url(cls, value: str) -> str:
        return plain_url(value)

    @property
    def host(self) -> str:
        """Return the host and port that texts are sent to."""
        return urlsplit(self.url).netloc

    @property
    def is_local(self) -> bool:
        """Return whether texts stay on this machine."""
        return is_local(self.host)


class Price(Request):
    """What a system costs; what is left out is unknown, and no part of a sum."""

    usd_per_million_input_tokens: float | None = Field(None, ge=0)
    usd_per_million_output_tokens: float | None = Field(None, ge=0)
    usd_per_hour: float | None = Field(
        None, ge=0, description="Of the machine that serves the model."
    )

    @property
    def bounds_calls(self) -> bool:
        """Return whether it says what a call costs: half a price does not."""
        prices = (self.usd_per_million_input_tokens, self.usd_per_million_output_tokens)
        return None not in prices

    def usd_of(self, input_tokens: float, output_tokens: float, seconds: float = 0.0) -> float:
        """Return what so many tokens and seconds cost."""
        usd = input_tokens * (self.usd_per_million_input_tokens or 0.0)
        usd += output_tokens * (self.usd_per_million_output_tokens or 0.0)
        return usd / 1e6 + seconds * (self.usd_per_hour or 0.0) / 3600


def is_local(host: str) -> bool:
    """Return whether a host, with or without a port, is this machine.

    >>> is_local("localhost:11434"), is_local("api.example")
    (True, False)
    """
    return LOOPBACK.fullmatch(urlsplit(f"//{host}").hostname or "") is not None


def plain_url(value: str) -> str:
    """Return a base URL without its last slash.

    Raises:
        ValueError: It is no address of a server, or holds a secret.
    """
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("must start with http:// or https:// and name a host")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("must not contain a user, password or query; use key_variable")
    return value.rstrip("/")
