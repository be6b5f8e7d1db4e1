"""Recognise a row's format from its columns, and turn it into an `Example`.

Formats: openai_messages, sharegpt, alpaca, prompt_completion, text, preference_explicit,
preference_implicit, sharegpt_preference, alpaca_preference, openai_preference, kto, prompt_only.

Source: https://huggingface.co/docs/trl/dataset_formats, LLaMA-Factory data/README.md
"""

from collections.abc import Callable, Mapping
from typing import Any

from ft_tools.data.example import Example, Message
from ft_tools.data.turns import add_turns, answered_with, as_turns, ask, cell, is_turns, parsed_list

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


def detect(row: Any) -> str:
    """Name the format of a row from its columns and the types in them; unknown if none fits."""
    if not isinstance(row, Mapping):
        return "unknown"
    keys = row.keys()
    listed = next((name for name in LISTS if is_turns(row.get(name))), None)
    has_pair = "chosen" in keys and "rejected" in keys
    if "preferred_output" in keys and "non_preferred_output" in keys:
        return "openai_preference"
    if has_pair:
        return _preference(row, listed)
    if listed:
        if isinstance(_label(row), bool):
            return "kto"
        return "sharegpt" if _spells_from(as_turns(row[listed])) else "openai_messages"
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
    tools = parsed_list(row.get("tools"))
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


def _spells_from(turns: Any) -> bool:
    return any(isinstance(turn, Mapping) and "from" in turn for turn in turns)


def _label(row: Mapping[str, Any]) -> Any:
    label = row.get("label", row.get("kto_tag"))
    if isinstance(label, str) and label.strip().lower() in {"true", "false"}:
        return label.strip().lower() == "true"
    return label


def _list_name(row: Mapping[str, Any]) -> str:
    return next(name for name in LISTS if is_turns(row.get(name)))


def _chat(example: Example, row: Mapping[str, Any]) -> None:
    messages = add_turns(example, row[_list_name(row)])
    if isinstance(row.get("system"), str) and row["system"].strip():
        messages.insert(0, {"role": "system", "content": row["system"]})
    example.messages = messages


def _instruction(example: Example, row: Mapping[str, Any]) -> str:
    prompt = cell(example, row, "instruction", "question", "query")
    extra = cell(example, row, "input")
    if extra.strip().lower() in NO_INPUT:
        example.problems.append("placeholder_input")
        extra = ""
    return f"{prompt}\n\n{extra}" if prompt.strip() and extra.strip() else prompt or extra


def _alpaca(example: Example, row: Mapping[str, Any]) -> None:
    answer = cell(example, row, *ALPACA_ANSWERS)
    example.messages = ask(example, row, _instruction(example, row)) + answered_with(answer)


def _prompt_and_completion(example: Example, row: Mapping[str, Any]) -> tuple[list[Message], Any]:
    answer = next((name for name in ANSWERS if name in row), "")
    prompt = next(name for name in PROMPTS if name in row and name != answer)
    if is_turns(row[prompt]):
        asked = add_turns(example, row[prompt])
    else:
        asked = ask(example, row, cell(example, row, prompt))
    if is_turns(row.get(answer)):
        return asked, add_turns(example, row[answer])
    return asked, answered_with(cell(example, row, answer))


def _prompt_completion(example: Example, row: Mapping[str, Any]) -> None:
    asked, answered = _prompt_and_completion(example, row)
    example.messages = asked + answered


def _prompt_only(example: Example, row: Mapping[str, Any]) -> None:
    asked, _ = _prompt_and_completion(example, row)
    example.messages = asked
    example.problems.append("missing_assistant")


def _plain_text(example: Example, row: Mapping[str, Any]) -> None:
    example.text = cell(example, row, "text")


def _kto(example: Example, row: Mapping[str, Any]) -> None:
    example.label = _label(row)
    if any(is_turns(row.get(name)) for name in LISTS):
        turns = add_turns(example, row[_list_name(row)])
        example.messages, example.chosen = turns[:-1], turns[-1:]
    else:
        example.messages, example.chosen = _prompt_and_completion(example, row)


def _side(example: Example, value: Any) -> list[Message]:
    return (
        answered_with(value)
        if isinstance(value, str) and not is_turns(value)
        else add_turns(example, value)
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
        add_turns(example, prompt)
        if is_turns(prompt)
        else ask(example, row, cell(example, row, "prompt"))
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
    example.chosen, example.rejected = answered_with(chosen[cut:]), answered_with(rejected[cut:])


def _chat_preference(example: Example, row: Mapping[str, Any]) -> None:
    _chat(example, row)
    _pair(example, row, ("chosen", "rejected"))


def _alpaca_preference(example: Example, row: Mapping[str, Any]) -> None:
    example.messages = ask(example, row, _instruction(example, row))
    _pair(example, row, ("chosen", "rejected"))


def _openai_preference(example: Example, row: Mapping[str, Any]) -> None:
    asked = row.get("input")
    inside = asked.get("messages") if isinstance(asked, Mapping) else asked
    example.messages = add_turns(example, inside)
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
