"""Which conversations are kept: those that the caller's condition, on a named sign, is met by."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from ft_tools.contract import Request
from ft_tools.creation.traces.conversation import Conversation, LogRow, Sign, Signs, text_at
from ft_tools.errors import UnknownName
from ft_tools.formats.column_counts import shown

MOST_VALUES = 12
"""Different texts of a sign that are listed."""


class Keep(Request):
    """Conversations to keep, for example {"name": "helpful", "at_least": 0.8}."""

    name: str | None = Field(None, max_length=200, description="Of a score or label.")
    source: str | None = Field(
        None, max_length=200, description="Who scored, such as ANNOTATION or HUMAN; null: anybody."
    )
    at_least: float | None = None
    at_most: float | None = None
    values: list[str | bool] = Field(
        default_factory=list, max_length=100, description="Of a label: those that pass."
    )
    outcome: Literal["not_failed"] | None = Field(
        None, description="Instead of a name: all without a technical failure."
    )

    @model_validator(mode="after")
    def _says_what_passes(self) -> Self:
        if (self.name is None) == (self.outcome is None):
            raise ValueError("keep needs either name or outcome")
        has_bounds = self.at_least is not None or self.at_most is not None
        if self.name is not None and bool(self.values) == has_bounds:
            raise ValueError("give at_least, at_most or both for a number, or values for a label")
        if self.name is None and (self.values or has_bounds or self.source):
            raise ValueError("source, at_least, at_most and values belong to a name")
        return self

    def _is_about(self, sign: Sign) -> bool:
        return sign.name == self.name and self.source in {None, sign.source}

    def unmet(self, conversation: Conversation) -> str:
        """Return why a conversation that did not fail is not kept; empty if it is.

        Every value of the name has to pass, of the kind that is asked for: a score may have a
        label, too.
        """
        if self.name is None:
            return ""
        values = [sign.value for sign in conversation.signs if self._is_about(sign)]
        if self.values:
            verdicts = [v in self.values for v in values if isinstance(v, bool | str)]
        else:
            low = float("-inf") if self.at_least is None else self.at_least
            high = float("inf") if self.at_most is None else self.at_most
            verdicts = [low <= v <= high for v in values if not isinstance(v, str)]
        if not verdicts:
            return "unknown"
        return "" if all(verdicts) else "condition_not_met"

    def require_sign(self, conversations: Iterable[Conversation]) -> None:
        """Refuse a condition on a sign that no conversation has.

        Raises:
            UnknownName: With the signs that there are.
        """
        signs = {sign._replace(value="") for one in conversations for sign in one.signs}
        if self.name is not None and not any(map(self._is_about, signs)):
            named = Sign(self.name, "", self.source or "").label
            cure = "or keep={'outcome': 'not_failed'}, which needs no sign"
            raise UnknownName("sign", named, sorted(shown(one.label) for one in signs), cure)


def described_signs(conversations: Iterable[Conversation]) -> dict[str, str]:
    """Return each sign, by its source, with how many there are, their range and their labels."""
    held: dict[str, list[float | bool | str]] = defaultdict(list)
    for one in conversations:
        for sign in one.signs:
            held[sign.label].append(sign.value)
    return {name: _described(values) for name, values in sorted(held.items())}


def _described(values: list[float | bool | str]) -> str:
    numbers = [v for v in values if not isinstance(v, bool | str)]
    words = Counter(str(v) for v in values if isinstance(v, bool | str))
    parts = [f"{len(numbers)} numbers from {min(numbers):g} to {max(numbers):g}"] if numbers else []
    listed = [f"{shown(word)} {count}" for word, count in words.most_common(MOST_VALUES)]
    more = len(words) - MOST_VALUES
    listed += [f"{more} more values"] if more > 0 else []
    return "; ".join([*parts, *(["labels: " + ", ".join(listed)] if listed else [])])


def marks_from(rows: Iterable[LogRow]) -> Signs:
    """Return the signs of a table; its column `session` names a session, trace or call."""
    signs = Signs()
    for row in rows:
        for name, value in row.value.items():
            if name != "session" and value not in (None, ""):
                signs.add(text_at(row.value, "session"), name, _number(value))
    return signs


def _number(value: Any) -> float | bool | str:
    if isinstance(value, bool | int | float):
        return value
    try:
        return float(value)
    except (TypeError, ValueError):
        return str(value)
