"""Spans and log records of OpenTelemetry, as OTLP's JSON or as exporters print them."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ft_tools.creation.traces.conversation import LogRow, text_at
from ft_tools.creation.traces.messages import object_of, objects_of, parsed

GROUPS = ("resourceSpans", "scopeSpans", "spans", "resourceLogs", "scopeLogs", "logRecords")
FAILED = frozenset({"2", "STATUS_CODE_ERROR", "ERROR", "StatusCode.ERROR"})
TRACE, SPAN = ("traceId", "trace_id", "context.trace_id"), ("spanId", "span_id", "context.span_id")
PARENT = ("parentSpanId", "parent_span_id", "parent_id")
DATES = ("startTimeUnixNano", "start_time", "timeUnixNano", "time_unix_nano", "timestamp", "time")
HELD = "attributes."
"""Before the names of attributes in a table."""


@dataclass(frozen=True)
class Span:
    """A span, an event of one, or a log record; attributes flat, as the conventions name them."""

    row: LogRow
    name: str
    trace: str
    id: str
    parent: str
    date: str
    attributes: dict[str, Any]
    body: Any
    has_failed: bool
    links: tuple[str, ...]
    """Ids of the spans that it is about."""
    is_event: bool = False


def fits(row: Mapping[str, Any]) -> bool:
    """Return whether a row is a span, a log record, or holds some."""
    has_ids = any(name in row for name in (*TRACE, "context", "spanContext"))
    has_attributes = "attributes" in row or "body" in row or any(n.startswith(HELD) for n in row)
    return (has_ids and has_attributes) or any(name in row for name in GROUPS)


def spans_of(rows: Iterable[LogRow]) -> Iterator[Span]:
    """Yield every span and log record of some rows, each before its events."""
    for row in rows:
        for one in _members(row.value):
            yield (span := _span(row, one))
            for event in objects_of(one.get("events")):
                yield _span(row, event, span)


def _members(value: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the spans and records inside what OTLP groups by resource and scope."""
    inner = [one for name in GROUPS for one in objects_of(value.get(name))]
    for one in inner:
        yield from _members(one)
    if not inner:
        yield value


def _span(row: LogRow, one: Mapping[str, Any], of: Span | None = None) -> Span:
    context = one.get("context") or one.get("spanContext")
    attributes = dict(_pairs(one.get("attributes")))
    attributes |= {k.removeprefix(HELD): v for k, v in one.items() if k.startswith(HELD)}
    event = text_at(one, "eventName", "event_name") or text_at(attributes, "event.name")
    status = text_at(one.get("status"), "code", "status_code") or text_at(one, "status_code")
    links = objects_of(one.get("links"))
    return Span(
        row,
        event or text_at(one, "name"),
        of.trace if of else text_at(one, *TRACE) or text_at(context, *TRACE),
        of.id if of else text_at(one, *SPAN) or text_at(context, *SPAN),
        of.parent if of else text_at(one, *PARENT),
        text_at(one, *DATES),
        attributes,
        _plain(one.get("body")),
        (status or text_at(one, "status")) in FAILED,
        tuple(text_at(link, *SPAN) or text_at(link.get("context"), *SPAN) for link in links),
        is_event=of is not None,
    )


def _pairs(held: Any) -> Iterator[tuple[str, Any]]:
    """Yield names and values of attributes: an object, or OTLP's list of keys and values."""
    if isinstance(parsed(held), Mapping):
        yield from ((name, _plain(value)) for name, value in object_of(held).items())
    else:
        yield from ((text_at(one, "key"), _plain(one.get("value"))) for one in objects_of(held))


def _plain(value: Any) -> Any:
    """Return a value as JSON has it, where OTLP says of which type it is."""
    if not isinstance(value, Mapping) or len(value) != 1:
        return value
    ((kind, held),) = value.items()
    if kind == "arrayValue":
        return [_plain(one) for one in objects_of(object_of(held).get("values"))]
    if kind == "kvlistValue":
        return dict(_pairs(object_of(held).get("values")))
    if kind == "intValue":
        return int(held) if str(held).removeprefix("-").isdecimal() else held
    return held if kind in {"stringValue", "doubleValue", "boolValue"} else value


def nested(attributes: Mapping[str, Any], prefix: str) -> Any:
    """Return the attributes below a prefix as lists and objects, flattened or not.

    >>> nested({"m.0.role": "user", "m.1.role": "tool"}, "m"), nested({"m": {"a": 1}}, "m.a")
    ([{'role': 'user'}, {'role': 'tool'}], 1)
    """
    if prefix in attributes:
        return _undotted(parsed(attributes[prefix]))
    dotted = f"{prefix}."
    below = {k.removeprefix(dotted): v for k, v in attributes.items() if k.startswith(dotted)}
    if below:
        made = {name: nested(below, name) for name in {k.partition(".")[0]: None for k in below}}
        is_list = all(map(str.isdecimal, made))
        return [made[name] for name in sorted(made, key=int)] if is_list else made
    above, _, last = prefix.rpartition(".")
    return object_of(nested(attributes, above)).get(last) if above else None


def _undotted(value: Any) -> Any:
    """Return what a table of Phoenix holds below a column: objects whose names are flattened."""
    if isinstance(value, list):
        return [_undotted(one) for one in value]
    if isinstance(value, Mapping) and value and all("." in name for name in value):
        return {name: nested(value, name) for name in {key.partition(".")[0] for key in value}}
    return value
