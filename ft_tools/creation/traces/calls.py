"""Calls that were logged: Langfuse's observations, LangSmith's runs, OpenAI's chat completions."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ft_tools.creation.traces.conversation import (
    NOT_FINISHED,
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
from ft_tools.formats.column_counts import number_of
from ft_tools.formats.turns import first_of

OPENAI, LANGFUSE, LANGSMITH = "openai_chat", "langfuse", "langsmith"
PARENT = ("parent_observation_id", "parentObservationId")
TRACE, SESSION = ("trace_id", "traceId"), ("session_id", "sessionId")
ABOUT = (("observation_id", "observationId"), TRACE, SESSION)
"""What a score of Langfuse is about: the first that it names."""
KIND = ("data_type", "dataType")
ENDS = {"": "", "success": "", "pending": NOT_FINISHED}
"""Status of a run of LangSmith -> the sign that it failed; all others are errors."""
MODELS = ("ls_model_name", "model_name", "model")
SESSIONS = ("session_id", "session", "conversation_id", "thread_id", "chat_id", "trace_id")
OPENAI_DATES = ("timestamp", "ts", "created_at", "date", "time")
KINDS = ("type", "endpoint", "url", "object")
"""What says of which type a row is that holds no messages."""
BESIDE = ("metadata", "scores", "feedback")
"""Objects of signs; other scalars of a row are signs too, unless they name or date it."""
NAMES = frozenset(
    {"id", "custom_id", "request_id", "model", "method", *KINDS, *SESSIONS, *OPENAI_DATES}
)
DEPTH = 3
"""Levels of a row in which the request and the response are looked for."""


def fits_langfuse(row: Mapping[str, Any]) -> bool:
    """Return whether a row is an observation or a score."""
    return any(name in row for name in (*PARENT, *KIND)) and ("type" in row or "name" in row)


def fits_langsmith(row: Mapping[str, Any]) -> bool:
    """Return whether a row is a run."""
    return "run_type" in row


def langfuse(rows: Iterable[LogRow], skipped: "Counter[str]") -> Iterator[Conversation]:
    """Yield the generations, with the scores of them and of what they are part of."""
    signs, nodes = Signs(), list[Node]()
    for row in rows:
        value = row.value
        if kind := text_at(value, *KIND):
            about = next(filter(None, (text_at(value, *names) for names in ABOUT)), "")
            score = value.get("value")
            # Of a category the value is only its index, of a text it is 0.
            if kind in {"CATEGORICAL", "TEXT"}:
                score = first_of(value, "string_value", "stringValue")
            elif kind == "BOOLEAN":
                score = None if (number := number_of(score)) is None else bool(number)
            signs.add(about, value.get("name"), score, source=value.get("source"))
            continue
        kind, failed = text_at(value, "type"), "error" if value.get("level") == "ERROR" else ""
        call = _generation(row) if kind == "GENERATION" else None
        own, parent = text_at(value, "id"), text_at(value, *PARENT)
        nodes.append(Node(own, parent, failed, f"{LANGFUSE}.{kind}", call))
    yield from calls_in(nodes, signs, skipped)


def _generation(row: LogRow) -> Conversation | None:
    value = row.value
    asked, output = parsed(value.get("input")), parsed(value.get("output"))
    request = object_of(asked)
    turns = messages_of(request.get("messages", asked))
    if not turns:
        return None
    choices = objects_of(object_of(output).get("choices"))
    return call_of(
        LANGFUSE,
        row,
        turns,
        answer_of(choices[0].get("message") if choices else output),
        reasons=[one.get("finish_reason") for one in choices],
        session=text_at(value, *SESSION),
        trace=text_at(value, *TRACE),
        model=text_at(value, "provided_model_name", "model"),
        date=text_at(value, "start_time", "startTime"),
        tools=tools_of(first_of(request, "tools", "functions")),
    )


def langsmith(rows: Iterable[LogRow], skipped: "Counter[str]") -> Iterator[Conversation]:
    """Yield the runs of models, with the feedback on them and on what they are part of."""
    signs, nodes = Signs(), list[Node]()
    for row in rows:
        value, kind, own = row.value, text_at(row.value, "run_type"), text_at(row.value, "id")
        for name, held in object_of(value.get("feedback_stats")).items():
            # Of a number there is the mean, of a category each value.
            mean = object_of(held).get("avg")
            labels = object_of(object_of(held).get("values"))
            signs.add(own, name, *(labels if mean is None else [mean]))
        failed = "error" if value.get("error") else ENDS.get(text_at(value, "status"), "error")
        call = _run(row) if kind == "llm" else None
        parent = text_at(value, "parent_run_id")
        nodes.append(Node(own, parent, failed, f"{LANGSMITH}.{kind}", call))
    yield from calls_in(nodes, signs, skipped)


def _run(row: LogRow) -> Conversation | None:
    """Return a call in LangChain's, OpenAI's or Anthropic's spelling."""
    value = row.value
    inputs, outputs, extra = (object_of(value.get(name)) for name in ("inputs", "outputs", "extra"))
    turns = items_of(inputs.get("messages"))
    # A batch holds one list of messages.
    asked = messages_of(turns[0] if turns and isinstance(turns[0], list) else turns)
    if not asked:
        return None
    system = inputs.get("system")
    metadata, invoked = extra.get("metadata"), object_of(extra.get("invocation_params"))
    choice, said = _answer(outputs)
    held = object_of(first_of(object_of(said), "kwargs", "data") or said)
    about = (held, choice, choice.get("generation_info"), held.get("response_metadata"))
    named = (metadata, invoked, object_of(outputs.get("llm_output")), *about, outputs, inputs)
    return call_of(
        LANGSMITH,
        row,
        [*(messages_of({"role": "system", "content": system}) if system else []), *asked],
        answer_of(said),
        reasons=[text_at(one, "finish_reason", "stop_reason") for one in about],
        session=text_at(metadata, *SESSIONS),
        trace=text_at(value, "trace_id"),
        model=next(filter(None, (text_at(one, *MODELS) for one in named)), ""),
        date=text_at(value, "start_time"),
        tools=tools_of(first_of(invoked, "tools", "functions") or first_of(inputs, "tools")),
    )


def _answer(outputs: Mapping[str, Any]) -> tuple[Mapping[str, Any], Any]:
    """Return what is said of an answer, and the answer, in whichever shape it is."""
    for name, at in (("generations", 0), ("choices", 0), ("messages", -1)):
        found = parsed(outputs.get(name))
        while isinstance(found, list) and found:
            found = found[at]
        if isinstance(found, Mapping):
            return found, first_of(found, "message", "text") if at == 0 else found
    inner = first_of(outputs, "output", "message")
    return outputs, inner or (outputs if "content" in outputs else None)


def fits_openai(row: Mapping[str, Any]) -> bool:
    """Return whether a row holds a request or a response of chat completions."""
    return _with(row, "choices") is not None or _with(row, "messages") is not None


def _with(row: Any, name: str, depth: int = DEPTH) -> Mapping[str, Any] | None:
    """Return the object, the row or one inside it, that has a list under a name."""
    held = object_of(row)
    if isinstance(parsed(held.get(name)), list):
        return held
    inner = (_with(one, name, depth - 1) for one in held.values() if depth > 1)
    return next(filter(None, inner), None)


def openai(rows: Iterable[LogRow], skipped: "Counter[str]") -> Iterator[Conversation]:
    """Yield a conversation for each answer; a batch's request and response are joined by id."""
    listed = [(row, _with(row.value, "messages"), _with(row.value, "choices")) for row in rows]
    requests = {text_at(row.value, "custom_id"): request for row, request, _ in listed if request}
    for row, own, response in listed:
        batch = text_at(row.value, "custom_id")
        request = own or (requests.get(batch) if batch else None)
        if request is None or (response is None and row.value.get("method")):
            kind = "response_without_request" if response else text_at(row.value, *KINDS)
            skipped[f"{OPENAI}.{kind or 'no_messages'}"] += 1
            continue
        signs = _noted(row.value)
        for choice in objects_of(response["choices"]) if response else [{}]:
            made = _completion(row, request, response or {}, choice)
            made.add_signs(signs, [""])
            yield made


def _completion(
    row: LogRow, request: Mapping[str, Any], response: Mapping[str, Any], choice: Mapping[str, Any]
) -> Conversation:
    value, turns = row.value, messages_of(request["messages"])
    # Without a response the answer may be logged as the last message.
    at = -1 if not response and turns and turns[-1]["role"] == "assistant" else len(turns)
    refused = "refusal" if object_of(choice.get("message")).get("refusal") else ""
    return call_of(
        OPENAI,
        row,
        turns[:at],
        [*turns[at:], *answer_of(choice.get("message"))],
        failed="error" if value.get("error") else "",
        reasons=[choice.get("finish_reason"), refused],
        session=text_at(value, *SESSIONS) or text_at(value.get("metadata"), *SESSIONS),
        id=text_at(value, "id") or text_at(response, "id"),
        model=text_at(response, "model") or text_at(request, "model") or text_at(value, "model"),
        date=text_at(value, *OPENAI_DATES) or text_at(response, "created"),
        tools=tools_of(first_of(request, "tools", "functions")),
    )


def _noted(row: Mapping[str, Any]) -> Signs:
    """Return what was noted beside the request and its response."""
    signs = Signs()
    for held in (row, *(object_of(row.get(name)) for name in BESIDE)):
        for name in (name for name in held if name not in NAMES):
            signs.add("", name, held[name])
    for one in (one for name in BESIDE for one in items_of(row.get(name))):
        signs.add("", text_at(one, "name"), first_of(object_of(one), "value", "score", "label"))
    return signs
