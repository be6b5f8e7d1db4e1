"""Read logs of any known format into conversations."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from ft_tools.creation.findings import refusal
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
from ft_tools.creation.traces.conversation import Conversation, LogRow, Node, Signs, calls_in
from ft_tools.creation.traces.messages import normalised
from ft_tools.errors import FineTuningError
from ft_tools.formats.column_counts import shown
from ft_tools.formats.readers.source import find_sources, read

Reader = Callable[[Iterable[LogRow], "Counter[str]"], Iterator[Conversation]]


def _of_spans(rows: Iterable[LogRow], skipped: "Counter[str]") -> Iterator[Conversation]:
    """Read spans by the conventions of each: OpenInference names the kind of its own."""
    found = list(spans.spans_of(rows))
    theirs = {one.id for one in found if spans.nested(one.attributes, openinference.KIND)}
    yield from _calls(openinference.nodes, (s for s in found if s.id in theirs), skipped)
    yield from _calls(otel.nodes, (s for s in found if s.id not in theirs), skipped)


def _calls(
    nodes: Callable[[Any, Signs], Iterable[Node]], rows: Iterable[Any], skipped: "Counter[str]"
) -> Iterator[Conversation]:
    """Read what calls are part of, and then the calls with the signs of it."""
    signs = Signs()
    yield from calls_in(nodes(rows, signs), signs, skipped)


FORMATS: dict[str, tuple[Callable[[Mapping[str, Any]], bool], Reader]] = {
    codex.NAME: (codex.fits, codex.conversations),
    claude_code.NAME: (claude_code.fits, claude_code.conversations),
    langsmith.NAME: (langsmith.fits, partial(_calls, langsmith.nodes)),
    langfuse.NAME: (langfuse.fits, partial(_calls, langfuse.nodes)),
    "spans": (spans.fits, _of_spans),
    openai_chat.NAME: (openai_chat.fits, openai_chat.conversations),
}
"""Name -> whether a row is of the format, and its reader; the first that fits a file's row."""
TICKETS = {
    "conversation_parts": "Intercom",
    "satisfaction_rating": "Zendesk",
    "comments": "Zendesk",
}
LOOKED_AT, MOST_KEYS = 50, 8
"""Rows of a file by which its format is recognised; keys of them that an error lists."""


def conversations_in(path: Path, skipped: "Counter[str]") -> Iterator[Conversation]:
    """Yield the conversations of a file or folder; rows of one format are read together.

    Args:
        path: A file or folder.
        skipped: Counts the rows that are part of no conversation, by format and type.

    Raises:
        BadInput: There is no file of a known format.
    """
    by_format: dict[str, list[LogRow]] = {}
    for _, held in groupby(rows_in(path, skipped), key=lambda row: row.file):
        rows = list(held)
        by_format.setdefault(_format_of(rows), []).extend(rows)
    unknown = by_format.pop("", [])
    if not by_format:
        raise _refusal(path, unknown)
    skipped["rows_of_no_known_format"] += len(unknown)
    for name, rows in by_format.items():
        for one in FORMATS[name][1](rows, skipped):
            one.messages = normalised(one.messages)
            yield one


def rows_in(path: Path, skipped: "Counter[str]") -> Iterator[LogRow]:
    """Yield the rows of a file or folder that are objects, of every list of an object."""
    for source in find_sources(path):
        file = os.path.relpath(source.path, path) if path.is_dir() else path.name
        lists: list[str | None] = [name for name, _ in source.lists]
        for select in lists or [source.select]:
            for row in read(replace(source, select=select)):
                if isinstance(row.value, Mapping):
                    yield LogRow(file, row.number, row.value)
                else:
                    skipped[row.problem or f"row_of_{type(row.value).__name__}"] += 1


def _format_of(rows: Sequence[LogRow]) -> str:
    """Return the format of a file by the keys of its first rows; empty if it is none."""
    first = [row.value for row in rows[:LOOKED_AT]]
    return next((name for name, (fits, _) in FORMATS.items() if any(map(fits, first))), "")


def _refusal(path: Path, rows: Sequence[LogRow]) -> FineTuningError:
    """Return the error about files that are no known log; of tickets, with what reads them."""
    keys = {key: None for row in rows[:LOOKED_AT] for key in row.value}
    if desk := next((desk for key, desk in TICKETS.items() if key in keys), None):
        return refusal("tickets", path=path, desk=desk)
    listed = ", ".join(map(shown, [*keys][:MOST_KEYS])) or "none"
    return refusal("unknown_log", path=path, keys=listed, known=", ".join(FORMATS))
