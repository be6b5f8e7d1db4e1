"""The conversations of logs as made rows, and what a plan says of the logs."""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ft_tools import workspace
from ft_tools.creation.findings import warning
from ft_tools.creation.report import LogCounts
from ft_tools.creation.request import CreateRequest
from ft_tools.creation.rows import Made, MadeRow
from ft_tools.creation.traces.conversation import NOT_FINISHED, Conversation, longest
from ft_tools.creation.traces.keep import Keep, described_signs, marks_from
from ft_tools.creation.traces.messages import answered
from ft_tools.creation.traces.read import conversations_in, rows_in
from ft_tools.data.judge.privacy import left_readable
from ft_tools.data.map.masking import mask_example, replace_in
from ft_tools.facts.teachers import terms_of
from ft_tools.formats.column_counts import shown
from ft_tools.formats.example import Example, Message
from ft_tools.formats.origin import Origin

MOST_LISTED = 20


def traced_rows(request: CreateRequest, path: Path, digest: str) -> Made:
    """Return the conversations of logs that meet the condition; without one, none.

    Args:
        request: With the condition; without one the counts list the signs to choose by.
        path: A file or folder.
        digest: Its sha256.

    Raises:
        BadInput: It is no known log.
        UnknownName: The condition names a sign that nothing has.
    """
    skipped, notes, masked, left, dropped = (Counter[str]() for _ in range(5))
    replaced = Counter(dict.fromkeys(request.replace, 0))
    calls = list(conversations_in(path, skipped))
    if request.marks:
        marks = marks_from(rows_in(workspace.existing(request.marks), skipped))
        for one in calls:
            one.add_signs(marks)
    found = longest(calls, notes)
    if request.keep is not None:
        request.keep.require_sign(found)
    rows = []
    for one in found:
        messages = answered(one.messages, notes)
        if why := _why_dropped(one, messages, request.keep):
            dropped[why] += 1
            continue
        example = Example(one.row.line, one.format, "sft", messages, tools=one.tools or None)
        replaced.update(replace_in(example, request.replace, f"{one.row.file}:{one.row.line}"))
        masked.update(mask_example(example))
        left.update(left_readable(json.dumps([example.messages, example.tools])))
        asked = next(str(m["content"]) for m in messages if m["role"] == "user")
        name = f"{request.source}/{one.row.file}" if path.is_dir() else request.source
        origin = _origin(one, name, digest)
        rows.append(MadeRow(example.messages, asked, origin, one.group, example.tools))
    models = Counter(one.model or "unknown" for one in found)
    log = LogCounts(
        formats=dict(Counter(one.format for one in found)),
        signs={shown(name): said for name, said in [*described_signs(found).items()][:MOST_LISTED]},
        models=_listed(models),
        terms={name: row.edition or row.read or "unknown" for name, row in map(terms_of, models)},
        masked=_listed(masked),
        replaced={shown(pattern): num for pattern, num in replaced.items()},
        skipped=_listed(skipped),
        notes=_listed(notes),
    )
    warnings = [] if request.keep else [warning("no_condition")]
    if left:
        listed = ", ".join(f"{num} {kind}" for kind, num in left.most_common())
        warnings.append(warning("left_readable", listed=listed))
    return Made(rows, len(found), dropped, warnings, log=log)


def _why_dropped(one: Conversation, messages: list[Message], keep: Keep | None) -> str:
    """Return why a conversation is not kept; empty if it is."""
    called = [call for message in one.messages for call in message.get("tool_calls", [])]
    failed = one.failed
    if not failed and any(isinstance(call["function"]["arguments"], str) for call in called):
        failed = "broken_arguments"
    if failed:
        return failed if failed == NOT_FINISHED else f"failed: {failed}"
    if not messages:
        return "nothing_answered"
    return keep.unmet(one) if keep else "undecided"


def _origin(one: Conversation, file: str, digest: str) -> Origin:
    _, terms = terms_of(one.model)
    signs = defaultdict[str, list[Any]](list)
    for sign in one.signs:
        signs[sign.label].append(sign.value)
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
