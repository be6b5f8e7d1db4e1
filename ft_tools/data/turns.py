"""Read turns of either spelling, and cells of text, into an example's messages."""

import json
from collections.abc import Mapping
from typing import Any

from ft_tools.data.example import Example, Message

ROLES = {
    "system": "system",
    "developer": "system",
    "human": "user",
    "user": "user",
    "prompter": "user",
    "customer": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "bot": "assistant",
    "chatgpt": "assistant",
    "chatbot": "assistant",
    "model": "assistant",
    "ai": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "claude": "assistant",
    "function_call": "function_call",
    "tool_call": "function_call",
    "tool_calls": "function_call",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "tool_response": "tool",
    "function_response": "tool",
    "ipython": "tool",
}


def is_turns(value: Any) -> bool:
    """Tell whether a value is a list of turns, or JSON of one."""
    return isinstance(as_turns(value), list)


def as_turns(value: Any) -> Any:
    """Parse turns that are JSON in a string, as CSV has them; else leave them."""
    return parsed_list(value) if isinstance(value, str) and value.lstrip()[:1] == "[" else value


def parsed_list(value: Any) -> Any:
    """Parse a JSON list in a string, as CSV and ShareGPT's `tools` have it; else as it is."""
    if not isinstance(value, str):
        return value
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError):
        return value
    return parsed if isinstance(parsed, list) else value


def add_turns(example: Example, turns: Any) -> list[Message]:
    """Read turns of either spelling, one message or a list."""
    turns = as_turns(turns)
    if isinstance(turns, Mapping):
        turns = [turns]
    if not isinstance(turns, list):
        example.problems.append("wrong_type")
        return []
    messages: list[Message] = []
    spelled = set(example.roles)
    for turn in turns:
        if not isinstance(turn, Mapping):
            example.problems.append("wrong_type")
            continue
        example.turn_keys = example.turn_keys or tuple(map(str, turn))
        role = turn.get("role", turn.get("from"))
        spelled.add(role if isinstance(role, str) else "")
        messages.append(_message(example, role, turn))
    example.roles = frozenset(spelled)
    return messages


def _message(example: Example, role: Any, turn: Mapping[str, Any]) -> Message:
    known = ROLES.get(role.strip().lower()) if isinstance(role, str) else None
    if known is None:
        example.problems.append("unknown_role")
    text = _text(example, turn.get("content", turn.get("value", turn.get("text"))), turn)
    if known == "function_call":
        return {"role": "assistant", "content": "", "tool_calls": _calls(text)}
    message: Message = {"role": known or "user", "content": text}
    if known == "assistant" and turn.get("tool_calls"):
        message["tool_calls"] = turn["tool_calls"]
    for name in ("name", "tool_call_id"):
        if isinstance(turn.get(name), str):
            message[name] = turn[name]
    return message


def _text(example: Example, content: Any, turn: Mapping[str, Any]) -> str:
    if isinstance(content, str):
        return content
    if content is None and (turn.get("tool_calls") or turn.get("function_call")):
        return ""
    if isinstance(content, list):
        parts = [part for part in content if isinstance(part, Mapping)]
        if any(part.get("type", "text") != "text" for part in parts):
            example.problems.append("multimodal")
        if len(parts) != len(content):
            example.problems.append("wrong_type")
        return "".join(part["text"] for part in parts if isinstance(part.get("text"), str))
    example.problems.append("empty_turn" if content is None else "wrong_type")
    return ""


def _calls(text: str) -> list[Message]:
    """Turn the text of a function_call turn into OpenAI's tool calls, if it is JSON."""
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        parsed = None
    calls = parsed if isinstance(parsed, list) else [parsed]
    if not all(isinstance(call, dict) and isinstance(call.get("name"), str) for call in calls):
        return [{"type": "function", "function": {"name": "", "arguments": text}}]
    return [
        {
            "type": "function",
            "function": {"name": call["name"], "arguments": call.get("arguments", {})},
        }
        for call in calls
    ]


def cell(example: Example, row: Mapping[str, Any], *names: str) -> str:
    """Return the first of these columns as text; a number or a truth value is a wrong type."""
    name = next((name for name in names if name in row), None)
    value = row.get(name) if name else None
    if value is None:
        return ""
    if not isinstance(value, str):
        example.problems.append("wrong_type")
        return ""
    return value


def ask(example: Example, row: Mapping[str, Any], prompt: str) -> list[Message]:
    """Build the turns before the answer: system, LLaMA-Factory's history, the question."""
    turns: list[Message] = []
    if isinstance(row.get("system"), str) and row["system"].strip():
        turns.append({"role": "system", "content": row["system"]})
    for past in row.get("history") or [] if isinstance(row.get("history"), list) else []:
        if isinstance(past, list) and len(past) == 2 and all(isinstance(p, str) for p in past):
            turns.append({"role": "user", "content": past[0]})
            turns.append({"role": "assistant", "content": past[1]})
        else:
            example.problems.append("wrong_type")
    return [*turns, {"role": "user", "content": prompt}]


def answered_with(text: str) -> list[Message]:
    """Return an answer as turns."""
    return [{"role": "assistant", "content": text}]
