"""Read turns in the spellings of files and of chat APIs, and cells of text, as messages."""

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from ft_tools.formats.example import THOUGHTS, Example, Message
from ft_tools.formats.json_text import json_collection, parse_json
from ft_tools.formats.readers.json_rows import parse

SPEAKER = ("role", "from")
CONTENTS = ("content", "value", "text", "parts")
MARKS = {"weight": 0, "train": False, "training": False}
"""What an answer carries that is not to be trained, as OpenAI and Axolotl spell it."""
UNTRAINED = {"weight": 0}
SYSTEMS = ("system", "system_prompt")
GEMINI_SYSTEMS = ("systemInstruction", "system_instruction")
PARTS = {
    **dict.fromkeys(("text", "input_text", "output_text"), "text"),
    **dict.fromkeys(("thinking", "reasoning", "reasoning_text"), "thought"),
    **dict.fromkeys(("tool_use", "tool_call"), "call"),
    **dict.fromkeys(("tool_result", "tool_call_response"), "result"),
    **dict.fromkeys(("redacted_thinking", "summary_text"), "hidden"),
}
"""Type of a part of a turn -> what it holds; hidden: nothing that the model wrote in words."""
ARGUMENTS = ("arguments", "args", "input", "parameters")
SPELLINGS = {
    "system": "system developer",
    "user": "user human prompter customer",
    "assistant": "assistant gpt bot chatgpt chatbot model ai bing bard claude",
    "function_call": "function_call tool_call tool_calls",
    "tool": "tool function observation tool_response function_response ipython",
}
ROLES = {name: role for role, names in SPELLINGS.items() for name in names.split()}
"""Name of a speaker in a file -> ours."""
TRANSCRIPT_STARTS = "\n\nHuman:"
SPOKE = re.compile(r"\n\n(Human|Assistant):")


def as_turns(value: Any) -> Any:
    """Parse turns that are JSON in a string, as CSV has them; else leave them."""
    is_list = isinstance(value, str) and value.lstrip()[:1] == "["
    parsed = parse_json(value) if is_list else None
    return parsed if isinstance(parsed, list) else value


def is_turns(value: Any) -> bool:
    """Return whether a value is a list of turns, or JSON of one."""
    return isinstance(as_turns(value), list)


def holds_turns(value: Any) -> bool:
    """Return whether a value is turns: a list, or JSON in which each names its speaker.

    Other JSON is a text: what a model that extracts is to answer.
    """
    return isinstance(value, list) or (isinstance(value, str) and is_conversation(as_turns(value)))


def is_conversation(value: Any) -> bool:
    """Return whether a value is a list of turns: each has a known role, and says something."""
    says = (*CONTENTS, "tool_calls", "function_call")
    return (
        isinstance(value, list)
        and bool(value)
        and all(
            isinstance(turn, Mapping)
            and _role(turn) is not None
            and any(name in turn for name in says)
            for turn in value
        )
    )


def is_answered(turns: Any) -> bool:
    """Return whether a value is a conversation whose last turn is an answer."""
    return is_conversation(turns) and _role(turns[-1]) in {"assistant", "function_call"}


def _role(turn: Mapping[str, Any]) -> str | None:
    """Return our name for who speaks; None if it is not known."""
    role = first_of(turn, *SPEAKER)
    return ROLES.get(role.strip().lower()) if isinstance(role, str) else None


def first_of(row: Mapping[str, Any], *names: str) -> Any:
    """Return the first of these that is there; null is not."""
    return next((row[name] for name in names if row.get(name) is not None), None)


def as_transcript(value: Any) -> Any:
    r"""Give a transcript of Anthropic's spelling its turns; else leave the value.

    >>> [turn["content"] for turn in as_transcript("\n\nHuman: Hi\n\nAssistant: Hello")]
    ['Hi', 'Hello']
    >>> as_transcript("Human: Hi")
    'Human: Hi'
    """
    if not isinstance(value, str) or not value.startswith(TRANSCRIPT_STARTS):
        return value
    _, *parts = SPOKE.split(value)
    told = zip(parts[::2], parts[1::2], strict=True)
    return [{"role": ROLES[who.lower()], "content": text.strip()} for who, text in told]


def _strict(example: Example, value: Any) -> Any:
    """Return a value, parsed as a line of a file if it is a string; null with a problem if not."""
    if not isinstance(value, str):
        return value
    row = parse(value)
    example.problems += [row.problem] if row.problem else row.notes
    return row.value


def listed(example: Example, value: Any) -> Any:
    """Return a list that may be JSON in a string, as CSV and ShareGPT's `tools` have it.

    What a line of JSON may not hold is a problem in a string, too. What is no list stays as it is.
    """
    return _strict(example, value) if is_turns(value) else value


def add_turns(example: Example, turns: Any) -> list[Message]:
    """Read turns of any spelling, one or a list; what cannot be read is a problem of the example.

    The results of tools that APIs put into a turn become messages of their own.
    """
    turns = listed(example, turns)
    turns = [turns] if isinstance(turns, Mapping) else turns
    if not isinstance(turns, list):
        example.problems.append("wrong_type")
        return []
    messages: list[Message] = []
    for turn in turns:
        if isinstance(turn, Mapping):
            messages += _messages(example, turn)
        else:
            example.problems.append("wrong_type")
    return messages


def _messages(example: Example, turn: Mapping[str, Any]) -> list[Message]:
    """Return what a turn says, and the results of tools that it holds."""
    known = _role(turn)
    if known is None:
        example.problems.append("unknown_role")
    content = first_of(turn, *CONTENTS)
    if content is None and not (turn.get("tool_calls") or turn.get("function_call")):
        example.problems.append("empty_turn")
    held = _held(example, content, is_result=known == "tool")
    text, results = "".join(held["text"]), held["result"]
    if known == "function_call":
        return [_calling(example, text) | _beside_the_text(example, turn, held)]
    message: Message = {"role": known or "user", "content": text}
    if known == "assistant":
        message |= _beside_the_text(example, turn, held)
    names = ("name", "tool_call_id")
    message |= {name: turn[name] for name in names if isinstance(turn.get(name), str)}
    is_said = not results or (known != "tool" and (text or "tool_calls" in message))
    said = [message] if is_said else []
    # What a user says beside results, the user says after them.
    return [*results, *said] if known == "user" else [*said, *results]


def _held(example: Example, content: Any, *, is_result: bool = False) -> dict[str, list[Any]]:
    """Return what a content holds by kind; of a tool's result any JSON is text."""
    held: dict[str, list[Any]] = defaultdict(list)
    parts = content if isinstance(content, list) else [content]
    is_parts = isinstance(content, str) or all(_type(part) for part in parts)
    if content is None:
        return held
    if is_result and not is_parts:
        held["text"].append(json.dumps(content, ensure_ascii=False))
    elif not is_parts and not isinstance(content, list):
        example.problems.append("wrong_type")
    else:
        for part in parts:
            _add_part(example, part, held)
    return held


def _add_part(example: Example, part: Any, held: dict[str, list[Any]]) -> None:
    kind = PARTS.get(_type(part))
    if kind is None:
        is_object = isinstance(part, Mapping)
        example.problems.append("multimodal" if is_object else "wrong_type")
    elif isinstance(part, str):
        held[kind].append(part)
    elif kind == "call":
        held[kind].append(as_call(part))
    elif kind == "result":
        inner = first_of(part, "content", "response", "result")
        texts = [inner] if isinstance(inner, str) else _held(example, inner, is_result=True)["text"]
        call_id = first_of(part, "tool_use_id", "id")
        identity = {"tool_call_id": call_id} if isinstance(call_id, str) else {}
        held[kind].append({"role": "tool", **identity, "content": "".join(texts)})
    else:
        text = first_of(part, "thinking", "text", "content")
        if not isinstance(text, str | None):
            example.problems.append("multimodal")
        held[kind].append(text if isinstance(text, str) else "")


def _type(part: Any) -> str:
    """Return the type of a part; empty if it has none. Any JSON value may stand there."""
    if isinstance(part, str):
        return "text"
    kind = part.get("type", "text" if "text" in part else "") if isinstance(part, Mapping) else ""
    return kind if isinstance(kind, str) else ""


def _beside_the_text(
    example: Example, turn: Mapping[str, Any], held: Mapping[str, list[Any]]
) -> Message:
    """Return an answer's calls, of today or before or among its parts, and its thoughts."""
    found: Message = {}
    if any(turn.get(name) == mark for name, mark in MARKS.items()):
        found |= UNTRAINED
    calls, old = objects(example, turn.get("tool_calls")), turn.get("function_call")
    if old and not calls and isinstance(old, Mapping):
        calls = [{"type": "function", "function": old}]
    if held.get("call"):
        # LangChain has the calls of Anthropic's models in both places.
        beside = list(map(as_call, calls))
        calls = calls + [call for call in held["call"] if call not in beside]
    found |= {"tool_calls": calls} if calls else {}
    thoughts = {name: turn[name] for name in THOUGHTS if isinstance(turn.get(name), str)}
    if held.get("thought"):
        written = [*held["thought"], *filter(None, [thoughts.get("reasoning_content")])]
        thoughts["reasoning_content"] = "\n".join(filter(str.strip, written))
    return found | {name: text for name, text in thoughts.items() if text.strip()}


def objects(example: Example, value: Any) -> list[Any]:
    """Return a list of objects, such as tools or calls of them; empty if there is none."""
    value = listed(example, value)
    if not value or (isinstance(value, str) and not value.strip()):
        return []
    if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
        example.problems.append("wrong_type")
        return []
    return value


def _calling(example: Example, text: str) -> Message:
    """Return what a function_call turn says: its calls, or the text itself if that is no JSON."""
    parsed = None if parse_json(text) is None else _strict(example, text)
    calls: list[Any] = parsed if isinstance(parsed, list) else [parsed]
    return called(calls) if all(map(_is_call, calls)) else answered_with(text)[0]


def _is_call(value: Any) -> bool:
    """Return whether an object is a call of a function, as OpenAI, ShareGPT or Llama write one."""
    call = value.get("function", value) if isinstance(value, dict) else None
    return isinstance(call, dict) and isinstance(call.get("name"), str)


def calls_in(value: Any) -> list[Any]:
    """Return calls that an answer is made of, a list or JSON of one; empty if it is none."""
    calls = as_turns(value)
    is_list = isinstance(calls, list) and all(_is_call(c) and "arguments" in c for c in calls)
    return calls if is_list else []


def as_call(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return a call in today's spelling; arguments are an object wherever they are JSON of one."""
    inner = value.get("function")
    function = inner if isinstance(inner, Mapping) else value
    found = first_of(function, *ARGUMENTS)
    parsed = json_collection(found) if isinstance(found, str) else None
    arguments = {} if found in (None, "") else found if parsed is None else parsed
    made = {"name": str(function.get("name") or ""), "arguments": arguments}
    call_id = value.get("id")
    identity = {"id": call_id} if isinstance(call_id, str) and call_id else {}
    return {**identity, "type": "function", "function": made}


def called(calls: list[Any]) -> Message:
    """Return an answer that calls functions."""
    return {"role": "assistant", "content": "", "tool_calls": list(map(as_call, calls))}


def cell(example: Example, row: Mapping[str, Any], name: str) -> str:
    """Return a column as text; a number or a truth value is a wrong type."""
    value = row.get(name)
    if value is not None and not isinstance(value, str):
        example.problems.append("wrong_type")
    return value if isinstance(value, str) else ""


def with_system(example: Example, row: Mapping[str, Any], turns: list[Message]) -> list[Message]:
    """Put the system turn of a column before a conversation that has none of its own.

    Source: https://github.com/hiyouga/LLaMA-Factory/blob/main/src/llamafactory/data/converter.py
    """
    if turns and turns[0]["role"] == "system":
        return turns
    texts = [row[name] for name in SYSTEMS if isinstance(row.get(name), str)]
    told = [row[name] for name in GEMINI_SYSTEMS if isinstance(row.get(name), Mapping)]
    texts += ["".join(_held(example, first_of(turn, *CONTENTS))["text"]) for turn in told]
    system = [{"role": "system", "content": text} for text in texts if text.strip()][:1]
    return system + turns


def ask(example: Example, row: Mapping[str, Any], prompt: str) -> list[Message]:
    """Build the turns before the answer: system, LLaMA-Factory's history, the question."""
    history = listed(example, row.get("history"))
    turns: list[Message] = []
    for past in history if isinstance(history, list) else []:
        if isinstance(past, list) and len(past) == 2 and all(isinstance(p, str) for p in past):
            turns += [{"role": "user", "content": past[0]}, *answered_with(past[1])]
        else:
            example.problems.append("wrong_type")
    return with_system(example, row, [*turns, {"role": "user", "content": prompt}])


def answered_with(text: str) -> list[Message]:
    """Return an answer as turns."""
    return [{"role": "assistant", "content": text}]
