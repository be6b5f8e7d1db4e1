"""Langfuse: observations and scores, as exported to a bucket or as its API returns them."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ft_tools.creation.traces.conversation import (
    Conversation,
    LogRow,
    Node,
    Signs,
    call_of,
    text_at,
)
from ft_tools.creation.traces.messages import (
    answer_of,
    messages_of,
    object_of,
    objects_of,
    parsed,
)
from ft_tools.creation.traces.openai_chat import tools_of
from ft_tools.formats.turns import first_of

NAME = "langfuse"
PARENT = ("parent_observation_id", "parentObservationId")
OBSERVATION = ("observation_id", "observationId")
TRACE, SESSION = ("trace_id", "traceId"), ("session_id", "sessionId")
KIND = ("data_type", "dataType")


def fits(row: Mapping[str, Any]) -> bool:
    """Return whether a row is an observation or a score."""
    return any(name in row for name in (*PARENT, *KIND)) and ("type" in row or "name" in row)


def nodes(rows: Iterable[LogRow], signs: Signs) -> Iterator[Node]:
    """Yield each observation, with the call of a generation; add scores, of traces too."""
    for row in rows:
        value = row.value
        if text_at(value, *KIND):
            about = (text_at(value, *names) for names in (OBSERVATION, TRACE, SESSION))
            signs.add(
                next(filter(None, about), ""),
                value.get("name"),
                _score(value),
                source=value.get("source"),
            )
            continue
        kind, failed = text_at(value, "type"), "error" if value.get("level") == "ERROR" else ""
        call = _call(row) if kind == "GENERATION" else None
        own = text_at(value, "id")
        yield Node(own, text_at(value, *PARENT), failed, f"{NAME}.{kind}", call)


def _score(row: Mapping[str, Any]) -> Any:
    """Return a score: of a category the value is only its index, of a text it is 0."""
    kind, value = text_at(row, *KIND), row.get("value")
    if kind in {"CATEGORICAL", "TEXT"}:
        return first_of(row, "string_value", "stringValue")
    try:
        number = float(value or 0)
    except (TypeError, ValueError):
        return None
    return None if value in (None, "") else bool(number) if kind == "BOOLEAN" else number


def _call(row: LogRow) -> Conversation | None:
    value = row.value
    asked, output = parsed(value.get("input")), parsed(value.get("output"))
    request = object_of(asked)
    turns = messages_of(request.get("messages", asked))
    if not turns:
        return None
    choices = objects_of(object_of(output).get("choices"))
    answer = answer_of(choices[0].get("message") if choices else output)
    if not any("tool_calls" in one for one in answer):
        calls = parsed(first_of(value, "tool_calls", "toolCalls"))
        answer = [*answer, *(answer_of({"tool_calls": calls}) if calls else [])]
    defined = object_of(first_of(value, "tool_definitions", "toolDefinitions"))
    tools = [{"name": name, **object_of(one)} for name, one in defined.items()]
    return call_of(
        NAME,
        row,
        turns,
        answer,
        reasons=[one.get("finish_reason") for one in choices],
        session=text_at(value, *SESSION),
        trace=text_at(value, *TRACE),
        model=text_at(value, "provided_model_name", "model"),
        date=text_at(value, "start_time", "startTime"),
        tools=tools_of(request) or tools_of({"tools": tools}),
    )
