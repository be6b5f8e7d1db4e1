"""Recognise a row's format from its columns, and turn it into an `Example`.

Formats: openai_messages, sharegpt, alpaca, prompt_completion, text, preference_explicit,
preference_implicit, sharegpt_preference, alpaca_preference, openai_preference, kto, prompt_only.

Source: https://huggingface.co/docs/trl/dataset_formats, LLaMA-Factory data/README.md
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Message = dict[str, Any]

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
LISTS = ("messages", "conversations", "conversation", "dialogue", "dialog", "turns", "chat")
PROMPTS = ("prompt", "question", "query", "user_prompt", "input", "instruction", "context")
ANSWERS = ("completion", "response", "answer", "output", "target", "solution", "assistant")
ALPACA_ANSWERS = ("output", "response", "answer", "completion")
NO_INPUT = {"<noinput>", "<no input>", "noinput", "no input", "n/a", "none"}
PREFERENCES = {
    "preference_explicit",
    "preference_implicit",
    "sharegpt_preference",
    "alpaca_preference",
    "openai_preference",
}


@dataclass(slots=True)
class Example:
    """A row in one form: a conversation, or a prompt with two answers, or a marked answer."""

    line: int
    format: str
    task: str
    """sft, dpo or kto."""
    messages: list[Message] = field(default_factory=list)
    """sft: the conversation; dpo: the prompt; kto: the prompt."""
    chosen: list[Message] = field(default_factory=list)
    rejected: list[Message] = field(default_factory=list)
    label: bool | None = None
    text: str | None = None
    tools: list[Any] | None = None
    roles: frozenset[str] = frozenset()
    """Role names as the file spells them."""
    turn_keys: tuple[str, ...] = ()
    problems: list[str] = field(default_factory=list)

    def row(self) -> dict[str, Any]:
        """Return the example as TRL takes it."""
        if self.text is not None:
            return {"text": self.text}
        if self.task == "dpo":
            row: dict[str, Any] = {
                "prompt": self.messages,
                "chosen": self.chosen,
                "rejected": self.rejected,
            }
        elif self.task == "kto":
            row = {"prompt": self.messages, "completion": self.chosen, "label": self.label}
        else:
            row = {"messages": self.messages}
        return row | ({"tools": self.tools} if self.tools else {})

    def prompt_and_answer(self) -> tuple[list[Message], list[Message]]:
        """Split into what is asked and what is trained on last."""
        if self.task != "sft":
            return self.messages, self.chosen
        if self.text is not None:
            return [], [{"role": "assistant", "content": self.text}]
        for at in range(len(self.messages) - 1, -1, -1):
            if self.messages[at]["role"] == "assistant":
                return self.messages[:at], self.messages[at : at + 1]
        return self.messages, []


def content_of(message: Message) -> str:
    """Return what a turn says: its text and, if there are any, its tool calls."""
    text = str(message.get("content") or "")
    calls = message.get("tool_calls")
    return f"{text}{json.dumps(calls, ensure_ascii=False, sort_keys=True)}" if calls else text


def detect(row: Any) -> str:
    """Name the format of a row from its columns and the types in them; unknown if none fits."""
    if not isinstance(row, Mapping):
        return "unknown"
    keys = row.keys()
    listed = next((name for name in LISTS if _is_turns(row.get(name))), None)
    has_pair = "chosen" in keys and "rejected" in keys
    if "preferred_output" in keys and "non_preferred_output" in keys:
        return "openai_preference"
    if has_pair:
        return _preference(row, listed)
    if listed:
        if isinstance(_label(row), bool):
            return "kto"
        return "sharegpt" if _spells_from(_turns(row[listed])) else "openai_messages"
    answer = next((name for name in ANSWERS if name in keys), None)
    prompt = next((name for name in PROMPTS if name in keys and name != answer), None)
    if prompt and answer and isinstance(_label(row), bool):
        return "kto"
    if "instruction" in keys and any(name in keys for name in ALPACA_ANSWERS):
        return "alpaca"
    if prompt and answer:
        return "prompt_completion"
    if "text" in keys:
        return "text"
    return "prompt_only" if prompt else "unknown"


def normalise(line: int, row: Any, columns: Mapping[str, str] | None = None) -> Example:
    """Turn a row into an example; what is wrong with it is in `problems`, never raised."""
    if columns and isinstance(row, Mapping):
        row = {ours: row[theirs] for ours, theirs in columns.items() if theirs in row}
    name = detect(row)
    example = Example(line, name, _TASKS.get(name, "sft"))
    if name == "unknown":
        example.problems.append("unknown_format")
        return example
    _BUILDERS[name](example, row)
    tools = _parsed(row.get("tools"))
    if isinstance(tools, list) and tools:
        example.tools = tools
    return example


def _preference(row: Mapping[str, Any], listed: str | None) -> str:
    if listed:
        return "sharegpt_preference"
    if "prompt" in row:
        return "preference_explicit"
    if any(name in row for name in ("instruction", "question", "query", "input")):
        return "alpaca_preference"
    return "preference_implicit"


def _is_turns(value: Any) -> bool:
    return isinstance(_turns(value), list)


def _turns(value: Any) -> Any:
    return _parsed(value) if isinstance(value, str) and value.lstrip()[:1] == "[" else value


def _parsed(value: Any) -> Any:
    """Parse a JSON list in a string, as CSV and ShareGPT's `tools` have it; else as it is."""
    if not isinstance(value, str):
        return value
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError):
        return value
    return parsed if isinstance(parsed, list) else value


def _spells_from(turns: Any) -> bool:
    return any(isinstance(turn, Mapping) and "from" in turn for turn in turns)


def _label(row: Mapping[str, Any]) -> Any:
    label = row.get("label", row.get("kto_tag"))
    if isinstance(label, str) and label.strip().lower() in {"true", "false"}:
        return label.strip().lower() == "true"
    return label


def _add_turns(example: Example, turns: Any) -> list[Message]:
    """Read turns of either spelling, one message or a list."""
    turns = _turns(turns)
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


def _cell(example: Example, row: Mapping[str, Any], *names: str) -> str:
    """Return the first of these columns as text; a number or a truth value is a wrong type."""
    name = next((name for name in names if name in row), None)
    value = row.get(name) if name else None
    if value is None:
        return ""
    if not isinstance(value, str):
        example.problems.append("wrong_type")
        return ""
    return value


def _ask(example: Example, row: Mapping[str, Any], prompt: str) -> list[Message]:
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


def _answer(text: str) -> list[Message]:
    return [{"role": "assistant", "content": text}]


def _list_name(row: Mapping[str, Any]) -> str:
    return next(name for name in LISTS if _is_turns(row.get(name)))


def _chat(example: Example, row: Mapping[str, Any]) -> None:
    messages = _add_turns(example, row[_list_name(row)])
    if isinstance(row.get("system"), str) and row["system"].strip():
        messages.insert(0, {"role": "system", "content": row["system"]})
    example.messages = messages


def _instruction(example: Example, row: Mapping[str, Any]) -> str:
    prompt = _cell(example, row, "instruction", "question", "query")
    extra = _cell(example, row, "input")
    if extra.strip().lower() in NO_INPUT:
        example.problems.append("placeholder_input")
        extra = ""
    return f"{prompt}\n\n{extra}" if prompt.strip() and extra.strip() else prompt or extra


def _alpaca(example: Example, row: Mapping[str, Any]) -> None:
    answer = _cell(example, row, *ALPACA_ANSWERS)
    example.messages = _ask(example, row, _instruction(example, row)) + _answer(answer)


def _prompt_and_completion(example: Example, row: Mapping[str, Any]) -> tuple[list[Message], Any]:
    answer = next((name for name in ANSWERS if name in row), "")
    prompt = next(name for name in PROMPTS if name in row and name != answer)
    if _is_turns(row[prompt]):
        asked = _add_turns(example, row[prompt])
    else:
        asked = _ask(example, row, _cell(example, row, prompt))
    if _is_turns(row.get(answer)):
        return asked, _add_turns(example, row[answer])
    return asked, _answer(_cell(example, row, answer))


def _prompt_completion(example: Example, row: Mapping[str, Any]) -> None:
    asked, answered = _prompt_and_completion(example, row)
    example.messages = asked + answered


def _prompt_only(example: Example, row: Mapping[str, Any]) -> None:
    asked, _ = _prompt_and_completion(example, row)
    example.messages = asked
    example.problems.append("missing_assistant")


def _plain_text(example: Example, row: Mapping[str, Any]) -> None:
    example.text = _cell(example, row, "text")


def _kto(example: Example, row: Mapping[str, Any]) -> None:
    example.label = _label(row)
    if any(_is_turns(row.get(name)) for name in LISTS):
        turns = _add_turns(example, row[_list_name(row)])
        example.messages, example.chosen = turns[:-1], turns[-1:]
    else:
        example.messages, example.chosen = _prompt_and_completion(example, row)


def _side(example: Example, value: Any) -> list[Message]:
    return (
        _answer(value)
        if isinstance(value, str) and not _is_turns(value)
        else _add_turns(example, value)
    )


def _pair(example: Example, row: Mapping[str, Any], names: tuple[str, str]) -> None:
    example.chosen = _side(example, row[names[0]])
    example.rejected = _side(example, row[names[1]])
    if len(example.chosen) > 1 or len(example.rejected) > 1:
        _take_prompt_out(example)


def _take_prompt_out(example: Example) -> None:
    """Move the turns that both sides begin with into the prompt; both must then only answer."""
    chosen, rejected = example.chosen, example.rejected
    shared = 0
    while shared < min(len(chosen), len(rejected)) - 1 and chosen[shared] == rejected[shared]:
        shared += 1
    prompt = chosen[:shared]
    if not example.messages:
        example.messages = prompt
        example.chosen, example.rejected = chosen[shared:], rejected[shared:]
    elif prompt[-1:] == example.messages[-1:]:
        # An explicit prompt that both sides repeat.
        example.chosen, example.rejected = chosen[shared:], rejected[shared:]
    if any(
        side[:1] and side[0]["role"] != "assistant" for side in (example.chosen, example.rejected)
    ):
        example.problems.append("prompts_differ")


def _explicit(example: Example, row: Mapping[str, Any]) -> None:
    prompt = row["prompt"]
    example.messages = (
        _add_turns(example, prompt)
        if _is_turns(prompt)
        else _ask(example, row, _cell(example, row, "prompt"))
    )
    _pair(example, row, ("chosen", "rejected"))


def _implicit(example: Example, row: Mapping[str, Any]) -> None:
    example.problems.append("implicit_prompt")
    if isinstance(row["chosen"], str) and isinstance(row["rejected"], str):
        _implicit_strings(example, row["chosen"], row["rejected"])
    else:
        _pair(example, row, ("chosen", "rejected"))


def _implicit_strings(example: Example, chosen: str, rejected: str) -> None:
    """Cut two texts where they part, at the last space before it, as TRL does."""
    shared = 0
    while shared < min(len(chosen), len(rejected)) and chosen[shared] == rejected[shared]:
        shared += 1
    cut = chosen.rfind(" ", 0, shared) if chosen != rejected else shared
    cut = max(cut, 0)
    example.messages = [{"role": "user", "content": chosen[:cut]}]
    example.chosen, example.rejected = _answer(chosen[cut:]), _answer(rejected[cut:])


def _chat_preference(example: Example, row: Mapping[str, Any]) -> None:
    _chat(example, row)
    _pair(example, row, ("chosen", "rejected"))


def _alpaca_preference(example: Example, row: Mapping[str, Any]) -> None:
    example.messages = _ask(example, row, _instruction(example, row))
    _pair(example, row, ("chosen", "rejected"))


def _openai_preference(example: Example, row: Mapping[str, Any]) -> None:
    asked = row.get("input")
    inside = asked.get("messages") if isinstance(asked, Mapping) else asked
    example.messages = _add_turns(example, inside)
    _pair(example, row, ("preferred_output", "non_preferred_output"))


_BUILDERS: dict[str, Callable[[Example, Mapping[str, Any]], None]] = {
    "openai_messages": _chat,
    "sharegpt": _chat,
    "alpaca": _alpaca,
    "prompt_completion": _prompt_completion,
    "text": _plain_text,
    "preference_explicit": _explicit,
    "preference_implicit": _implicit,
    "sharegpt_preference": _chat_preference,
    "alpaca_preference": _alpaca_preference,
    "openai_preference": _openai_preference,
    "kto": _kto,
    "prompt_only": _prompt_only,
}
_TASKS = dict.fromkeys(PREFERENCES, "dpo") | {"kto": "kto"}
