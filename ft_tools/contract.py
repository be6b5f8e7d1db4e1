"""What every request and every report has in common."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

ResponseFormat = Literal["concise", "detailed"]


class Request(BaseModel):
    """Arguments of a tool: frozen, and a misspelt one is refused by name."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class Reason(BaseModel):
    """Why something was decided: the rule, what was seen, where the line is, and who says so."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    id: str = Field("", description="A stable word for the rule, where a program reads it.")
    rule: str = Field(description="The rule that was applied, in a few words.")
    observed: str | float | int | bool | None = Field(description="What was seen in this case.")
    threshold: str | float | int | None = Field(None, description="Where the line is drawn.")
    source: str = Field(description="An address, or a key of ft_tools/facts.")


class NextStep(BaseModel):
    """A call that makes sense now."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    tool: str = Field(description="A tool of this server.")
    arguments: dict[str, Any] = Field(description="Arguments to start from.")
    why: str = Field(description="What it answers.")


class Report(BaseModel):
    """What a tool returns."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


def without_empty(value: Any) -> Any:
    """Drop null, empty lists, empty objects and empty texts, at every depth."""
    if isinstance(value, list):
        return [without_empty(part) for part in value]
    if not isinstance(value, dict):
        return value
    kept = {key: without_empty(part) for key, part in value.items()}
    return {key: part for key, part in kept.items() if part not in (None, [], {}, "")}
