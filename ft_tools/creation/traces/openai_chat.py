"""Logs of OpenAI's chat completions: a request, its response, and what was noted beside them."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ft_tools.creation.traces.conversation import Conversation, LogRow, Sign, sign_of
from ft_tools.creation.traces.messages import answer_of, messages_of, parsed
from ft_tools.formats.turns import first_of

NAME = "openai_chat"
SESSIONS = ("session_id", "conversation_id", "thread_id", "chat_id", "trace_id")
BESIDE = ("metadata", "scores", "feedback")
"""Objects of signs; the other scalars of a row are signs too, unless the API has them."""
OF_THE_API = frozenset(
    {"id", "object", "created", "created_at", "timestamp", "time", "date", "model", "user", "usage"}
    | {"service_tier", "system_fingerprint", "custom_id", "method", "url", "status_code"}
    | {"temperature", "top_p", "max_tokens", "max_completion_tokens", "stream", "n", "seed"}
    | {"finish_reason", "error", "request_id", "store", *SESSIONS}
)
FAILED = frozenset({"length", "content_filter", "error"})
"""Reasons for which an answer ended that is not whole."""
DATES = ("timestamp", "created_at", "date", "time")
DEPTH = 3
"""Levels of a row in which the request and the response are looked for."""


def fits(row: Mapping[str, Any]) -> bool:
    """Return whether a row holds a request or a response of chat completions."""
    return _held(row, "choices") is not None or _held(row, "messages") is not None


def _held(row: Any, name: str, depth: int = DEPTH) -> Mapping[str, Any] | None:
    """Return the object, the row or one inside it, that has a list under a name."""
    row = parsed(row)
    if not isinstance(row, Mapping) or not depth:
        return None
    if isinstance(parsed(row.get(name)), list):
        return row
    inner = (_held(v, name, depth - 1) for v in row.values() if isinstance(v, Mapping | str))
    return next(filter(None, inner), None)


def conversations(rows: Iterable[LogRow], skipped: "Counter[str]") -> Iterator[Conversation]:
    """Yield a conversation for each answer; a batch's request and response are joined by id."""
    listed = list(rows)
    requests = {
        str(row.value["custom_id"]): asked
        for row in listed
        if "custom_id" in row.value and (asked := _held(row.value, "messages"))
    }
    for row in listed:
        response = _held(row.value, "choices")
        request = _held(row.value, "messages") or requests.get(str(row.value.get("custom_id")))
        if response is None and row.value.get("method"):
            skipped[f"{NAME}.batch_request"] += 1
        elif request is None:
            skipped[f"{NAME}.response_without_request"] += 1
        else:
            for choice in parsed(response["choices"]) if response else [{}]:
                yield _conversation(row, request, response or {}, choice)


def _conversation(
    row: LogRow, request: Mapping[str, Any], response: Mapping[str, Any], choice: Mapping[str, Any]
) -> Conversation:
    value = row.value
    beside = [value, *(one for name in BESIDE if isinstance(one := value.get(name), Mapping))]
    message = choice.get("message") or {}
    turns = messages_of(request["messages"])
    answer = answer_of(message) if message else []
    is_answered = bool(answer) or (
        not response and turns[-1:] != [] and turns[-1]["role"] == "assistant"
    )
    error = "error" if value.get("error") else ""
    model = first_of(response, "model") or first_of(request, "model") or value.get("model")
    when = first_of(value, *DATES) or first_of(response, "created")
    return Conversation(
        NAME,
        row,
        [*turns, *answer],
        session=next((str(one[name]) for one in beside for name in SESSIONS if one.get(name)), ""),
        model=str(model or ""),
        date=str(when or ""),
        tools=tools_of(request),
        failed=error or failure_of(choice, message) or ("" if is_answered else "no_answer"),
        signs=_signs(value),
        ids=frozenset(str(one["id"]) for one in (value, response) if one.get("id")),
        is_answered=is_answered,
    )


def failure_of(choice: Mapping[str, Any], message: Mapping[str, Any]) -> str:
    """Return why an answer is not whole; empty if it is."""
    reason = choice.get("finish_reason")
    return str(reason) if reason in FAILED else "refusal" if message.get("refusal") else ""


def tools_of(request: Mapping[str, Any]) -> list[Any]:
    """Return the tools of a request in today's spelling."""
    tools = parsed(first_of(request, "tools", "functions"))
    return [tool_of(one) for one in tools] if isinstance(tools, list) else []


def tool_of(tool: Any) -> Any:
    """Return a tool as the training format has it, however its schema is named."""
    tool = parsed(tool)
    if not isinstance(tool, Mapping) or isinstance(tool.get("function"), Mapping):
        return tool
    schema = first_of(tool, "parameters", "input_schema", "inputSchema")
    kept = {name: tool[name] for name in ("name", "description") if tool.get(name)}
    return {"type": "function", "function": {**kept, "parameters": parsed(schema) or {}}}


def _signs(row: Mapping[str, Any]) -> list[Sign]:
    """Return what was noted beside the request and its response."""
    signs = [s for name, v in row.items() if name not in OF_THE_API for s in sign_of(name, v)]
    for name in BESIDE:
        noted = row.get(name)
        listed = noted if isinstance(noted, list) else []
        pairs = [*noted.items()] if isinstance(noted, Mapping) else []
        pairs += [
            (one.get("name"), first_of(one, "value", "score", "label"))
            for one in listed
            if isinstance(one, Mapping)
        ]
        signs += [s for key, v in pairs if key not in SESSIONS for s in sign_of(key, v)]
    return signs
