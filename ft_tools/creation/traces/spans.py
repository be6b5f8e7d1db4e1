"""Spans and log records of OpenTelemetry, as OTLP's JSON or as exporters print them."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ft_tools.creation.traces.conversation import LogRow
from ft_tools.creation.traces.messages import parsed
from ft_tools.formats.turns import first_of

FAMILIES = (("resourceSpans", "scopeSpans", "spans"), ("resourceLogs", "scopeLogs", "logRecords"))
FAILED = (2, "STATUS_CODE_ERROR", "ERROR", "StatusCode.ERROR")


@dataclass
class Span:
    """A span, or a log record: its attributes flat, as the conventions name them."""

    row: LogRow
    name: str
    trace: str
    span: str
    parent: str
    date: str
    attributes: dict[str, Any]
    body: Any = None
    has_failed: bool = False
    events: list["Span"] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    """Ids of the spans that it is about."""


def fits(row: Mapping[str, Any]) -> bool:
    """Return whether a row is a span, a log record, or holds some."""
    if any(name in row for family in FAMILIES for name in family):
        return True
    has_ids = any(name in row for name in ("traceId", "trace_id", "context", "context.trace_id"))
    return (has_ids and any(name in row for name in ("attributes", "body"))) or any(
        name.startswith("attributes.") for name in row
    )


def spans_of(rows: Iterable[LogRow]) -> Iterator[Span]:
    """Yield every span and log record of some rows, its events after it."""
    for row in rows:
        for one in _members(row.value):
            span = _span(row, one)
            yield span
            yield from span.events


def _members(value: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the spans and records inside what OTLP groups by resource and scope."""
    inner = [one for family in FAMILIES for name in family for one in value.get(name) or []]
    if not inner:
        yield value
    for one in inner:
        if isinstance(one, Mapping):
            yield from _members(one)


def _span(row: LogRow, one: Mapping[str, Any], of: Span | None = None) -> Span:
    context = one.get("context") or one.get("spanContext") or {}
    trace, span = (
        str(first_of(one, *names) or context.get(names[0]) or context.get(names[1]) or "")
        for names in (
            ("traceId", "trace_id", "context.trace_id"),
            ("spanId", "span_id", "context.span_id"),
        )
    )
    attributes = {k: plain(v) for k, v in _pairs(one.get("attributes"))}
    attributes |= {
        name.removeprefix("attributes."): value
        for name, value in one.items()
        if name.startswith("attributes.")
    }
    status = one.get("status")
    code = (
        first_of(status, "code", "status_code")
        if isinstance(status, Mapping)
        else one.get("status_code")
    )
    name = first_of(one, "eventName", "event_name", "name") or attributes.get("event.name")
    made = Span(
        row,
        str(name or ""),
        of.trace if of else trace,
        of.span if of else span,
        str(first_of(one, "parentSpanId", "parent_span_id", "parent_id") or ""),
        str(
            first_of(
                one,
                "startTimeUnixNano",
                "start_time",
                "timeUnixNano",
                "time_unix_nano",
                "timestamp",
                "time",
            )
            or ""
        ),
        attributes,
        plain(one.get("body")),
        code in FAILED or (isinstance(status, str) and status in FAILED),
    )
    for link in parsed(one.get("links")) or []:
        at = link.get("context", link) if isinstance(link, Mapping) else {}
        made.links.append(str(first_of(at, "spanId", "span_id") or ""))
    events = parsed(one.get("events")) or []
    made.events = [_span(row, event, made) for event in events if isinstance(event, Mapping)]
    return made


def _pairs(attributes: Any) -> Iterable[tuple[str, Any]]:
    """Return attributes as names and values: OTLP has a list of them."""
    attributes = parsed(attributes)
    if isinstance(attributes, Mapping):
        return attributes.items()
    listed = attributes if isinstance(attributes, list) else []
    return [
        (str(one["key"]), one.get("value"))
        for one in listed
        if isinstance(one, Mapping) and "key" in one
    ]


def plain(value: Any) -> Any:
    """Return an AnyValue of OTLP as JSON has it.

    >>> plain({"kvlistValue": {"values": [{"key": "a", "value": {"intValue": "1"}}]}})
    {'a': 1}
    """
    if not isinstance(value, Mapping) or len(value) != 1:
        return value
    ((kind, held),) = value.items()
    if kind == "arrayValue":
        return [plain(one) for one in held.get("values") or []]
    if kind == "kvlistValue":
        return {name: plain(one) for name, one in _pairs(held.get("values"))}
    if kind == "intValue":
        return int(held)
    return held if kind in {"stringValue", "doubleValue", "boolValue"} else value


def nested(attributes: Mapping[str, Any], prefix: str) -> Any:
    """Return flattened attributes below a prefix as lists and objects; what is whole stays so.

    >>> nested({"m.0.role": "user", "m.1.role": "tool"}, "m")
    [{'role': 'user'}, {'role': 'tool'}]
    """
    if prefix in attributes:
        return parsed(attributes[prefix])
    tree: dict[str, Any] = {}
    for name, value in attributes.items():
        if name.startswith(f"{prefix}."):
            *path, last = name.removeprefix(f"{prefix}.").split(".")
            at = tree
            for part in path:
                held = at.setdefault(part, {})
                at = held if isinstance(held, dict) else {}
            at[last] = value
    if not tree:
        above, _, last = prefix.rpartition(".")
        inner = nested(attributes, above) if above else None
        return inner.get(last) if isinstance(inner, Mapping) else None
    return _listed(tree)


def _listed(tree: Any) -> Any:
    """Turn objects whose names are all numbers into lists."""
    if not isinstance(tree, dict):
        return tree
    made = {name: _listed(value) for name, value in tree.items()}
    if made and all(name.isdecimal() for name in made):
        return [made[name] for name in sorted(made, key=int)]
    return made
