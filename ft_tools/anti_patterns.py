"""The mistakes that this package stops: facts/anti_patterns.toml, and how a tool refuses one.

The same id is found in the error, in the report and in references/choosing.md.
"""

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ft_tools import facts
from ft_tools.errors import Refused, UnknownName

FILE = "anti_patterns.toml"
ON_LAUNCH = (
    "A launch with this `advice` needs `accept_findings` with this id; kept in the plan with "
    "`accept_reason`."
)
"""How all of strength `advises` are overridden."""


class AntiPattern(BaseModel):
    """A mistake with evidence against it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    rule: str
    tools: tuple[str, ...] = Field(description="Where it fires.")
    strength: Literal["blocks", "prevents", "warns", "advises"]
    override: str = Field(description="How a person accepts the risk.")
    when: tuple[str, ...] = Field((), description="Facts under which advice blocks by it.")
    why: str
    source: str

    @model_validator(mode="before")
    @classmethod
    def _with_launch(cls, row: dict[str, Any]) -> dict[str, Any]:
        if row["strength"] != "advises":
            return row
        return row | {"override": " ".join(filter(None, [row.get("override"), ON_LAUNCH]))}


@cache
def rules() -> Mapping[str, AntiPattern]:
    """Return all anti-patterns by id."""
    rows = facts.table_of(FILE)
    return MappingProxyType(
        {name: AntiPattern.model_validate({"id": name, **row}) for name, row in rows.items()}
    )


def rule(rule_id: str) -> AntiPattern:
    """Return the anti-pattern with an id.

    Raises:
        UnknownName: No rule has that id; the message lists the known ones.
    """
    if rule_id not in rules():
        raise UnknownName("rule", rule_id, rules())
    return rules()[rule_id]


def refusal(rule_id: str, observed: str, cure: str) -> Refused:
    """Return the error by which a tool refuses a mistake: what was seen, the fix, the override.

    Args:
        rule_id: A rule of the table.
        observed: What the tool saw, with its value.
        cure: What to do instead.
    """
    pattern = rule(rule_id)
    return Refused(
        f"{rule_id}: {observed.rstrip('.')}. {pattern.rule} {cure} Override: {pattern.override}"
    )
