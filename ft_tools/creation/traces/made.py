"""The conversations of logs of any known format as made rows, and what a plan says of the logs."""

import json
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

from ft_tools import workspace
from ft_tools.creation.findings import refusal, warning
from ft_tools.creation.report import LogCounts
from ft_tools.creation.request import CreateRequest
from ft_tools.creation.rows import Made, Row
from ft_tools.creation.traces import exports, sessions
from ft_tools.creation.traces.log import NO_ANSWER, NOT_FINISHED, Conversation, Keep, Log, LogRow
from ft_tools.creation.traces.messages import joined, text_at, trainable
from ft_tools.data.map.conditions import is_bound, is_one_of
from ft_tools.data.map.masking import mask_example, replace_in
from ft_tools.errors import UnknownName
from ft_tools.facts.teachers import terms_of
from ft_tools.formats.column_counts import ColumnCounts, number_of, shown
from ft_tools.formats.example import THOUGHTS, Example, Message
from ft_tools.formats.origin import Origin
from ft_tools.formats.readers.source import find_sources, read

READERS: dict[str, Callable[[list[LogRow], Log], Iterator[Conversation]]] = {
    sessions.CODEX: sessions.codex,
    sessions.CLAUDE: sessions.claude_code,
    exports.LANGSMITH: exports.langsmith,
    exports.LANGFUSE: exports.langfuse,
    "spans": exports.spans,
    exports.OPENAI: exports.openai,
}
"""Format -> its reader; the first format that a row of a file shows is that of the file."""
LOOKED_AT, MOST_KEYS, MOST_LISTED = 50, 8, 20
"""Rows of a file by which its format is recognised; keys of them that an error lists; names."""


def traced_rows(request: CreateRequest, path: Path, digest: str) -> Made:
    """Return the conversations of logs that meet the condition.

    Without a condition there are none, and the counts list the signs to choose by.

    Raises:
        BadInput: It is no known log.
        UnknownName: The condition names a sign that nothing has.
    """
    log, masked, rows = Log(), Counter[str](), list[Row]()
    replaced = Counter(dict.fromkeys(request.replace, 0))
    for mark in _rows_in(workspace.existing(request.marks), log) if request.marks else ():
        for name, value in mark.value.items():
            if name != "session" and value not in (None, ""):
                number = number_of(value)
                log.sign(text_at(mark.value, "session"), name, value if number is None else number)
    found = _joined(_read(path, log), log)
    signs = _signs_in(found, request.keep)
    for one in found:
        messages = trainable(one.messages, log.notes)
        name = f"{request.source}/{one.row.file}" if path.is_dir() else request.source
        row = Row(_origin(one, name, digest), group=one.group)
        rows.append(row)
        row.reason = _why_dropped(one, messages, request.keep)
        if row.reason:
            continue
        example = Example(one.row.line, one.format, "sft", messages, tools=one.tools or None)
        replaced.update(replace_in(example, request.replace, f"{one.row.file}:{one.row.line}"))
        masked.update(mask_example(example))
        row.messages, row.tools = example.messages, example.tools
        row.question = next(str(m["content"]) for m in messages if m["role"] == "user")
    models = Counter(one.model or "unknown" for one in found)
    counts = LogCounts(
        formats=dict(Counter(one.format for one in found)),
        signs=dict([*signs.items()][:MOST_LISTED]),
        models=_listed(models),
        terms={name: row.edition or row.read or "unknown" for name, row in map(terms_of, models)},
        masked=_listed(masked),
        replaced={shown(pattern): num for pattern, num in replaced.items()},
        skipped=_listed(log.skipped),
        notes=_listed(log.notes),
    )
    warnings = [] if request.keep else [warning("no_condition")]
    return Made(rows, warnings, log=counts)


def _read(path: Path, log: Log) -> Iterator[Conversation]:
    """Yield what a file or folder holds; rows of one format are read together."""
    by_format: dict[str, list[LogRow]] = defaultdict(list)
    for _, held in groupby(_rows_in(path, log), key=lambda row: row.file):
        rows = list(held)
        first = [row.value for row in rows[:LOOKED_AT]]
        fitting = (name for name in READERS if any(_shows(name, row) for row in first))
        by_format[next(fitting, "")] += rows
    unknown = by_format.pop("", [])
    if not by_format:
        keys = dict.fromkeys(key for row in unknown[:LOOKED_AT] for key in row.value)
        listed = ", ".join(map(shown, [*keys][:MOST_KEYS])) or "none"
        raise refusal("unknown_log", path=path, keys=listed, known=", ".join(READERS))
    log.skipped["rows_of_no_known_format"] += len(unknown)
    for name, rows in by_format.items():
        yield from READERS[name](rows, log)


def _shows(format_name: str, row: Mapping[str, Any]) -> bool:
    """Return whether a row is of a format, by its keys."""
    names = {*row, *(name.partition(".")[0] for name in exports.snake(row))}
    names.add(f"type={row.get('type')}")
    if format_name == exports.OPENAI:
        return any(exports.with_list(row, name) for name in ("messages", "choices"))
    groups = exports.paths_of(format_name)["shown_by"].split()
    return any(names.issuperset(group.split("+")) for group in groups)


def _rows_in(path: Path, log: Log) -> Iterator[LogRow]:
    """Yield the rows of a file or folder that are objects, of every list of an object."""
    for source in find_sources(path):
        file = os.path.relpath(source.path, path) if path.is_dir() else path.name
        lists: list[str | None] = [name for name, _ in source.lists]
        for select in lists or [source.select]:
            for row in read(replace(source, select=select)):
                if isinstance(row.value, Mapping):
                    yield LogRow(file, row.number, row.value)
                else:
                    log.skipped[row.problem or f"row_of_{type(row.value).__name__}"] += 1


def _joined(found: Iterable[Conversation], log: Log) -> list[Conversation]:
    """Return the calls and sessions with their signs; none is the beginning of another.

    What is said of something, and that it failed, holds for the calls in it. An agent sends all
    that was said with each call, so its last call holds the others and takes their signs. Without
    ids, what begins alike is one chat that went on.
    """
    listed = list(found)
    by_id = {one.id: one for one in listed if one.id}
    # What is exported twice counts as it was last; a span of another trace may have its id.
    names = [(one.trace, one.id) if one.id else at for at, one in enumerate(listed)]
    listed = list(dict(zip(names, listed, strict=True)).values())
    calls, kept = [one for one in listed if not one.kind], list[Conversation]()
    log.skipped.update(f"{one.format}.{one.kind}" for one in listed if one.kind)
    for one in calls:
        one.messages = joined(one.messages)
        _inherit(one, by_id, log)
    owners: dict[tuple[str, str, int], Conversation] = {}
    for one in sorted(calls, key=lambda one: -len(one.messages)):
        keys, before = list[tuple[str, str, int]](), 0
        for message in one.messages if one.is_answered else ():
            # Thoughts are not sent again.
            plain = {name: value for name, value in message.items() if name not in THOUGHTS}
            before = hash((before, json.dumps(plain, sort_keys=True)))
            keys.append((one.format, one.session or one.trace, before))
        owner = owners.get(keys[-1]) if keys else None
        if owner is None:
            kept.append(one)
            owners |= {key: one for key in keys if key not in owners}
        else:
            log.notes["contained_in_a_longer_one"] += 1
            owner.signs += [sign for sign in one.signs if sign not in owner.signs]
            owner.failed = owner.failed or one.failed
            owner.tools = owner.tools or one.tools
    return sorted(kept, key=lambda one: (one.row.file, one.row.line))


def _inherit(one: Conversation, by_id: Mapping[str, Conversation], log: Log) -> None:
    """Give a call the signs, and the failure, of what it is part of."""
    above, at = {one.id: one}, by_id.get(one.parent)
    while at is not None and at.id not in above:
        above[at.id] = at
        at = by_id.get(at.parent)
    names = dict.fromkeys([*above, one.response, one.session, one.trace])
    one.signs += [sign for name in names if name in log.signs and name for sign in log.signs[name]]
    if one.failed in {"", NO_ANSWER}:
        failures = sorted(each.failed for each in above.values() if each.failed)
        one.failed = next(iter(failures), one.failed)


def _why_dropped(one: Conversation, messages: list[Message], keep: Keep | None) -> str:
    """Return why a conversation is not kept; empty if it is.

    Every value of a sign has to be wanted, of the kind that is asked for: a score may have a
    label, too.
    """
    called = [call for message in one.messages for call in message.get("tool_calls", [])]
    failed = one.failed
    if not failed and any(isinstance(call["function"]["arguments"], str) for call in called):
        failed = "broken_arguments"
    if failed:
        return failed if failed == NOT_FINISHED else f"failed: {failed}"
    if not messages:
        return "nothing_answered"
    if keep is None:
        return "undecided"
    for name, wanted in keep.items() if keep != "not_failed" else ():
        are_numbers = {is_bound(each) or number_of(each) is not None for each in wanted}
        values = [value for label, value in one.signs if name in _names_of(label)]
        values = [value for value in values if (number_of(value) is not None) in are_numbers]
        if not all(is_one_of(value, wanted) for value in values) or not values:
            return "condition_not_met" if values else "unknown"
    return ""


def _names_of(label: str) -> set[str]:
    """Return what a condition may call a sign: with or without who said so."""
    return {label, label.rpartition(" [")[0] if label.endswith("]") else label}


def _signs_in(found: Iterable[Conversation], keep: Keep | None) -> dict[str, str]:
    """Return each sign, by its source, with its values.

    Raises:
        UnknownName: The condition is on a sign that no conversation has.
    """
    columns: dict[str, ColumnCounts] = {}
    for at, one in enumerate(found):
        for label, value in one.signs:
            columns.setdefault(label, ColumnCounts(label)).add(value, at)
    known = set[str]().union(*map(_names_of, columns))
    names = keep if keep and keep != "not_failed" else {}
    if other := next((name for name in names if name not in known), ""):
        cure = "or keep='not_failed', which needs no sign"
        raise UnknownName("sign", other, sorted(map(shown, known)), cure)
    return {shown(name): column.description for name, column in sorted(columns.items())}


def _origin(one: Conversation, file: str, digest: str) -> Origin:
    _, terms = terms_of(one.model)
    signs = defaultdict[str, list[Any]](list)
    for label, value in one.signs:
        signs[label].append(value)
    # What is a number since 1970, in seconds or parts of them, begins with ten digits of seconds.
    since = int(one.date[:10]) if one.date.isdecimal() else None
    date = one.date if since is None else datetime.fromtimestamp(since, UTC).isoformat()
    return Origin(
        kind="traces",
        source=f"{file}:{one.row.line}",
        source_sha256=digest,
        log_format=one.format,
        session=one.session or one.trace,
        teacher=one.model,
        date=date,
        signs={name: held[0] if len(held) == 1 else held for name, held in signs.items()},
        terms=terms.source,
        terms_read=terms.read,
    )


def _listed(counted: Mapping[str, int]) -> dict[str, int]:
    """Return the commonest names with their counts, and what is left; a log's names are bounded."""
    found = [(shown(name), num) for name, num in Counter(counted).most_common() if num]
    others = sum(num for _, num in found[MOST_LISTED:])
    return dict(found[:MOST_LISTED]) | ({"others": others} if others else {})
