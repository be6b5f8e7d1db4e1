"""Turns in the spellings of all formats, as messages with tool calls and their results in order."""

import json
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ft_tools.formats.example import Message
from ft_tools.formats.json_text import parse_json
from ft_tools.formats.turns import ROLES, first_of

SPEAKERS = frozenset({"system", "user", "assistant", "tool"})
PARTS = {
    **dict.fromkeys(("text", "input_text", "output_text"), "text"),
    **dict.fromkeys(("thinking", "reasoning", "reasoning_text"), "thought"),
    **dict.fromkeys(("tool_use", "tool_call"), "call"),
    **dict.fromkeys(("tool_result", "tool_call_response"), "result"),
    **dict.fromkeys(("redacted_thinking", "summary_text"), "hidden"),
}
"""Type of a part of a turn -> what it holds; hidden: nothing that the model wrote in words."""
CONTENTS = ("parts", "contents", "content")
SAYING = (*CONTENTS, "tool_calls", "function_call")
"""What holds what a turn says."""
ARGUMENTS = ("arguments", "args", "input", "parameters")


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


def text_at(row: Any, *names: str) -> str:
    """Return the first of these that is there, as text."""
    found = first_of(row, *names) if isinstance(row, Mapping) else None
    return "" if found is None else str(found)


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
    held, turns = object_of(turn), objects_of(turn)
    if any(name in held for name in SAYING) and first_of(held, "role", "type", "data") is None:
        return messages_of({**held, "role": "assistant"})
    names = ("role", "data", "kwargs", "message", *SAYING)
    is_turns = all(any(name in one for name in names) for one in turns)
    if turns and len(turns) == len(items_of(turn)) and is_turns:
        return messages_of(turn)
    text = turn if isinstance(turn, str) else json.dumps(turn, ensure_ascii=False) if turn else ""
    return [{"role": "assistant", "content": text}] if text.strip() else []


def _turn(turn: Any) -> Iterator[Message]:
    """Yield what a turn says, and the results of tools that it holds."""
    if not isinstance(turn, Mapping):
        raise Unreadable(type(turn).__name__)
    # LangChain dumps a message as its class and arguments, or as type and data.
    inner = {} if "content" in turn else object_of(first_of(turn, "kwargs", "data", "message"))
    role = _role(turn) or _role(inner)
    if role is None:
        raise Unreadable("role")
    turn = inner or turn
    content = first_of(turn, *CONTENTS)
    if isinstance(content, list):
        content = [object_of(one).get("message_content", one) for one in content]
    parts = content if isinstance(content, list) else [] if content is None else [content]
    if role == "tool" and not any(PARTS.get(_type(part)) == "result" for part in parts):
        yield result(first_of(turn, "tool_call_id", "id"), text_of(content))
        return
    beside, held = list(_calls_beside(turn)), [_part(part) for part in parts]
    texts, thoughts, results = (
        [value for what, value in held if what == name] for name in ("text", "thought", "result")
    )
    said: Message = {"role": role, "content": "".join(texts)}
    # LangChain has the calls of Anthropic's models in both places.
    calls = beside + [value for what, value in held if what == "call" and value not in beside]
    thought = first_of(turn, "reasoning_content", "reasoning")
    thoughts += [thought] if isinstance(thought, str) else []
    if role == "assistant":
        whole = "\n".join(filter(str.strip, thoughts))
        said |= {"tool_calls": calls} if calls else {}
        said |= {"reasoning_content": whole} if whole else {}
    is_said = role != "tool" and (said["content"] or "tool_calls" in said or not results)
    # What a user says beside results, the user says after them.
    yield from results if role == "user" else ()
    yield from [said] if is_said else ()
    yield from results if role != "user" else ()


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
    if isinstance(content, list) and content and all(map(_type, content)):
        return "".join([value for what, value in map(_part, content) if what == "text"])
    return json.dumps(content, ensure_ascii=False)


def _part(part: Any) -> tuple[str, Any]:
    """Return what a part holds, and it: a text, a call or a result.

    Raises:
        Unreadable: Nothing that is known.
    """
    kind = _type(part)
    if kind not in PARTS:
        raise Unreadable(kind)
    what = PARTS[kind]
    if what == "call":
        return what, call(part.get("id"), part.get("name"), first_of(part, *ARGUMENTS))
    if what == "result":
        content = text_of(first_of(part, "content", "response", "result"))
        return what, result(first_of(part, "tool_use_id", "id"), content)
    names = ("thinking", "text", "content")
    return what, part if isinstance(part, str) else text_of(first_of(part, *names))


def _type(part: Any) -> str:
    """Return the type of a part; empty if it has none."""
    if isinstance(part, str):
        return "text"
    kind = part.get("type", "text" if "text" in part else "") if isinstance(part, Mapping) else ""
    return kind if isinstance(kind, str) else ""


def call(call_id: Any, name: Any, arguments: Any) -> dict[str, Any]:
    """Return a call of a tool; arguments are an object wherever they are JSON of one."""
    arguments = parsed(arguments)
    made = {"name": str(name), "arguments": {} if arguments in (None, "") else arguments}
    identity = {"id": call_id} if isinstance(call_id, str) and call_id else {}
    return {**identity, "type": "function", "function": made}


def result(call_id: Any, content: str) -> Message:
    """Return the result of a call of a tool."""
    identity = {"tool_call_id": call_id} if isinstance(call_id, str) else {}
    return {"role": "tool", **identity, "content": content}


def _calls_beside(turn: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the calls beside the content of a turn: OpenAI's, LangChain's, OpenInference's."""
    found = turn.get("tool_calls") or object_of(turn.get("additional_kwargs")).get("tool_calls")
    old = turn.get("function_call")
    for item in items_of(found or ([{"function": old}] if old else [])):
        held = object_of(object_of(item).get("tool_call", item))
        function = object_of(held.get("function", held))
        if "name" not in function:
            raise Unreadable("tool_calls")
        yield call(held.get("id"), function["name"], first_of(function, *ARGUMENTS))


def tools_of(tools: Any) -> list[Any]:
    """Return definitions of tools in today's spelling, however their schemas are named."""
    made: list[Any] = []
    for tool in objects_of(tools):
        schema = first_of(tool, "parameters", "input_schema", "inputSchema")
        kept = {name: tool[name] for name in ("name", "description") if tool.get(name)}
        function = {**kept, "parameters": object_of(schema)}
        made.append(tool if "function" in tool else {"type": "function", "function": function})
    return made


def normalised(messages: Iterable[Message]) -> list[Message]:
    """Join what one speaker says in a row; system turns that come first are one.

    What is the system's later on, and answers before the first question, are left out.
    """
    made: list[Message] = []
    for message in messages:
        role, before = message["role"], made[-1]["role"] if made else ""
        is_late = role == "system" and before not in {"", "system"}
        if is_late or (role in {"assistant", "tool"} and before in {"", "system"}):
            continue
        if role != before or role not in {"system", "user", "assistant"}:
            made.append(message)
            continue
        both = (made.pop(), message)
        joined = {**both[0], "content": "\n\n".join(m["content"] for m in both if m["content"])}
        calls = [call for m in both for call in m.get("tool_calls", [])]
        thoughts = [m["reasoning_content"] for m in both if "reasoning_content" in m]
        joined |= {"tool_calls": calls} if calls else {}
        made.append(joined | ({"reasoning_content": "\n".join(thoughts)} if thoughts else {}))
    return made


def answered(messages: Iterable[Message], notes: "Counter[str]") -> list[Message]:
    """Return the conversation as far as it can be trained on: results behind their calls.

    It ends before a call without a result and before what is no text, and behind an answer in
    words.
    """
    made: list[Message] = []
    left = deque(messages)
    while left:
        message, results = left.popleft(), list[Message]()
        if message["role"] == "unreadable":
            notes["ends_before_what_is_no_text"] += 1
            break
        while left and left[0]["role"] == "tool":
            results.append(left.popleft())
        in_order = _in_order(message.get("tool_calls") or [], results)
        if in_order is None:
            notes["ends_before_call_without_result"] += 1
            break
        made += [message, *in_order] if message["role"] != "tool" else []
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
