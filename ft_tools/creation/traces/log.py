"""What readers of logs return: conversations, and the signs of how each went."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field

from ft_tools.data.map.conditions import ByColumn
from ft_tools.formats.example import Message

CUT = {
    "length": "length", "max_tokens": "length", "MAX_TOKENS": "length", "error": "error",
    "content_filter": "content_filter", "SAFETY": "content_filter", "refusal": "refusal",
}  # fmt: skip
"""Reason for which an answer ended that is not whole, as providers spell it -> ours."""
NO_ANSWER, NOT_FINISHED = "no_answer", "not_finished"

Keep = Literal["not_failed"] | Annotated[ByColumn, Field(min_length=1, max_length=20)]
"""All that did not fail; or sign -> what is wanted of its values, as in a mapping."""


Sign = tuple[str, float | bool | str]
"""A score or a mark: its name, with who said so in brackets as the log names it, and its value."""


class LogRow(NamedTuple):
    """A row of a log, and where it stands."""

    file: str
    line: int
    value: Mapping[str, Any]


@dataclass
class Conversation:
    """A call of a model with what came before it, a session, or what such calls are part of."""

    format: str
    row: LogRow
    messages: list[Message] = field(default_factory=list)
    kind: str = ""
    """Of what is no call; else empty."""
    id: str = ""
    parent: str = ""
    response: str = ""
    session: str = ""
    trace: str = ""
    model: str = ""
    date: str = ""
    tools: list[Any] = field(default_factory=list)
    failed: str = ""
    """The technical sign of a failure; empty if there is none."""
    signs: list[Sign] = field(default_factory=list)
    is_answered: bool = True

    @property
    def group(self) -> str:
        """Return what its rows are split by."""
        return self.session or self.trace or f"{self.row.file}:{self.row.line}"


class Log:
    """What is read of a log beside its conversations."""

    def __init__(self) -> None:
        self.skipped, self.notes = Counter[str](), Counter[str]()
        self.signs = defaultdict[str, list[Sign]](list)
        """Id of a call, of what it is part of, of a response, a session or a trace -> signs."""

    def sign(self, about: str, name: Any, *values: Any, source: Any = None) -> None:
        """Add values that can be signs."""
        label = f"{name} [{source}]" if source else str(name)
        found = (v for v in values if isinstance(v, bool | int | float | str))
        self.signs[about] += [(label, value) for value in found]
