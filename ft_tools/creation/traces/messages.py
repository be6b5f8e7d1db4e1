"""Turns of logs in the spellings of all formats, as messages with tool results in order."""

import json
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from operator import itemgetter
from typing import Any

from ft_tools.formats.example import Example, Message, thoughts_of
from ft_tools.formats.json_text import json_collection
from ft_tools.formats.turns import ROLES, add_turns, as_call, first_of

SPEAKERS = frozenset({"system", "user", "assistant", "tool"})
UNREADABLE = "unreadable"
"""Stands for the role of what cannot be written as text, such as an image."""
CONTENTS = ("parts", "contents", "content")
MOST_DOTS = 30
"""Levels of a flat name; a longer one names nothing that is read."""
OF_A_TURN = frozenset({"role", "data", "kwargs", "message", "tool_calls", *CONTENTS})
"""Keys by which an object is a turn, and no answer in JSON."""


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


def found_at(value: Any, paths: str) -> Iterator[Any]:
    """Yield what stands at each of some paths, null apart; numbers count in lists, JSON or not.

    >>> list(found_at({"a": '[{"b": 1}]', "c": 2}, "a.0.b a.1.b a.-1.b c.d c"))
    [1, 1, 2]
    """
    for path in paths.split():
        at = value
        for name in path.split("."):
            at = parsed(at)
            if isinstance(at, list) and name.lstrip("-").isdecimal():
                at = next(iter(at[int(name) :]), None)
            else:
                at = at.get(name) if isinstance(at, Mapping) else None
        if at is not None:
            yield at


def value_at(value: Any, paths: str) -> Any:
    """Return the first of these that is there; null if none is."""
    return next(found_at(value, paths), None)


def text_at(value: Any, paths: str) -> str:
    """Return the first of these that is there and not empty, as text."""
    return next(filter(None, map(str, found_at(value, paths))), "")


def nested(flat: Mapping[str, Any], depth: int = MOST_DOTS) -> Any:
    """Return an object whose names are flattened as objects in objects, and in lists.

    >>> nested({"m.0.role": "user", "m.1.role": "tool", "n": {"a.b": 1}})
    {'n': {'a.b': 1}, 'm': [{'role': 'user'}, {'role': 'tool'}]}
    """
    made, inner = dict[str, Any](), dict[str, dict[str, Any]]()
    for name, value in flat.items():
        first, dot, rest = name.partition(".")
        if dot and depth:
            inner.setdefault(first, {})[rest] = value
        else:
            made[name] = value
    made |= {name: nested(held, depth - 1) for name, held in inner.items()}
    is_list = bool(made) and all(map(str.isdecimal, made))
    return [made[name] for name in sorted(made, key=int)] if is_list else made


def messages_of(turns: Any, role: str = "user") -> list[Message]:
    """Read a turn or a list of turns, up to the first that holds what is no text.

    A text alone, or a turn of nobody, is what somebody of that role says.
    """
    made: list[Message] = []
    for turn in items_of(turns):
        example = Example(0, "log", "sft")
        is_turn = isinstance(turn, Mapping)
        read = add_turns(
            example, _unwrapped(turn, role) if is_turn else {"role": role, "content": turn}
        )
        said = list(map(_plain, read))
        has_names = all(c["function"]["name"] for m in said for c in m.get("tool_calls", ()))
        if {*example.problems} - {"empty_turn"} or not has_names:
            return [*made, {"role": UNREADABLE, "content": ""}]
        made += said
    return made


def _unwrapped(turn: Mapping[str, Any], other: str) -> Mapping[str, Any]:
    """Return a turn without what LangChain and OpenInference put around it and its parts."""
    turn = nested(turn) if all("." in name for name in turn) else turn
    # LangChain dumps a message as its class and arguments, or as type and data.
    inner = {} if "content" in turn else object_of(first_of(turn, "kwargs", "data", "message"))
    named = [name for name in (_speaker(turn), _speaker(inner)) if name]
    role = next((ROLES[name] for name in named if ROLES.get(name) in SPEAKERS), "")
    role = role or ("" if named else other)
    turn = {**(inner or turn)}
    content = first_of(turn, *CONTENTS)
    if isinstance(content, list):
        content = [
            nested(one).get("message_content", one) if isinstance(one, Mapping) else one
            for one in content
        ]
    calls = turn.get("tool_calls") or object_of(turn.get("additional_kwargs")).get("tool_calls")
    called = [object_of(nested(one).get("tool_call", one)) for one in objects_of(calls)]
    turn |= {"content": content, "tool_calls": called}
    turn |= {"function_call": object_of(turn.get("function_call"))}
    turn |= {"tool_call_id": first_of(turn, "tool_call_id", "id")} if role == "tool" else {}
    return turn | ({"role": role} if role else {})


def _speaker(turn: Mapping[str, Any]) -> str:
    """Return who speaks, as the log names it: LangChain by the class of the message."""
    path = turn.get("id")
    name = path[-1] if isinstance(path, list) and path else first_of(turn, "role", "type")
    return str(name or "").lower().removesuffix("chunk").removesuffix("message")


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
    turns = objects_of(turn)
    if (
        turns
        and len(turns) == len(items_of(turn))
        and all(OF_A_TURN & nested(one).keys() for one in turns)
    ):
        return messages_of(turn, "assistant")
    text = turn if isinstance(turn, str) else json.dumps(turn, ensure_ascii=False) if turn else ""
    return [{"role": "assistant", "content": text}] if text.strip() else []


def tools_of(tools: Any) -> list[Any]:
    """Return definitions of tools in today's spelling, however their schemas are named."""
    made: list[Any] = []
    for one in objects_of(tools):
        tool = object_of(first_of(object_of(one.get("tool", one)), "json_schema") or one)
        schema = first_of(tool, "parameters", "input_schema", "inputSchema")
        kept = {name: tool[name] for name in ("name", "description") if tool.get(name)}
        function = {**kept, "parameters": object_of(schema)}
        made.append(tool if "function" in tool else {"type": "function", "function": function})
    return made


def joined(messages: Iterable[Message]) -> list[Message]:
    """Join what one speaker says in a row; system turns that come first are one.

    What is the system's later on, and answers before the first question, are left out.
    """
    turns = list(messages)
    is_asked = [one["role"] in {"user", UNREADABLE} for one in turns]
    first = is_asked.index(True) if True in is_asked else len(turns)
    kept = [one for at, one in enumerate(turns) if (at < first) == (one["role"] == "system")]
    made: list[Message] = []
    for role, group in groupby(kept, key=itemgetter("role")):
        held = list(group)
        if role in {"tool", UNREADABLE}:
            made += held
            continue
        thoughts = [one["reasoning_content"] for one in held if "reasoning_content" in one]
        said = {
            "content": "\n\n".join(one["content"] for one in held if one["content"]),
            "tool_calls": [call for one in held for call in one.get("tool_calls", ())],
            "reasoning_content": "\n".join(thoughts),
        }
        made.append({"role": role} | {k: v for k, v in said.items() if v or k == "content"})
    return made


def trainable(messages: Iterable[Message], notes: "Counter[str]") -> list[Message]:
    """Return the conversation as far as it can be trained on: results behind their calls.

    It ends before a call without a result and before what is no text, and behind an answer in
    words. Where the log has no ids, calls and results stand in the same order.
    """
    made: list[Message] = []
    left = deque(messages)
    while left:
        message, results = left.popleft(), list[Message]()
        while left and left[0]["role"] == "tool":
            results.append(left.popleft())
        ids = [call.get("id") for call in message.get("tool_calls", ())]
        if any(ids):
            by_id = {one.get("tool_call_id"): one for one in reversed(results)}
            results = [by_id[name] for name in ids if name in by_id]
        if message["role"] == UNREADABLE or len(results) < len(ids):
            is_text = message["role"] != UNREADABLE
            notes[f"ends_before_{'call_without_result' if is_text else 'what_is_no_text'}"] += 1
            break
        made += [message, *results[: len(ids)]]
    while made and (made[-1]["role"] != "assistant" or "tool_calls" in made[-1]):
        made.pop()
    return made
