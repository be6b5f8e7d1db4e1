"""The conversations of logs as made rows, and what a plan says of the logs."""

import json
from collections import Counter
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
from ft_tools.creation.traces.keep import described_signs, marks_from
from ft_tools.creation.traces.messages import answered, has_broken_call
from ft_tools.creation.traces.read import conversations_in, rows_in
from ft_tools.data.judge.privacy import left_readable
from ft_tools.data.map.masking import mask_example, replace_in
from ft_tools.facts.teachers import terms_of
from ft_tools.formats.column_counts import shown
from ft_tools.formats.example import Example
from ft_tools.formats.origin import Origin

MOST_LISTED = 20
UNITS = {10: 1, 13: 10**3, 16: 10**6, 19: 10**9}
"""Digits of a time today -> how many of its units are a second."""


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
    keep, marks = request.keep, request.marks
    marked = marks_from(rows_in(workspace.existing(marks), skipped) if marks else ())
    notes["marks_of_no_conversation"] = len(
        marked.of.keys() - {about for one in calls for about in one.add_signs(marked)}
    )
    found = longest(calls, notes)
    if keep is not None:
        keep.require_signs(found)
    rows = []
    for one in found:
        messages = answered(one.messages, notes)
        failed = one.failed or "broken_arguments" * any(map(has_broken_call, one.messages))
        why = failed if failed == NOT_FINISHED else f"failed: {failed}" if failed else ""
        why = why or ("" if messages else "nothing_answered")
        if why := why or (keep.unmet(one) if keep else "undecided"):
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
    warnings = [] if keep else [warning("no_condition")]
    if left:
        listed = ", ".join(f"{num} {kind}" for kind, num in left.most_common())
        warnings.append(warning("left_readable", listed=listed))
    return Made(rows, len(found), dropped, warnings, log=log)


def _origin(one: Conversation, file: str, digest: str) -> Origin:
    _, terms = terms_of(one.model)
    return Origin(
        kind="traces",
        source=f"{file}:{one.row.line}",
        source_sha256=digest,
        log_format=one.format,
        session=one.session or one.trace,
        teacher=one.model,
        date=_date(one.date),
        signs=_values(one),
        terms=terms.source,
        terms_read=terms.read,
    )


def _values(one: Conversation) -> dict[str, Any]:
    """Return the signs of a conversation; of several values of one name, a list."""
    found: dict[str, list[Any]] = {}
    for sign in one.signs:
        found.setdefault(sign.label, []).append(sign.value)
    return {name: held[0] if len(held) == 1 else held for name, held in found.items()}


def _date(text: str) -> str:
    """Return a date as ISO has it, where it is a number since 1970.

    >>> _date("1767225600"), _date("1767225600000000000"), _date("2026-01-01")
    ('2026-01-01T00:00:00+00:00', '2026-01-01T00:00:00+00:00', '2026-01-01')
    """
    units = UNITS.get(len(text)) if text.isdecimal() else None
    return datetime.fromtimestamp(int(text) / units, UTC).isoformat() if units else text


def _listed(counted: Mapping[str, int]) -> dict[str, int]:
    """Return the commonest names with their counts, and what is left; a log's names are bounded."""
    found = [(shown(name), num) for name, num in Counter(counted).most_common() if num]
    others = sum(num for _, num in found[MOST_LISTED:])
    return dict(found[:MOST_LISTED]) | ({"others": others} if others else {})
