"""Made rows: what is trained on, where it comes from, and which rows stay together."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from ft_tools.creation.report import LogCounts
from ft_tools.data.judge import privacy
from ft_tools.formats.origin import Origin, row_hash

Message = dict[str, Any]
GROUP = "group"
"""Column of the rows that stay in one part; only in the file that the audit reads."""


@dataclass(frozen=True)
class MadeRow:
    """A training row, secrets and personal data masked."""

    messages: list[Message]
    """It ends with the answer."""
    question: str
    """What is compared with test questions: without the passage that it is asked about."""
    origin: Origin
    group: str
    """Source row, passage or session."""
    tools: list[dict[str, Any]] | None = None

    @property
    def row(self) -> dict[str, Any]:
        """Return it as a training file has it."""
        return {"messages": self.messages} | ({"tools": self.tools} if self.tools else {})

    @property
    def key(self) -> str:
        """Return the hash by which its origin is found."""
        return row_hash(self.row)

    @property
    def answer(self) -> str:
        """Return what is trained on last."""
        return str(self.messages[-1].get("content") or "")

    @property
    def questions(self) -> list[str]:
        """Return what may be a test question: all that a user says, but for a passage."""
        said = [str(m["content"]) for m in self.messages if m["role"] == "user"]
        return [self.question] if self.origin.kind == "documents" else said

    @property
    def answers(self) -> str:
        """Return what may repeat a test question: of a trace, results of tools too."""
        said = [str(m["content"]) for m in self.messages if m["role"] in {"assistant", "tool"}]
        return "\n".join(said) if self.origin.kind == "traces" else self.answer


@dataclass(frozen=True)
class Made:
    """Rows that passed, out of those asked for, and why the others did not."""

    rows: list[MadeRow]
    num_asked: int
    dropped: Counter[str] = field(default_factory=Counter)
    """Reason -> rows; with those that passed they add up to `num_asked`."""
    warnings: list[str] = field(default_factory=list)
    usd: float | None = None
    num_calls: int = 0
    log: LogCounts | None = None
    """Of traces: what their logs hold."""


def made_row(
    messages: list[Message],
    question: str,
    origin: Origin,
    group: str,
    tools: list[dict[str, Any]] | None = None,
) -> MadeRow:
    """Return a row in which secrets and personal data are masked, each value by one stand-in."""
    seen: privacy.Seen = {}
    masked: list[Message] = privacy.mask_all(messages, seen)
    return MadeRow(masked, question, origin, group, privacy.mask_all(tools, seen))
