"""Langfuse: observations and scores, as exported to a bucket or as its API returns them."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ft_tools.creation.traces.conversation import Conversation, LogRow, Sign, sign_of
from ft_tools.creation.traces.messages import answer_of, calls_of, messages_of, parsed, parsed_parts
from ft_tools.creation.traces.openai_chat import failure_of, tool_of, tools_of
from ft_tools.formats.turns import first_of

NAME = "langfuse"


def fits(row: Mapping[str, Any]) -> bool:
    """Return whether a row is an observation or a score."""
    return _is_score(row) or (
        "type" in row and any(n in row for n in ("parent_observation_id", "parentObservationId"))
    )


def _is_score(row: Mapping[str, Any]) -> bool:
    return first_of(row, "data_type", "dataType") is not None and "name" in row


def conversations(rows: Iterable[LogRow], skipped: "Counter[str]") -> Iterator[Conversation]:
    """Yield a conversation for each generation, with the scores on it, its trace and session."""
    listed = list(rows)
    signs: dict[str, list[Sign]] = defaultdict(list)
    for row in listed:
        if _is_score(row.value):
            names = (
                ("observation_id", "observationId"),
                ("trace_id", "traceId"),
                ("session_id", "sessionId"),
            )
            about = next(
                (str(found) for pair in names if (found := first_of(row.value, *pair))), ""
            )
            signs[about] += _signs(row.value)
    for row in listed:
        value = row.value
        if _is_score(value):
            continue
        made = _conversation(row) if value.get("type") == "GENERATION" else None
        if made is None:
            kind = value.get("type")
            skipped[f"{NAME}.{kind}{'_without_messages' if kind == 'GENERATION' else ''}"] += 1
            continue
        for name in {*made.ids, made.session, made.trace}:
            made.signs += signs.get(name, [])
        yield made


def _signs(score: Mapping[str, Any]) -> list[Sign]:
    """Return a score: of a category the value is only its index, of a text it is 0."""
    kind, value = first_of(score, "data_type", "dataType"), score.get("value")
    if kind in {"CATEGORICAL", "TEXT"}:
        value = first_of(score, "string_value", "stringValue")
    elif kind == "BOOLEAN":
        value = bool(float(value)) if isinstance(value, int | float | str) and value != "" else None
    elif isinstance(value, str):
        value = float(value) if value else None
    return sign_of(score["name"], value)


def _conversation(row: LogRow) -> Conversation | None:
    value = row.value
    asked, output = parsed(value.get("input")), parsed(value.get("output"))
    request = asked if isinstance(asked, Mapping) and "messages" in asked else {"messages": asked}
    choices = parsed_parts(output.get("choices")) if isinstance(output, Mapping) else []
    choice = choices[0] if choices else {}
    said = choice.get("message", output)
    answer = answer_of(said)
    calls = [one for one in parsed_parts(parsed(first_of(value, "tool_calls", "toolCalls"))) if one]
    if calls and not any("tool_calls" in message for message in answer):
        made = {"role": "assistant", "content": ""}
        answer = [
            {**(answer[0] if answer else made), "tool_calls": [*calls_of({"tool_calls": calls})]}
        ]
    turns = messages_of(request["messages"])
    if not turns:
        return None
    tools = tools_of(request)
    if not tools:
        defined = parsed(first_of(value, "tool_definitions", "toolDefinitions"))
        named = defined.items() if isinstance(defined, Mapping) else []
        tools = [tool_of({"name": name, **(parsed(one) or {})}) for name, one in named]
    said = said if isinstance(said, Mapping) else {}
    failed = "error" if value.get("level") == "ERROR" else failure_of(choice, said)
    return Conversation(
        NAME,
        row,
        [*turns, *answer],
        session=str(first_of(value, "session_id", "sessionId") or ""),
        trace=str(first_of(value, "trace_id", "traceId") or ""),
        model=str(first_of(value, "provided_model_name", "model") or ""),
        date=str(first_of(value, "start_time", "startTime") or ""),
        tools=tools,
        failed=failed or ("" if answer else "no_answer"),
        ids=frozenset({str(value.get("id") or "")}),
        is_answered=bool(answer),
    )
