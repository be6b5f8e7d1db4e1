"""A system as a caller names it: what answers, and how it is asked."""

from typing import Literal, Self

from pydantic import Field, model_validator

from ft_tools.contract import Request
from ft_tools.endpoints.spec import Endpoint, Price

SimpleKind = Literal["majority", "tf_idf", "nearest_example"]
ChooseExamples = Literal["first", "random", "nearest"]
QUESTION, PASSAGE = "{question}", "{passage}"
MOST_TOKENS = 8192
"""Of an answer."""


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

    @property
    def kind(self) -> str:
        """Return model, endpoint, or the kind of the baseline."""
        return "endpoint" if self.endpoint else self.baseline or "model"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if sum(kind is not None for kind in (self.model, self.endpoint, self.baseline)) != 1:
            raise ValueError("set exactly one of model, endpoint and baseline")
        kind, decoding, endpoint = self.baseline, self.decoding, self.endpoint
        is_asked = any([self.system, self.template, self.passages, self.document])
        is_bounded = bool(self.price and self.price.bounds_calls)
        problems = {
            f"baseline={kind!r} requires examples.path to learn from": kind and not self.examples,
            "a simple baseline takes no system, template, passages, document or decoding": kind
            and (is_asked or decoding != Decoding()),
            "template must contain {question}": QUESTION not in (self.template or QUESTION),
            "template contains {passage}: set passages to the dataset field": PASSAGE
            in (self.template or "")
            and not self.passages,
            "decoding.temperature is for endpoints; models decode greedily": decoding.temperature
            and not endpoint,
            "decoding.json_schema and decoding.regex exclude each other": decoding.regex
            and decoding.json_schema,
            "decoding.regex is not available for endpoints; use json_schema": decoding.regex
            and endpoint,
            "endpoint.max_usd requires price, of input and of output tokens": endpoint
            and endpoint.max_usd is not None
            and not is_bounded,
        }
        for problem, is_wrong in problems.items():
            if is_wrong:
                raise ValueError(problem)
        return self
