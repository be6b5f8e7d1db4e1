"""Rows that are made or dropped: what is trained on, where it comes from, which stay together."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ft_tools.creation.report import LogCounts, QuotedRow
from ft_tools.data.judge import privacy
from ft_tools.endpoints.client import Reply
from ft_tools.formats.column_counts import shown
from ft_tools.formats.origin import Origin, row_hash
from ft_tools.formats.quoting import quote
from ft_tools.publish import write_file

Message = dict[str, Any]
GROUP = "group"
"""Column of the rows that stay in one part; only in the file that the audit reads."""
COPIED = frozenset({"source", "variations"})
"""Kinds of rows that say the same as the others of their group."""
DROPPED = "dropped.jsonl"
"""In a run: what was said instead of rows, or that did not pass."""
NUM_QUOTED, QUOTED_CHARS = 5, 100
QUOTED_ORIGIN = {"change", "signs"}
"""What a quoted row shows of its origin; origin.jsonl has the rest."""


@dataclass
class Row:
    """A row that was asked for: what is trained on, or why it is dropped."""

    origin: Origin
    messages: list[Message] = field(default_factory=list)
    """It ends with the answer."""
    question: str = ""
    """What is compared with test questions: without the passage that it is asked about."""
    group: str = ""
    """Source row, passage or session."""
    tools: list[dict[str, Any]] | None = None
    reason: str = ""
    """For which it is dropped; empty: it is kept."""
    num: int = 1
    """Rows that lack for this reason."""
    answer: str = ""
    """What the checks score; of what holds no row, what was said instead."""
    columns: Mapping[str, Any] = field(default_factory=dict)
    """What the checks read."""
    quotes: Sequence[str] = ()
    scores: Mapping[str, float | None] = field(default_factory=dict)
    sample: int = 0
    reply: Reply | None = None
    """None: nobody was asked for it."""

    @property
    def row(self) -> dict[str, Any]:
        """Return it as a training file has it."""
        return {"messages": self.messages} | ({"tools": self.tools} if self.tools else {})

    @property
    def key(self) -> str:
        """Return the hash by which its origin is found."""
        return row_hash(self.row)

    @property
    def questions(self) -> list[str]:
        """Return what may be a test question: all that a user says, but for a passage."""
        is_passage = self.origin.kind == "documents"
        return [self.question] if is_passage else self._said("user")

    @property
    def answers(self) -> str:
        """Return what may repeat a test question: of a trace, results of tools too."""
        is_trace = self.origin.kind == "traces"
        return "\n".join(self._said("assistant", "tool") if is_trace else self._said()[-1:])

    def _said(self, *roles: str) -> list[str]:
        return [
            str(m.get("content") or "") for m in self.messages if m["role"] in roles or not roles
        ]

    def mask(self) -> None:
        """Mask secrets and personal data, each value by one replacement."""
        seen: privacy.Seen = {}
        self.messages = privacy.mask_all(self.messages, seen)
        self.tools = privacy.mask_all(self.tools, seen)


@dataclass
class Made:
    """All rows that were asked for."""

    rows: list[Row]
    warnings: list[str] = field(default_factory=list)
    usd: float | None = None
    num_calls: int = 0
    log: LogCounts | None = None
    """Of traces: what their logs hold."""

    @property
    def kept(self) -> list[Row]:
        """Return the rows that are not dropped."""
        return [row for row in self.rows if not row.reason]

    @property
    def dropped(self) -> dict[str, int]:
        """Return reason -> rows, the commonest first; with those kept they are all."""
        counted = Counter[str]()
        for row in self.rows:
            counted[row.reason] += row.num if row.reason else 0
        return dict((+counted).most_common())


def write_lines(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Write objects as JSONL; half a surrogate pair, as teachers cut them, stays an escape."""
    text = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in lines)
    write_file(path, text.encode("utf-8", "backslashreplace"))


def quoted_rows(rows: Sequence[Row]) -> list[QuotedRow]:
    """Return five of some rows as reports quote them, with where they come from."""
    return [_quoted(row) for row in rows[:: max(1, len(rows) // NUM_QUOTED)][:NUM_QUOTED]]


def _quoted(row: Row) -> QuotedRow:
    origin = row.origin.model_dump(mode="json", exclude_defaults=True, include=QUOTED_ORIGIN)
    if signs := origin.get("signs"):
        # What a log says is bounded, and quoted where it is not plain.
        texts = {n: v if isinstance(v, str) else json.dumps(v) for n, v in signs.items()}
        origin["signs"] = {shown(name): shown(text) for name, text in texts.items()}
    if row.reply is None:
        # Of a teacher's rows the plan and the report name it once.
        origin["made"] = row.origin.maker
    answer = str(row.messages[-1].get("content") or "")
    prompt, answer = quoted_text(row.question), quoted_text(answer)
    return QuotedRow(source=row.origin.source, prompt=prompt, answer=answer, origin=origin)


def quoted_text(text: str) -> str:
    """Return a text as reports quote it: masked, escaped, cut."""
    return quote(privacy.mask(text), QUOTED_CHARS)[0]
