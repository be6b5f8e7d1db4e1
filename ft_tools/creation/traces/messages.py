"""Turns in the spellings of all formats, as messages with tool calls and their results in order."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ft_tools.formats.example import Message
from ft_tools.formats.json_text import parse_json
from ft_tools.formats.turns import ROLES, first_of

SPEAKERS = frozenset({"system", "user", "assistant", "tool"})
TEXTS = frozenset({"text", "input_text", "output_text"})
THINKING = frozenset({"thinking", "reasoning", "reasoning_text"})
HIDDEN = frozenset({"redacted_thinking", "summary_text"})
"""Parts that hold nothing that the model wrote in words."""
CALLS = frozenset({"tool_use", "tool_call"})
RESULTS = frozenset({"tool_result", "tool_call_response"})
SAYING = ("content", "parts", "contents", "tool_calls", "function_call")
"""What holds what a turn says."""


class Unreadable(Exception):
    """A part of a turn that cannot be written as text, such as an image; the text is its type."""


def parsed(value: Any) -> Any:
    """Return a value, parsed if it is JSON of an object or a list in a string."""
    found = parse_json(value) if isinstance(value, str) and value.lstrip()[:1] in "[{" else None
    return value if found is None else found


def items_of(value: Any) -> list[Any]:
    """Return a list, JSON of one or not; what is no list is the only item, null is none."""
    found = parsed(value)
    return [] if found is None else found if isinstance(found, list) else [found]


def object_of(value: Any) -> Mapping[str, Any]:
    """Return an object, JSON of one or not; what is none is empty."""
    found = parsed(value)
    return found if isinstance(found, Mapping) else {}


def objects_of(value: Any) -> list[Mapping[str, Any]]:
    """Return the objects of a list."""
    return [found for one in items_of(value) if isinstance(found := parsed(one), Mapping)]


def messages_of(turns: Any, role: str = "user") -> list[Message]:
    """Read a turn or a list of turns, up to the first that holds what is no text.

    A text alone is what somebody of that role says.
    """
    made: list[Message] = []
    for turn in items_of(turns):
        try:
            made += _turn({"role": role, "content": turn} if isinstance(turn, str) else turn)
        except Unreadable as error:
            return [*made, {"role": "unreadable", "content": str(error)}]
    return made


def answer_of(turn: Any) -> list[Message]:
    """Read what a model answered; who speaks may be left out, and JSON may be the answer itself."""
    held = object_of(turn)
    if any(name in held for name in SAYING) and first_of(held, "role", "type", "data") is None:
        return messages_of({**held, "role": "assistant"})
    turns = objects_of(turn)
    if turns and len(turns) == len(items_of(turn)) and all(map(_is_turn, turns)):
        return messages_of(turn)
    text = turn if isinstance(turn, str) else json.dumps(turn, ensure_ascii=False) if turn else ""
    return [{"role": "assistant", "content": text}] if text.strip() else []


def _is_turn(held: Mapping[str, Any]) -> bool:
    return any(name in held for name in ("role", "data", "kwargs", "message", *SAYING))


def _turn(turn: Any) -> Iterator[Message]:
    """Yield what a turn says, then the results of tools that it holds."""
    if not isinstance(turn, Mapping):
        raise Unreadable(type(turn).__name__)
    # LangChain dumps a message as its class and arguments, or as type and data.
    inner = {} if "content" in turn else object_of(first_of(turn, "kwargs", "data", "message"))
    role = _role(turn) or _role(inner)
    if role is None:
        raise Unreadable("role")
    turn = inner or turn
    content = first_of(turn, "parts", "contents", "content")
    if isinstance(content, list):
        content = [object_of(one).get("message_content", one) for one in content]
    told = _Told(calls_of(turn))
    parts = content if isinstance(content, list) else [] if content is None else [content]
    if role == "tool" and not any(_kind(part) in RESULTS for part in parts):
        yield result(first_of(turn, "tool_call_id", "id"), text_of(content))
        return
    for part in parts:
        told.add(part)
    thought = first_of(turn, "reasoning_content", "reasoning")
    told.thoughts += [thought] if isinstance(thought, str) else []
    is_said = told.calls or "".join(told.texts) or not told.results
    said = [told.message(role)] if is_said and role != "tool" else []
    # What a user says beside results, the user says after them.
    yield from [*told.results, *said] if role == "user" else [*said, *told.results]


class _Told:
    """What the parts of a turn say."""

    def __init__(self, calls: Iterable[dict[str, Any]] = ()) -> None:
        self.texts: list[str] = []
        self.thoughts: list[str] = []
        self._beside = list(calls)
        self.calls = list(self._beside)
        self.results: list[Message] = []

    def add(self, part: Any) -> None:
        """Sort a part in."""
        kind = _kind(part)
        if isinstance(part, str):
            self.texts.append(part)
        elif kind in TEXTS:
            self.texts.append(text_of(first_of(part, "text", "content")))
        elif kind in THINKING:
            self.thoughts.append(text_of(first_of(part, "thinking", "content", "text")))
        elif kind in CALLS:
            made = call(part.get("id"), part.get("name"), _arguments_in(part))
            # LangChain has the calls of Anthropic's models in both places.
            self.calls += [made] if made not in self._beside else []
        elif kind in RESULTS:
            name = first_of(part, "tool_use_id", "id")
            content = first_of(part, "content", "response", "result")
            self.results.append(result(name, text_of(content)))
        elif kind not in HIDDEN:
            raise Unreadable(str(kind))

    def message(self, role: str) -> Message:
        made: Message = {"role": role, "content": "".join(self.texts)}
        if role == "assistant":
            thoughts = "\n".join(filter(str.strip, self.thoughts))
            made |= {"tool_calls": self.calls} if self.calls else {}
            made |= {"reasoning_content": thoughts} if thoughts else {}
        return made


def _role(turn: Mapping[str, Any]) -> str | None:
    """Return our name for who speaks."""
    path = turn.get("id")
    role = path[-1] if isinstance(path, list) and path else first_of(turn, "role", "type")
    name = str(role).lower().removesuffix("chunk").removesuffix("message")
    return found if (found := ROLES.get(name)) in SPEAKERS else None


def text_of(content: Any) -> str:
    """Return the text of a part or of a tool's result; what is no text, as JSON.

    Raises:
        Unreadable: A part of it is an image or the like.
    """
    if content is None or isinstance(content, str):
        return content or ""
    if isinstance(content, list) and content and all(map(_kind, content)):
        told = _Told()
        for part in content:
            told.add(part)
        return "".join(told.texts)
    return json.dumps(content, ensure_ascii=False)


def _kind(part: Any) -> str:
    """Return what a part is; empty if it is none."""
    if isinstance(part, str):
        return "text"
    kind = part.get("type", "text" if "text" in part else "") if isinstance(part, Mapping) else ""
    return kind if isinstance(kind, str) else ""


def call(name_of_call: Any, name: Any, arguments: Any) -> dict[str, Any]:
    """Return a call of a tool; arguments are an object wherever they are JSON of one."""
    arguments = parsed(arguments)
    made = {"name": str(name), "arguments": {} if arguments in (None, "") else arguments}
    identity = {"id": name_of_call} if isinstance(name_of_call, str) and name_of_call else {}
    return {**identity, "type": "function", "function": made}


def has_broken_call(message: Message) -> bool:
    """Return whether arguments of a call are a text, which should be JSON of an object."""
    calls = message.get("tool_calls", [])
    return any(isinstance(call["function"]["arguments"], str) for call in calls)


def result(name_of_call: Any, content: str) -> Message:
    """Return the result of a call of a tool."""
    identity = {"tool_call_id": name_of_call} if isinstance(name_of_call, str) else {}
    return {"role": "tool", **identity, "content": content}


def _arguments_in(held: Mapping[str, Any]) -> Any:
    return first_of(held, "arguments", "args", "input", "parameters")


def calls_of(turn: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the calls beside the content of a turn: OpenAI's, LangChain's, OpenInference's."""
    found = turn.get("tool_calls") or object_of(turn.get("additional_kwargs")).get("tool_calls")
    old = turn.get("function_call")
    for item in items_of(found or ([{"function": old}] if old else [])):
        held = object_of(object_of(item).get("tool_call", item))
        function = object_of(held.get("function", held))
        if "name" not in function:
            raise Unreadable("tool_calls")
        yield call(held.get("id"), function["name"], _arguments_in(function))


def normalised(messages: Iterable[Message]) -> list[Message]:
    """Join what one speaker says in a row; system turns that come first are one.

    What is the system's later on, and answers before the first question, are left out.
    """
    made: list[Message] = []
    for message in messages:
        role, before = message["role"], made[-1] if made else {"role": ""}
        if role == "system" and before["role"] not in {"", "system"}:
            continue
        if role in {"assistant", "tool"} and before["role"] in {"", "system"}:
            continue
        if role == before["role"] and role in {"system", "user", "assistant"}:
            made[-1] = _joined(before, message)
        else:
            made.append(message)
    return made


def _joined(one: Message, other: Message) -> Message:
    """Return two turns of one speaker as one: texts in paragraphs, calls side by side."""
    texts = [text for text in (one["content"], other["content"]) if text]
    thoughts = [m["reasoning_content"] for m in (one, other) if "reasoning_content" in m]
    calls = [call for m in (one, other) for call in m.get("tool_calls", [])]
    made = {**one, "content": "\n\n".join(texts)} | ({"tool_calls": calls} if calls else {})
    return made | ({"reasoning_content": "\n".join(thoughts)} if thoughts else {})


def answered(messages: list[Message], left_out: "Counter[str]") -> list[Message]:
    """Return the conversation as far as it can be trained on: results behind their calls.

    It ends before a call without a result and before what is no text, and behind an answer in
    words.
    """
    made: list[Message] = []
    at = 0
    while at < len(messages):
        message = messages[at]
        at += 1
        if message["role"] == "unreadable":
            left_out["ends_before_what_is_no_text"] += 1
            break
        if message["role"] == "tool":
            left_out["result_without_call"] += 1
            continue
        results = []
        while at < len(messages) and messages[at]["role"] == "tool":
            results.append(messages[at])
            at += 1
        in_order = _in_order(message.get("tool_calls") or [], results)
        if in_order is None:
            left_out["ends_before_call_without_result"] += 1
            break
        left_out["result_without_call"] += len(results) - len(in_order)
        made += [message, *in_order]
    while made and (made[-1]["role"] != "assistant" or "tool_calls" in made[-1]):
        made.pop()
    return made


def _in_order(calls: list[dict[str, Any]], results: list[Message]) -> list[Message] | None:
    """Return the results in the order of their calls; None if one is missing.

    Where the log has no ids, calls and results stand in the same order.
    """
    if all("id" not in one for one in calls):
        return results[: len(calls)] if len(results) >= len(calls) else None
    by_id = {result.get("tool_call_id"): result for result in reversed(results)}
    found = [by_id.get(one.get("id")) for one in calls]
    return None if None in found else [one for one in found if one is not None]
