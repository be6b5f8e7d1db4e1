"""The conversations of logs as made rows, and what a plan says of the logs."""

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ft_tools.creation.findings import warning
from ft_tools.creation.report import LogCounts
from ft_tools.creation.rows import Made, MadeRow
from ft_tools.creation.traces.conversation import Conversation
from ft_tools.creation.traces.keep import Keep
from ft_tools.creation.traces.read import Traces, read_traces
from ft_tools.facts.teachers import terms_of
from ft_tools.formats.column_counts import shown
from ft_tools.formats.origin import Origin

MOST_LISTED = 20
UNITS = {10: 1, 13: 10**3, 16: 10**6, 19: 10**9}
"""Digits of a time today -> how many of its units are a second."""


def traced_rows(path: Path, name: str, digest: str, keep: Keep | None, marks: Path | None) -> Made:
    """Return the conversations of logs that meet the condition; without one, none.

    Args:
        path: A file or folder.
        name: Of it, as the caller wrote it.
        digest: Its sha256.
        keep: The condition.
        marks: A table of signs from elsewhere.

    Raises:
        BadInput: It is no known log, or the condition names a sign that nothing has.
    """
    traces = read_traces(path, keep, marks)
    rows = []
    for one in traces.kept:
        _, terms = terms_of(one.model)
        origin = Origin(
            kind="traces",
            source=f"{name}/{one.row.file}:{one.row.line}",
            source_sha256=digest,
            log_format=one.format,
            session=one.session or one.trace,
            teacher=one.model,
            date=_date(one.date),
            signs=_values(one),
            terms=terms.source,
            terms_read=terms.read,
        )
        asked = next(str(m["content"]) for m in one.messages if m["role"] == "user")
        rows.append(MadeRow(one.messages, asked, origin, one.group, one.tools or None))
    dropped = Counter({why: num for why, num in traces.counts.items() if why != "kept"})
    warnings = [] if keep else [warning("no_condition")]
    return Made(rows, traces.num_conversations, dropped, warnings, log=_counts(traces))


def _values(one: Conversation) -> dict[str, Any]:
    """Return the signs of a conversation; of several values of one name, a list."""
    found: dict[str, list[Any]] = {}
    for name, value in one.signs:
        found.setdefault(name, []).append(value)
    return {name: held[0] if len(held) == 1 else held for name, held in found.items()}


def _date(text: str) -> str:
    """Return a date as ISO has it, where it is a number since 1970.

    >>> _date("1767225600"), _date("1767225600000000000"), _date("2026-01-01")
    ('2026-01-01T00:00:00+00:00', '2026-01-01T00:00:00+00:00', '2026-01-01')
    """
    units = UNITS.get(len(text)) if text.isdecimal() else None
    return datetime.fromtimestamp(int(text) / units, UTC).isoformat() if units else text


def _counts(traces: Traces) -> LogCounts:
    providers = dict(map(terms_of, traces.models))
    return LogCounts(
        formats=dict(traces.formats),
        signs={shown(name): said for name, said in [*traces.signs.items()][:MOST_LISTED]},
        models=_listed(traces.models),
        terms={name: terms.edition or terms.read for name, terms in providers.items()},
        masked=_listed(traces.masked),
        skipped=_listed(traces.skipped),
        notes=_listed(traces.notes),
    )


def _listed(counted: Mapping[str, int]) -> dict[str, int]:
    """Return the commonest names with their counts, and what is left; a log's names are bounded."""
    found = [(shown(name), num) for name, num in Counter(counted).most_common() if num]
    others = sum(num for _, num in found[MOST_LISTED:])
    return dict(found[:MOST_LISTED]) | ({"others": others} if others else {})
