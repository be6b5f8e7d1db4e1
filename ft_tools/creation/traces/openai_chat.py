"""Logs of OpenAI's chat completions: a request, its response, and what was noted beside them."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ft_tools.creation.traces.conversation import Conversation, LogRow, Signs, call_of
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
from ft_tools.formats.turns import first_of

NAME = "openai_chat"
SESSIONS = ("session_id", "session", "conversation_id", "thread_id", "chat_id", "trace_id")
DATES = ("timestamp", "ts", "created_at", "date", "time")
KINDS = ("type", "endpoint", "url", "object")
"""What says of which type a row is that holds no messages."""
BESIDE = ("metadata", "scores", "feedback")
"""Objects of signs; other scalars of a row are signs too, unless they name or date it."""
NAMES = frozenset({"id", "custom_id", "request_id", "model", "method", *KINDS, *SESSIONS, *DATES})
DEPTH = 3
"""Levels of a row in which the request and the response are looked for."""


def fits(row: Mapping[str, Any]) -> bool:
    """Return whether a row holds a request or a response of chat completions."""
    return _with(row, "choices") is not None or _with(row, "messages") is not None


def _with(row: Any, name: str, depth: int = DEPTH) -> Mapping[str, Any] | None:
    """Return the object, the row or one inside it, that has a list under a name."""
    held = object_of(row)
    if isinstance(parsed(held.get(name)), list):
        return held
    inner = (_with(one, name, depth - 1) for one in held.values() if depth > 1)
    return next(filter(None, inner), None)


def conversations(rows: Iterable[LogRow], skipped: "Counter[str]") -> Iterator[Conversation]:
    """Yield a conversation for each answer; a batch's request and response are joined by id."""
    listed = [(row, _with(row.value, "messages"), _with(row.value, "choices")) for row in rows]
    requests = {text_at(row.value, "custom_id"): request for row, request, _ in listed if request}
    for row, own, response in listed:
        batch = text_at(row.value, "custom_id")
        request = own or (requests.get(batch) if batch else None)
        if request is None or (response is None and row.value.get("method")):
            kind = "response_without_request" if response else text_at(row.value, *KINDS)
            skipped[f"{NAME}.{kind or 'no_messages'}"] += 1
            continue
        signs = _signs(row.value)
        for choice in objects_of(response["choices"]) if response else [{}]:
            made = _conversation(row, request, response or {}, choice)
            made.add_signs(signs, [""])
            yield made


def _conversation(
    row: LogRow, request: Mapping[str, Any], response: Mapping[str, Any], choice: Mapping[str, Any]
) -> Conversation:
    value, turns = row.value, messages_of(request["messages"])
    # Without a response the answer may be logged as the last message.
    at = -1 if not response and turns and turns[-1]["role"] == "assistant" else len(turns)
    refused = "refusal" if object_of(choice.get("message")).get("refusal") else ""
    return call_of(
        NAME,
        row,
        turns[:at],
        [*turns[at:], *answer_of(choice.get("message"))],
        failed="error" if value.get("error") else "",
        reasons=[choice.get("finish_reason"), refused],
        session=text_at(value, *SESSIONS) or text_at(value.get("metadata"), *SESSIONS),
        id=text_at(value, "id") or text_at(response, "id"),
        model=text_at(response, "model") or text_at(request, "model") or text_at(value, "model"),
        date=text_at(value, *DATES) or text_at(response, "created"),
        tools=tools_of(first_of(request, "tools", "functions")),
    )


def _signs(row: Mapping[str, Any]) -> Signs:
    """Return what was noted beside the request and its response."""
    signs = Signs()
    for held in (row, *(object_of(row.get(name)) for name in BESIDE)):
        for name in (name for name in held if name not in NAMES):
            signs.add("", name, held[name])
    for one in (one for name in BESIDE for one in items_of(row.get(name))):
        signs.add("", text_at(one, "name"), first_of(object_of(one), "value", "score", "label"))
    return signs
