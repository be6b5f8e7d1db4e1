"""Spans and log records of OpenTelemetry, by its own conventions and by OpenInference's.

They come as OTLP's JSON, as exporters print them, or as tables of Phoenix.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ft_tools.creation.traces.conversation import (
    Conversation,
    LogRow,
    Node,
    Signs,
    call_of,
    calls_in,
)
from ft_tools.creation.traces.messages import (
    answer_of,
    items_of,
    messages_of,
    object_of,
    objects_of,
    parsed,
    text_at,
    tools_of,
)
from ft_tools.formats.example import Message

OTEL, OPENINFERENCE = "otel_genai", "openinference"
GROUPS = ("resourceSpans", "scopeSpans", "spans", "resourceLogs", "scopeLogs", "logRecords")
FAILED = frozenset({"2", "STATUS_CODE_ERROR", "ERROR", "StatusCode.ERROR"})
TRACE, SPAN = ("traceId", "trace_id", "context.trace_id"), ("spanId", "span_id", "context.span_id")
PARENT = ("parentSpanId", "parent_span_id", "parent_id")
DATES = ("startTimeUnixNano", "start_time", "timeUnixNano", "time_unix_nano", "timestamp", "time")
HELD = "attributes."
"""Before the names of attributes in a table."""
KIND = "openinference.span.kind"
EVALUATION, CHOICE = "gen_ai.evaluation", "gen_ai.choice"
OLD = {f"gen_ai.{role}.message": role for role in ("system", "user", "assistant", "tool")}
"""Events of messages, as they were up to 1.36 -> who speaks."""
ASKED = ("gen_ai.input.messages", "llm.input_messages")
ANSWERED = ("gen_ai.output.messages", "llm.output_messages")
REASONS = ("gen_ai.response.finish_reasons", "llm.finish_reason")
TOOLS = ("gen_ai.tool.definitions", "llm.tools")
MODELS = ("gen_ai.response.model", "gen_ai.request.model", "llm.model_name")
RESPONSE, SESSION = "gen_ai.response.id", ("gen_ai.conversation.id", "session.id")


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


def fits(row: Mapping[str, Any]) -> bool:
    """Return whether a row is a span, a log record, or holds some."""
    has_ids = any(name in row for name in (*TRACE, "context", "spanContext"))
    has_attributes = "attributes" in row or "body" in row or any(n.startswith(HELD) for n in row)
    return (has_ids and has_attributes) or any(name in row for name in GROUPS)


def conversations(rows: Iterable[LogRow], skipped: "Counter[str]") -> Iterator[Conversation]:
    """Yield the calls of models; a span is what it, its events and its log records say."""
    signs, evaluations = Signs(), list[Span]()
    parts: dict[str, list[Span]] = defaultdict(list)
    for span in _spans(rows):
        is_verdict = span.name == f"{EVALUATION}.result"
        (evaluations if is_verdict else parts[f"{span.trace} {span.id}"]).append(span)
    nodes = [_node(held, signs) for held in parts.values()]
    judged = {node.parent for node in nodes} | {node.id for node in nodes if node.call}
    for span in evaluations:
        held = span.attributes
        # A span of its own that evaluates is about the one that it stands in.
        about = span.id if span.id in judged else span.parent
        scores = [held.get(f"{EVALUATION}.score.{key}") for key in ("value", "label")]
        name = held.get(f"{EVALUATION}.name")
        signs.add(text_at(held, RESPONSE) or about or text_at(held, *SESSION), name, *scores)
    yield from calls_in(nodes, signs, skipped)


def _spans(rows: Iterable[LogRow]) -> Iterator[Span]:
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
    attributes = dict(_pairs(one.get("attributes")))
    attributes |= {k.removeprefix(HELD): v for k, v in one.items() if k.startswith(HELD)}
    event = text_at(one, "eventName", "event_name") or text_at(attributes, "event.name")
    status = text_at(one.get("status"), "code", "status_code") or text_at(one, "status_code")
    return Span(
        row,
        event or text_at(one, "name"),
        of.trace if of else _id(one, TRACE),
        of.id if of else _id(one, SPAN),
        of.parent if of else text_at(one, *PARENT),
        text_at(one, *DATES),
        attributes,
        _plain(one.get("body")),
        (status or text_at(one, "status")) in FAILED,
        tuple(_id(link, SPAN) for link in objects_of(one.get("links"))),
    )


def _id(one: Mapping[str, Any], names: tuple[str, ...]) -> str:
    return text_at(one, *names) or text_at(one.get("context") or one.get("spanContext"), *names)


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


def _node(parts: list[Span], signs: Signs) -> Node:
    """Return what a span, its events and its log records say; add the verdicts in it."""
    span = next((one for one in parts if not one.name.startswith("gen_ai.")), parts[0])
    held = {name: value for one in parts for name, value in one.attributes.items()}
    kind, session = str(nested(held, KIND) or ""), str(_first(held, SESSION) or "")
    failed = "error.type" in held or any(one.has_failed for one in parts)
    if kind:
        failed = failed or any(one.name == "exception" for one in parts)
        # A verdict that comes later is a span of its own, which links to what it is about.
        abouts = [("", about) for about in span.links or (span.id,)]
        for where, about in [*abouts, ("trace.", span.trace), ("session.", session)]:
            _add_verdicts(signs, held, where, about)
    operation = text_at(held, "gen_ai.operation.name") or span.name
    says = f"{OPENINFERENCE}.{kind}" if kind else f"{OTEL}.{operation}"
    call = _call(span, parts, held, session) if kind in {"", "LLM"} else None
    if call is not None and failed:
        call.failed = "error"
    return Node(span.id, span.parent, "error" if failed else "", says, call)


def _add_verdicts(signs: Signs, held: Mapping[str, Any], where: str, about: str) -> None:
    for name in ("annotation", "evaluation"):
        for one in objects_of(nested(held, f"{where}{name}s")):
            for verdict in objects_of(one.get(name, one)):
                said = (verdict.get("score"), verdict.get("label"))
                signs.add(about, verdict.get("name"), *said, source=verdict.get("annotator_kind"))


def _call(
    span: Span, parts: list[Span], held: Mapping[str, Any], session: str
) -> Conversation | None:
    """Return what a call of a model was asked and answered; None if nothing says so."""
    asked, outputs = messages_of(_first(held, ASKED)), items_of(_first(held, ANSWERED))
    reasons = items_of(_first(held, REASONS))
    if not asked:
        old = sorted((one for one in parts if one.name in OLD), key=lambda one: one.date)
        asked = [message for one in old for message in _old_message(one)]
        choices = [object_of(one.body) or one.attributes for one in parts if one.name == CHOICE]
        outputs = [parsed(choice.get("message")) or choice for choice in choices]
        reasons += [choice.get("finish_reason") for choice in choices]
    if not asked and not outputs:
        return None
    instructions = parsed(held.get("gen_ai.system_instructions"))
    system = messages_of({"role": "system", "parts": instructions}) if instructions else []
    tools = [object_of(one.get("tool", one)) for one in objects_of(_first(held, TOOLS))]
    return call_of(
        OPENINFERENCE if nested(held, KIND) else OTEL,
        span.row,
        [*system, *asked],
        answer_of(outputs[0]) if outputs else [],
        reasons=[*reasons, *(text_at(one, "finish_reason") for one in outputs)],
        session=session,
        trace=span.trace,
        id=text_at(held, RESPONSE),
        model=str(_first(held, MODELS) or ""),
        date=span.date,
        tools=tools_of([one.get("json_schema", one) for one in tools]),
    )


def _old_message(span: Span) -> list[Message]:
    """Read a message of the older form; the id of a tool's message is that of the call."""
    body = object_of(span.body) or span.attributes
    role, parts = body.get("role") or OLD[span.name], parsed(body.get("content"))
    content = parts if isinstance(parts, list) else body.get("content")
    return messages_of({**body, "role": role, "content": content, "tool_call_id": body.get("id")})


def _first(held: Mapping[str, Any], names: Iterable[str]) -> Any:
    """Return the first of these attributes that is there."""
    return next((value for name in names if (value := nested(held, name)) is not None), None)


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
