"""Read logs of any known format into conversations, and keep those that a condition is met by."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ft_tools.creation.traces import (
    claude_code,
    codex,
    langfuse,
    langsmith,
    openai_chat,
    openinference,
    otel,
    spans,
)
from ft_tools.creation.traces.conversation import Conversation, LogRow, longest
from ft_tools.creation.traces.keep import Keep, described_signs, marks_from
from ft_tools.creation.traces.messages import answered, normalised
from ft_tools.data.map.masking import mask_example
from ft_tools.errors import BadData, BadInput
from ft_tools.facts.teachers import Terms, terms_of
from ft_tools.formats.example import Example
from ft_tools.formats.readers.source import Source, find_sources, read

Reader = Callable[[Iterable[LogRow], "Counter[str]"], Iterator[Conversation]]


def _of_spans(rows: Iterable[LogRow], skipped: "Counter[str]") -> Iterator[Conversation]:
    """Read spans by the conventions of each: OpenInference names the kind of its own."""
    found = list(spans.spans_of(rows))
    theirs = {one.id for one in found if spans.nested(one.attributes, openinference.KIND)}
    yield from openinference.conversations((s for s in found if s.id in theirs), skipped)
    yield from otel.conversations((s for s in found if s.id not in theirs), skipped)


FORMATS: dict[str, tuple[Callable[[Mapping[str, Any]], bool], Reader]] = {
    codex.NAME: (codex.fits, codex.conversations),
    claude_code.NAME: (claude_code.fits, claude_code.conversations),
    langsmith.NAME: (langsmith.fits, langsmith.conversations),
    langfuse.NAME: (langfuse.fits, langfuse.conversations),
    "spans": (spans.fits, _of_spans),
    openai_chat.NAME: (openai_chat.fits, openai_chat.conversations),
}
"""Name -> whether a row is of the format, and its reader; the first that fits a file's row."""
TICKETS = {
    "conversation_parts": "Intercom",
    "satisfaction_rating": "Zendesk",
    "comments": "Zendesk",
}
LOOKED_AT = 50
"""Rows of a file by which its format is recognised."""


@dataclass(frozen=True)
class TraceRow:
    """A conversation that is kept, as it is trained on."""

    example: dict[str, Any]
    group: str
    origin: dict[str, Any]


@dataclass
class Traces:
    """What the logs hold, and what became of it."""

    rows: list[TraceRow] = field(default_factory=list)
    num_conversations: int = 0
    formats: "Counter[str]" = field(default_factory=Counter)
    counts: "Counter[str]" = field(default_factory=Counter)
    """What became of each conversation; adds up to `num_conversations`."""
    notes: "Counter[str]" = field(default_factory=Counter)
    """What was cut or put together inside conversations."""
    skipped: "Counter[str]" = field(default_factory=Counter)
    """Format and type of a row that is part of no conversation -> rows."""
    signs: dict[str, str] = field(default_factory=dict)
    models: "Counter[str]" = field(default_factory=Counter)
    terms: dict[str, Terms] = field(default_factory=dict)
    """Provider -> what its terms say, of the models that answered."""
    masked: "Counter[str]" = field(default_factory=Counter)


def read_traces(paths: Sequence[Path], keep: Keep | None, marks: Path | None = None) -> Traces:
    """Read logs, and keep the conversations that a condition is met by.

    Args:
        paths: Files or folders.
        keep: Without it nothing is kept: `signs` lists what there is to choose by.
        marks: A table of signs from elsewhere, by session.

    Raises:
        BadData: A file is of no known format, or holds no data.
        UnknownName: The condition names a sign that nothing has.
    """
    made = Traces()
    found = longest(_normalised(_conversations(paths, made.skipped)), made.notes)
    if marks is not None:
        signs = marks_from(
            row for source in find_sources(marks) for row in _rows(source, Counter())
        )
        for one in found:
            one.add_signs(signs)
    made.num_conversations = len(found)
    made.formats = Counter(one.format for one in found)
    made.signs = described_signs(found)
    if keep is not None:
        keep.require_signs(made.signs)
    for one in found:
        messages = answered(one.messages, made.notes)
        why = f"failed: {one.failed}" if one.failed else "" if messages else "nothing_answered"
        why = why or (keep.unmet(one) if keep else "undecided")
        made.counts[why or "kept"] += 1
        made.models[one.model or "unknown"] += 1
        if not why:
            made.rows.append(_row(one, messages, made.masked))
    made.terms = dict(terms_of(model) for model in made.models)
    return made


def _conversations(paths: Sequence[Path], skipped: "Counter[str]") -> Iterator[Conversation]:
    """Yield the conversations of all files; rows of one format are read together."""
    by_format: dict[str, list[LogRow]] = {}
    for path in paths:
        for source in find_sources(path):
            rows = list(_rows(source, skipped))
            by_format.setdefault(_format_of(source.path, rows), []).extend(rows)
    for name, rows in by_format.items():
        yield from FORMATS[name][1](rows, skipped)


def _rows(source: Source, skipped: "Counter[str]") -> Iterator[LogRow]:
    """Yield the rows of a file that are objects, of every list of an object."""
    lists: list[str | None] = [name for name, _ in source.lists]
    for select in lists or [source.select]:
        for row in read(replace(source, select=select)):
            if isinstance(row.value, Mapping):
                yield LogRow(source.path.name, row.number, row.value)
            else:
                skipped[row.problem or f"row_of_{type(row.value).__name__}"] += 1


def _format_of(path: Path, rows: Sequence[LogRow]) -> str:
    """Return the format of a file by the keys of its first rows.

    Raises:
        BadInput: They are tickets, which prepare_dataset reads.
        BadData: They are of no known format.
    """
    first = [row.value for row in rows[:LOOKED_AT]]
    name = next((n for n, (fits, _) in FORMATS.items() if any(map(fits, first))), None)
    if name is not None:
        return name
    desk = next((desk for key, desk in TICKETS.items() for row in first if key in row), None)
    if desk:
        raise BadInput(
            f"{path}: looks like an export of {desk}; prepare_dataset reads it with "
            "mapping.turns (explain('prepare_dataset.mapping'))"
        )
    keys = ", ".join(sorted(map(str, first[0]))[:8]) if first else "none"
    raise BadData(path, f"is no known log (columns: {keys})", f"known: {', '.join(FORMATS)}")


def _normalised(found: Iterable[Conversation]) -> Iterator[Conversation]:
    for one in found:
        one.messages = normalised(one.messages)
        yield one


def _row(one: Conversation, messages: list[dict[str, Any]], masked: "Counter[str]") -> TraceRow:
    """Return a conversation as a row, its secrets and personal data masked."""
    example = Example(one.row.line, one.format, "sft", messages, tools=one.tools or None)
    masked.update(mask_example(example))
    for message in example.messages:
        if message.get("tool_call_id", "") is None:
            del message["tool_call_id"]
    _, terms = terms_of(one.model)
    origin = {
        "kind": "traces",
        "source": f"{one.row.file}:{one.row.line}",
        "format": one.format,
        "session": one.session,
        "trace": one.trace,
        "teacher": one.model,
        "date": one.date,
        "signs": {sign.name: sign.value for sign in one.signs},
        "terms": terms.source,
        "terms_read": terms.read,
    }
    return TraceRow(example.row(), one.group, origin)
