"""Read logs of any known format into conversations."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

from ft_tools.creation.findings import refusal
from ft_tools.creation.traces import claude_code, codex, observations, openai_chat, spans
from ft_tools.creation.traces.conversation import Conversation, LogRow
from ft_tools.creation.traces.messages import normalised
from ft_tools.formats.column_counts import shown
from ft_tools.formats.readers.source import find_sources, read

Reader = Callable[[Iterable[LogRow], "Counter[str]"], Iterator[Conversation]]
FORMATS: dict[str, tuple[Callable[[Mapping[str, Any]], bool], Reader]] = {
    codex.NAME: (codex.fits, codex.conversations),
    claude_code.NAME: (claude_code.fits, claude_code.conversations),
    observations.LANGSMITH: (observations.fits_langsmith, observations.langsmith),
    observations.LANGFUSE: (observations.fits_langfuse, observations.langfuse),
    "spans": (spans.fits, spans.conversations),
    openai_chat.NAME: (openai_chat.fits, openai_chat.conversations),
}
"""Name -> whether a row is of the format, and its reader; the first that fits a file's row."""
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
        keys = dict.fromkeys(key for row in unknown[:LOOKED_AT] for key in row.value)
        listed = ", ".join(map(shown, [*keys][:MOST_KEYS])) or "none"
        raise refusal("unknown_log", path=path, keys=listed, known=", ".join(FORMATS))
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
