"""Exports of tracing tools and chat logs; where each has what is read says `paths.toml`.

OpenTelemetry's spans and log records come as OTLP's JSON, as exporters print them, or as tables of
Phoenix; those of OpenInference have other names for the same.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any

from ft_tools.creation.traces.log import CUT, NO_ANSWER, NOT_FINISHED, Conversation, Log, LogRow
from ft_tools.creation.traces.messages import (
    answer_of,
    found_at,
    items_of,
    messages_of,
    nested,
    object_of,
    objects_of,
    parsed,
    text_at,
    tools_of,
    value_at,
)
from ft_tools.facts import table_of
from ft_tools.formats.column_counts import number_of

OPENAI, LANGFUSE, LANGSMITH = "openai_chat", "langfuse", "langsmith"
OTEL, OPENINFERENCE = "otel_genai", "openinference"
TEXTS = ("id", "parent", "response", "session", "trace", "model", "date")
NAMES = frozenset(
    {"id", "custom_id", "request_id", "model", "method", "type", "endpoint", "url", "object"}
    | {"session_id", "session", "conversation_id", "thread_id", "chat_id", "trace_id"}
    | {"timestamp", "ts", "created_at", "date", "time"}
)
"""What names or dates a row of a chat log; its other scalars are signs, and those in `BESIDE`."""
BESIDE = ("metadata", "scores", "feedback")
GROUPS = ("resource_spans", "scope_spans", "spans", "resource_logs", "scope_logs", "log_records")
FAILED = frozenset({"2", "STATUS_CODE_ERROR", "ERROR", "StatusCode.ERROR"})
HELD = "attributes."
"""Before the names of attributes in a table."""
EVALUATION = "gen_ai.evaluation"
OLD = {f"gen_ai.{role}.message": role for role in ("system", "user", "assistant", "tool")}
"""Events of messages, as they were up to 1.36 -> who speaks."""


@cache
def paths_of(format_name: str) -> Mapping[str, str]:
    """Return what is read of a format -> where it may stand."""
    return defaultdict(str, table_of("paths.toml", "creation.traces")[format_name])


def _call(
    format_name: str, row: LogRow, value: Mapping[str, Any], kind: str = "", failed: str = ""
) -> Conversation:
    """Return a call of a model, or what is none; it failed if it was cut off, or has no answer."""
    paths = paths_of(format_name)
    made = Conversation(format_name, row, kind=kind, failed=failed)
    for name in TEXTS:
        setattr(made, name, text_at(value, paths[name]))
    if kind:
        return made
    answer = answer_of(value_at(value, paths["answered"]))
    system = value_at(value, paths["system"])
    # In attributes of OpenTelemetry the list of its parts is a text.
    system = parts if isinstance(parts := parsed(system), list) else system
    told = messages_of({"role": "system", "content": system}) if system else []
    made.messages = [*told, *messages_of(value_at(value, paths["asked"])), *answer]
    made.tools = tools_of(value_at(value, paths["tools"]))
    made.is_answered = bool(answer)
    reasons = (str(one) for found in found_at(value, paths["reasons"]) for one in items_of(found))
    cut = next((CUT[name] for name in reasons if name in CUT), "")
    made.failed = failed or cut or ("" if answer else NO_ANSWER)
    return made


def snake(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with its own names as files spell them, where an API has camelCase."""
    return {re.sub(r"(?<=[a-z])(?=[A-Z])", "_", k).lower(): v for k, v in row.items()}


# ------------------------------------------------------------------- chat completions of OpenAI


def with_list(row: Any, name: str, depth: int = 3) -> Mapping[str, Any] | None:
    """Return the object, the row or one inside it, that has a list under a name."""
    held = object_of(row)
    if isinstance(parsed(held.get(name)), list):
        return held
    inner = (with_list(one, name, depth - 1) for one in held.values() if depth > 1)
    return next(filter(None, inner), None)


def openai(rows: Iterable[LogRow], log: Log) -> Iterator[Conversation]:
    """Yield a conversation for each answer; a batch's request and response are joined by id."""
    listed = [
        (row, with_list(row.value, "messages"), with_list(row.value, "choices")) for row in rows
    ]
    requests = {text_at(row.value, "custom_id"): request for row, request, _ in listed if request}
    for row, own, response in listed:
        batch = text_at(row.value, "custom_id")
        request = own or (requests.get(batch) if batch else None)
        if request is None or (response is None and row.value.get("method")):
            kind = text_at(row.value, "type endpoint url object") or "no_messages"
            log.skipped[f"{OPENAI}.{'response_without_request' if response else kind}"] += 1
            continue
        choices = objects_of(response["choices"]) if response else [{}]
        *before, last = items_of(request["messages"]) or [None]
        if response is None and [m["role"] for m in messages_of(last)] == ["assistant"]:
            # The answer may be logged as the last message.
            request, choices = {**request, "messages": before}, [{"message": last}]
        noted = Log()
        for held in (row.value, *(object_of(row.value.get(name)) for name in BESIDE)):
            for name in (name for name in held if name not in NAMES):
                noted.sign("", name, held[name])
        for one in (one for name in BESIDE for one in items_of(row.value.get(name))):
            noted.sign("", text_at(one, "name"), value_at(one, "value score label"))
        for choice in choices:
            value: dict[str, Any] = {"row": row.value, "request": request, "response": response}
            refused = "refusal" if text_at(choice, "message.refusal") else None
            value |= {"choice": choice, "refused": refused}
            made = _call(OPENAI, row, value, failed="error" if row.value.get("error") else "")
            made.signs += noted.signs[""]
            yield made


# ---------------------------------------------------------------------- Langfuse and LangSmith


def langfuse(rows: Iterable[LogRow], log: Log) -> Iterator[Conversation]:
    """Yield the observations; scores are of them, or of what they are part of."""
    for row in rows:
        value = snake(row.value)
        if kind := text_at(value, "data_type"):
            score = value.get("value")
            # Of a category the value is only its index, of a text it is 0.
            if kind in {"CATEGORICAL", "TEXT"}:
                score = value.get("string_value")
            elif kind == "BOOLEAN":
                score = None if (number := number_of(score)) is None else bool(number)
            about = text_at(value, "observation_id trace_id session_id")
            log.sign(about, value.get("name"), score, source=value.get("source"))
            continue
        kind, failed = text_at(value, "type"), "error" if value.get("level") == "ERROR" else ""
        is_call = kind == "GENERATION" and messages_of(value_at(value, paths_of(LANGFUSE)["asked"]))
        yield _call(LANGFUSE, row, value, "" if is_call else kind, failed)


def langsmith(rows: Iterable[LogRow], log: Log) -> Iterator[Conversation]:
    """Yield the runs, those of models in LangChain's, OpenAI's or Anthropic's spelling."""
    for row in rows:
        value, outputs = row.value, object_of(row.value.get("outputs"))
        for name, held in object_of(value.get("feedback_stats")).items():
            # Of a number there is the mean, of a category each value.
            mean, labels = (object_of(held).get(key) for key in ("avg", "values"))
            values = object_of(labels) if mean is None else [mean]
            log.sign(text_at(value, "id"), name, *values)
        ends = {"": "", "success": "", "pending": NOT_FINISHED}
        failed = "error" if value.get("error") else ends.get(text_at(value, "status"), "error")
        # A batch holds one list of messages.
        turns, batch = (value_at(value, f"inputs.messages{place}") for place in ("", ".0"))
        more = {
            "asked": batch if isinstance(batch, list) else turns,
            "generated": value_at(outputs, "generations.0.0 generations.0"),
            "said": outputs if "content" in outputs else None,
        }
        kind = text_at(value, "run_type")
        is_call = kind == "llm" and messages_of(more["asked"])
        yield _call(LANGSMITH, row, {**value, **more}, "" if is_call else kind, failed)


# ------------------------------------------------------------------------------ OpenTelemetry


def spans(rows: Iterable[LogRow], log: Log) -> Iterator[Conversation]:
    """Yield the spans; each is what it, its events and its log records say."""
    parts: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
    evaluations: list[dict[str, Any]] = []
    read = {
        # A span that is exported twice says nothing twice; log records may repeat each other.
        (at if "body" in one else hash(json.dumps(one, sort_keys=True))): (row, one)
        for at, (row, one) in enumerate((row, one) for row in rows for one in _members(row.value))
    }
    for record in (found for row, one in read.values() for found in _records(row, one)):
        is_verdict = record["name"] == f"{EVALUATION}.result"
        (evaluations if is_verdict else parts[record["trace"], record["span"]]).append(record)
    found = [_span(held, log) for held in parts.values()]
    judged = {one.parent for one in found} | {one.id for one in found if not one.kind}
    for record in evaluations:
        held = record["attributes"]
        # A span of its own that evaluates is about the one that it stands in.
        about = record["span"] if record["span"] in judged else record["parent"]
        about = str(held.get("gen_ai.response.id") or about or held.get("session.id") or "")
        scores = [held.get(f"{EVALUATION}.score.{key}") for key in ("value", "label")]
        log.sign(about, held.get(f"{EVALUATION}.name"), *scores)
    yield from found


def _members(value: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the spans and records inside what OTLP groups by resource and scope."""
    value = snake(value)
    inner = [one for name in GROUPS for one in objects_of(value.get(name))]
    for one in inner:
        yield from _members(one)
    if not inner:
        yield value


def _records(row: LogRow, one: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a span or log record, then its events; attributes are flat."""
    flat = dict(_pairs(one.get("attributes")))
    flat |= {k.removeprefix(HELD): v for k, v in one.items() if k.startswith(HELD)}
    own = nested({name: value for name, value in one.items() if not name.startswith(HELD)})
    name = text_at(own, "event_name") or str(flat.get("event.name", "")) or text_at(own, "name")
    span, parent, trace, date = (
        text_at(own, paths_of(OTEL)[name]) for name in ("id", "parent", "trace", "date")
    )
    ids = {"span": span, "parent": parent, "trace": trace, "row": row}
    failed = text_at(own, "status.code status.status_code status_code status") in FAILED
    more = {"name": name, "date": date, "attributes": flat, "has_failed": failed}
    yield own | ids | more | {"body": _plain(own.get("body"))}
    for event in objects_of(own.get("events")):
        yield from (inner | ids for inner in _records(row, snake(event)))


def _pairs(held: Any) -> Iterator[tuple[str, Any]]:
    """Yield names and values of attributes: an object, or OTLP's list of keys and values."""
    if isinstance(parsed(held), Mapping):
        yield from ((name, _plain(value)) for name, value in object_of(held).items())
    else:
        yield from ((text_at(one, "key"), _plain(one.get("value"))) for one in objects_of(held))


def _plain(value: Any) -> Any:
    """Return a value as JSON has it, where OTLP says of which type it is.

    >>> _plain({"intValue": "2"}), _plain({"arrayValue": {"values": [{"doubleValue": 0.5}]}})
    (2, [0.5])
    """
    is_typed = isinstance(value, Mapping) and len(value) == 1
    kind, held = next(iter(value.items())) if is_typed else ("", None)
    if kind == "arrayValue":
        return [_plain(one) for one in objects_of(object_of(held).get("values"))]
    if kind == "kvlistValue":
        return dict(_pairs(object_of(held).get("values")))
    if kind == "intValue" and str(held).removeprefix("-").isdecimal():
        return int(str(held))
    return held if kind in {"stringValue", "doubleValue", "boolValue"} else value


def _span(parts: list[dict[str, Any]], log: Log) -> Conversation:
    """Return what a span, its events and its log records say; add the verdicts in it."""
    span = next((one for one in parts if not one["name"].startswith("gen_ai.")), parts[0])
    flat = {name: value for one in parts for name, value in one["attributes"].items()}
    choice = next((one for one in parts if one["name"] == "gen_ai.choice"), None)
    old = sorted((one for one in parts if one["name"] in OLD), key=lambda one: one["date"])
    value = span | nested(flat)
    value["old_asked"] = list(map(_old_message, old)) or None
    value["old_answered"] = choice and (object_of(choice["body"]) or choice["attributes"])
    failed = "error.type" in flat or any(one["has_failed"] for one in parts)
    kind = text_at(value, "openinference.span.kind")
    if kind:
        failed = failed or any(one["name"] == "exception" for one in parts)
        _add_verdicts(value, span, log)
    name = OPENINFERENCE if kind else OTEL
    paths, no_call = paths_of(name), kind if kind not in {"", "LLM"} else ""
    if value_at(value, f"{paths['asked']} {paths['answered']}") is None:
        no_call = kind or text_at(value, "gen_ai.operation.name") or span["name"] or "span"
    return _call(name, span["row"], value, no_call, "error" if failed else "")


def _add_verdicts(value: Mapping[str, Any], span: Mapping[str, Any], log: Log) -> None:
    """Add what OpenInference's annotations and evaluations say of a span, its trace and session."""
    # A verdict that comes later is a span of its own, which links to what it is about.
    linked = [
        text_at(one, paths_of(OTEL)["id"] + " spanId") for one in objects_of(span.get("links"))
    ]
    abouts = [("", about) for about in linked or [span["span"]]]
    abouts += [("trace.", span["trace"]), ("session.", text_at(value, "session.id"))]
    for where, about in abouts:
        for name in ("annotation", "evaluation"):
            for one in objects_of(value_at(value, f"{where}{name}s")):
                verdict = object_of(nested(one).get(name, one))
                said = (verdict.get("score"), verdict.get("label"))
                log.sign(about, verdict.get("name"), *said, source=verdict.get("annotator_kind"))


def _old_message(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message of the older form; the id of a tool's message is that of the call."""
    body = object_of(record["body"]) or record["attributes"]
    content = parsed(body.get("content"))
    content = content if isinstance(content, list) else body.get("content")
    role = body.get("role") or OLD[record["name"]]
    return {**body, "role": role, "content": content, "tool_call_id": body.get("id")}
