"""Which conversations are kept: those that the caller's condition, on named signs, is met by."""

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


class ScoreCondition(Request):
    """What a named score or label must be, wherever a conversation has it."""

    name: str = Field(min_length=1, max_length=200)
    source: str | None = Field(
        None, max_length=200, description="Who scored, such as ANNOTATION or HUMAN; null: anybody."
    )
    at_least: float | None = None
    at_most: float | None = None
    values: list[str | bool] = Field(
        default_factory=list, max_length=100, description="Of a label: those that pass."
    )

    @model_validator(mode="after")
    def _says_what_passes(self) -> Self:
        if bool(self.values) == (self.at_least is not None or self.at_most is not None):
            raise ValueError("give at_least, at_most or both for a number, or values for a label")
        return self

    def is_about(self, sign: Sign) -> bool:
        """Return whether a sign has its name, and its source if it names one."""
        return sign.name == self.name and self.source in {None, sign.source}

    def verdicts(self, signs: Iterable[Sign]) -> list[bool]:
        """Return of each value of that name whether it passes; a score may have a label, too."""
        values = [sign.value for sign in signs if self.is_about(sign)]
        if self.values:
            return [v in self.values for v in values if isinstance(v, bool | str)]
        low = float("-inf") if self.at_least is None else self.at_least
        high = float("inf") if self.at_most is None else self.at_most
        return [low <= v <= high for v in values if not isinstance(v, str)]


class Keep(Request):
    """Conversations to keep, for example {"score": {"name": "helpful", "at_least": 0.8}}."""

    score: ScoreCondition | None = None
    outcome: Literal["passed", "not_failed"] | None = Field(
        None,
        description="passed: the sign `outcome` is passed. not_failed: no technical failure, "
        "whether it passed or not.",
    )

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.score is None and self.outcome is None:
            raise ValueError("keep needs score or outcome")
        return self

    @property
    def conditions(self) -> list[ScoreCondition]:
        """Return the conditions on named signs."""
        outcome = ScoreCondition(name="outcome", values=["passed"])
        passed = [outcome] if self.outcome == "passed" else []
        return passed + ([self.score] if self.score else [])

    def unmet(self, conversation: Conversation) -> str:
        """Return why a conversation is not kept; empty if it is."""
        for condition in self.conditions:
            verdicts = condition.verdicts(conversation.signs)
            if not all(verdicts):
                return "condition_not_met"
            if not verdicts:
                return "unknown"
        return ""

    def require_signs(self, conversations: Iterable[Conversation]) -> None:
        """Refuse a condition on a sign that no conversation has.

        Raises:
            UnknownName: With the signs that there are.
        """
        signs = {sign._replace(value="") for one in conversations for sign in one.signs}
        for condition in self.conditions:
            if not any(map(condition.is_about, signs)):
                named = Sign(condition.name, "", condition.source or "").label
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
