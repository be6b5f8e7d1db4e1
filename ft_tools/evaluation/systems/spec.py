"""A system as a caller names it: what answers, and how it is asked."""

from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from ft_tools.contract import Request

SimpleKind = Literal["majority", "tf_idf", "nearest_example"]
ChooseExamples = Literal["first", "random", "nearest"]
QUESTION, PASSAGE = "{question}", "{passage}"
MOST_TOKENS = 8192
"""Of an answer."""


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
        parts = urlsplit(value)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("must start with http:// or https:// and name a host")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("must not contain a user, password or query; use key_variable")
        return value.rstrip("/")

    @property
    def host(self) -> str:
        """Return the host and port that texts are sent to."""
        return urlsplit(self.url).netloc


class FewShot(Request):
    """Training examples."""

    path: str = Field(description="Training JSONL; never the held-out file.")
    num: int = Field(5, ge=1, le=64, description="Examples per question.")
    choose: ChooseExamples = Field("nearest", description="nearest: by MiniLM, to each question.")
    seed: int = Field(0, ge=0, description="For choose=random.")


class Decoding(Request):
    """How answers are decoded."""

    json_schema: str | None = Field(
        None, description="JSON Schema file that answers are constrained to."
    )
    regex: str | None = Field(
        None, max_length=500, description="Pattern of the whole answer; not for endpoints."
    )
    temperature: float = Field(0, ge=0, le=2, description="Endpoints only; models are greedy.")
    max_new_tokens: int | None = Field(
        None, ge=1, le=MOST_TOKENS, description="Default: that of the request."
    )

    @model_validator(mode="after")
    def _one_constraint(self) -> Self:
        if self.json_schema and self.regex:
            raise ValueError("json_schema and regex exclude each other")
        return self


class Price(Request):
    """What a system costs."""

    usd_per_million_input_tokens: float = Field(0, ge=0)
    usd_per_million_output_tokens: float = Field(0, ge=0)
    usd_per_hour: float = Field(0, ge=0, description="Of the machine that serves the model.")


class SystemSpec(Request):
    """One of model, endpoint and baseline, and how it is asked."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,39}$", description="Letters, digits, _ . -"
    )
    model: str | None = Field(
        None, description="Run id, folder, adapter folder, GGUF file or Hub id."
    )
    endpoint: Endpoint | None = Field(None, description="OpenAI-compatible server.")
    baseline: SimpleKind | None = Field(
        None,
        description="Learned from examples.path; tf_idf: with logistic regression.",
    )
    system: str | None = Field(
        None,
        max_length=20000,
        description="System text; default: each example's own; empty: none.",
    )
    template: str | None = Field(
        None,
        max_length=20000,
        description="User turn with {question} and {passage}.",
    )
    examples: FewShot | None = Field(
        None, description="Few-shot examples, or what a baseline learns from."
    )
    passages: str | None = Field(
        None, description="Dataset field with a passage for each question."
    )
    document: str | None = Field(None, description="Text file placed after the system text.")
    decoding: Decoding = Field(default_factory=Decoding)
    price: Price | None = Field(None, description="For ranking and max_usd.")

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        kinds = [self.model, self.endpoint, self.baseline]
        if sum(kind is not None for kind in kinds) != 1:
            raise ValueError("set exactly one of model, endpoint and baseline")
        return self

    @model_validator(mode="after")
    def _simple(self) -> Self:
        if self.baseline is None:
            return self
        if self.examples is None:
            raise ValueError(f"baseline={self.baseline!r} requires examples.path to learn from")
        asked = [self.system, self.template, self.passages, self.document]
        if any(asked) or self.decoding != Decoding():
            raise ValueError(
                "a simple baseline takes no system, template, passages, document or decoding"
            )
        return self

    @model_validator(mode="after")
    def _template(self) -> Self:
        if self.template is not None and QUESTION not in self.template:
            raise ValueError("template must contain {question}")
        if self.template is not None and PASSAGE in self.template and not self.passages:
            raise ValueError("template contains {passage}: set passages to the dataset field")
        return self

    @model_validator(mode="after")
    def _endpoint(self) -> Self:
        if self.endpoint is None and self.decoding.temperature:
            raise ValueError("decoding.temperature is for endpoints; models decode greedily")
        if self.endpoint is not None and self.decoding.regex:
            raise ValueError("decoding.regex is not available for endpoints; use json_schema")
        if self.endpoint is not None and self.endpoint.max_usd is not None and self.price is None:
            raise ValueError("endpoint.max_usd requires price")
        return self
