"""Langfuse: observations and scores, as exported to a bucket or as its API returns them."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ft_tools.creation.traces.conversation import (
    Conversation,
    LogRow,
    Node,
    Sign,
    call_of,
    calls_in,
    sign_of,
    text_at,
)
from ft_tools.creation.traces.messages import answer_of, messages_of, parsed, parsed_parts
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


def conversations(rows: Iterable[LogRow], skipped: "Counter[str]") -> Iterator[Conversation]:
    """Yield a conversation for each generation, with the scores on it, its trace and session."""
    signs: dict[str, list[Sign]] = defaultdict(list)
    nodes = []
    for row in rows:
        value = row.value
        if first_of(value, *KIND) is not None:
            about = (text_at(value, *names) for names in (OBSERVATION, TRACE, SESSION))
            signs[next(filter(None, about), "")] += _signs(value)
            continue
        kind, has_failed = text_at(value, "type"), value.get("level") == "ERROR"
        call = _call(row, has_failed=has_failed) if kind == "GENERATION" else None
        own = text_at(value, "id")
        nodes.append(Node(own, text_at(value, *PARENT), has_failed, f"{NAME}.{kind}", call))
    yield from calls_in(nodes, signs, skipped)


def _signs(score: Mapping[str, Any]) -> list[Sign]:
    """Return a score: of a category the value is only its index, of a text it is 0."""
    kind, value = text_at(score, *KIND), score.get("value")
    if kind in {"CATEGORICAL", "TEXT"}:
        value = first_of(score, "string_value", "stringValue")
    elif value not in (None, ""):
        value = bool(float(value)) if kind == "BOOLEAN" else float(value)
    return sign_of(score.get("name"), value)


def _call(row: LogRow, *, has_failed: bool) -> Conversation | None:
    value = row.value
    asked, output = parsed(value.get("input")), parsed(value.get("output"))
    request = asked if isinstance(asked, Mapping) and "messages" in asked else {"messages": asked}
    turns = messages_of(request["messages"])
    if not turns:
        return None
    choices = parsed_parts(output.get("choices")) if isinstance(output, Mapping) else []
    answer = answer_of(choices[0].get("message") if choices else output)
    if not any("tool_calls" in one for one in answer):
        calls = parsed(first_of(value, "tool_calls", "toolCalls"))
        answer = [*answer, *(answer_of({"tool_calls": calls}) if calls else [])]
    defined = parsed(first_of(value, "tool_definitions", "toolDefinitions"))
    named = defined.items() if isinstance(defined, Mapping) else []
    return call_of(
        NAME,
        row,
        turns,
        answer,
        has_failed=has_failed,
        reasons=[text_at(one, "finish_reason") for one in choices],
        session=text_at(value, *SESSION),
        trace=text_at(value, *TRACE),
        model=text_at(value, "provided_model_name", "model"),
        date=text_at(value, "start_time", "startTime"),
        tools=tools_of(request)
        or tools_of({"tools": [{"name": name, **(parsed(one) or {})} for name, one in named]}),
    )
