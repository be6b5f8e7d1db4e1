"""Turns of logs in the spellings of all formats, as messages with tool results in order."""

import json
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from typing import Any

from ft_tools.formats.example import Example, Message, thoughts_of
from ft_tools.formats.json_text import json_collection
from ft_tools.formats.turns import ROLES, add_turns, as_call, first_of

SPEAKERS = frozenset({"system", "user", "assistant", "tool"})
UNREADABLE = "unreadable"
"""Stands for the role of what cannot be written as text, such as an image."""
CONTENTS = ("parts", "contents", "content")
SAYING = (*CONTENTS, "tool_calls", "function_call")
"""What holds what a turn says."""


def parsed(value: Any) -> Any:
    """Return a value, parsed if it is JSON of an object or a list in a string."""
    found = json_collection(value) if isinstance(value, str) else None
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
        example = Example(0, "log", "sft")
        is_text = isinstance(turn, str)
        read = add_turns(example, {"role": role, "content": turn} if is_text else _unwrapped(turn))
        said = list(map(_plain, read))
        calls = [call for message in said for call in message.get("tool_calls", [])]
        has_names = all(call["function"]["name"] for call in calls)
        if {*example.problems} - {"empty_turn"} or not has_names:
            return [*made, {"role": UNREADABLE, "content": ""}]
        made += said
    return made


def _unwrapped(turn: Any) -> Any:
    """Return a turn without what LangChain and OpenInference put around it and its parts."""
    if not isinstance(turn, Mapping):
        return turn
    # LangChain dumps a message as its class and arguments, or as type and data.
    inner = {} if "content" in turn else object_of(first_of(turn, "kwargs", "data", "message"))
    role = _role(turn) or _role(inner)
    turn = {**(inner or turn)}
    content = first_of(turn, *CONTENTS)
    if isinstance(content, list):
        content = [object_of(one).get("message_content", one) for one in content]
    calls = turn.get("tool_calls") or object_of(turn.get("additional_kwargs")).get("tool_calls")
    called = [object_of(object_of(one).get("tool_call", one)) for one in items_of(calls)]
    turn |= {"content": content, "tool_calls": called}
    turn |= {"function_call": object_of(turn.get("function_call"))}
    turn |= {"tool_call_id": first_of(turn, "tool_call_id", "id")} if role == "tool" else {}
    return turn | ({"role": role} if role else {})


def _role(turn: Mapping[str, Any]) -> str | None:
    """Return our name for who speaks."""
    path = turn.get("id")
    role = path[-1] if isinstance(path, list) and path else first_of(turn, "role", "type")
    name = str(role).lower().removesuffix("chunk").removesuffix("message")
    return found if (found := ROLES.get(name)) in SPEAKERS else None


def _plain(message: Message) -> Message:
    """Return a message with its calls and thoughts in one spelling, and nothing else."""
    made = {name: message[name] for name in ("role", "content")}
    if message["role"] == "tool" and "tool_call_id" in message:
        made["tool_call_id"] = message["tool_call_id"]
    if message.get("tool_calls"):
        made["tool_calls"] = list(map(as_call, message["tool_calls"]))
    thoughts = thoughts_of(message)
    return made | ({"reasoning_content": thoughts} if thoughts else {})


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
        if message["role"] == UNREADABLE:
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
