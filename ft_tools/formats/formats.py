"""Turn a row of any format into an `Example`.

Source: https://huggingface.co/docs/trl/dataset_formats, LLaMA-Factory data/README.md
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from ft_tools.formats.detect_format import (
    ABOUT,
    ALPACA_ANSWERS,
    PREFERENCES,
    PROMPTS,
    answer_name,
    detect,
    label_of,
    list_name,
    turns_in,
)
from ft_tools.formats.example import Example, Message, content_of
from ft_tools.formats.loss_marks import is_trained, without_mark
from ft_tools.formats.turns import (
    ROLES,
    UNTRAINED,
    add_turns,
    answered_with,
    as_transcript,
    ask,
    called,
    calls_in,
    cell,
    holds_turns,
    is_answered,
    is_conversation,
    objects,
    with_system,
)

NO_INPUT = {"<noinput>", "<no input>", "noinput", "no input", "n/a", "none"}
PYTHON_TURNS = re.compile(r"\s*+\[\s*+\{\s*+'(?:role|from|content|value)'\s*+:")
"""How Python prints a list of turns; so pandas and NumPy write it into CSV."""
TURN_COLUMNS = frozenset(
    {"messages", "conversations", "conversation", "dialogue", "dialog", "chat"}
    | {"prompt", "completion", "chosen", "rejected"}
)


def normalise(line: int, row: Any) -> Example:
    """Turn a row into an example; what is wrong with it is in `problems`, never raised."""
    if is_conversation(row):
        row = {"messages": row}
    name, row = _without_nulls(row)
    example = Example(line, name, _TASKS.get(name, "sft"))
    if name == "unknown":
        example.problems.append("python_turns" if has_python_turns(row) else "unknown_format")
        return example
    _BUILDERS[name](example, row)
    example.tools = example.tools or _tools(example, row) or None
    if example.text is not None and _has_speaker(row):
        example.problems.append("lone_turn")
    if has_python_turns(row):
        example.problems.append("python_turns")
    return example


def has_python_turns(row: Any) -> bool:
    """Return whether a column holds turns as Python prints them, which is no JSON."""
    return isinstance(row, Mapping) and any(
        isinstance(row[name], str) and PYTHON_TURNS.match(row[name])
        for name in TURN_COLUMNS.intersection(row)
    )


def _has_speaker(row: Mapping[str, Any]) -> bool:
    """Return whether a text is one turn of a conversation that other rows continue, as in OASST."""
    role = row.get("role")
    return isinstance(role, str) and role.strip().lower() in ROLES


def is_as_trained(example: Example, row: Any) -> bool:
    """Return whether launches read a row of JSON lines just as its example says."""
    if example.task == "kto" or not isinstance(row, Mapping) or None in row.values():
        return False
    if not _says_what_is_trained(example, row):
        return False
    return example.task != "sft" or example.text is not None or _is_trained_alike(example, row)


def _says_what_is_trained(example: Example, row: Mapping[str, Any]) -> bool:
    """Return whether a row has the columns that launches read, with what its example says."""
    if all(row.get(name) == value for name, value in example.row().items()):
        return True
    answers = ("completion",) if example.task == "sft" else ("chosen", "rejected")
    values: list[Any] = [row.get(name) for name in ("prompt", *answers)]
    said = [*example.messages, *example.chosen, *example.rejected]
    if example.tools or None in values:
        return False
    if all(isinstance(value, list) for value in values):
        read = [turn for turns in values for turn in turns]
        return list(map(without_mark, said)) == list(map(without_mark, read))
    roles = ("user", "assistant", "assistant")
    texts = zip(roles, values, strict=False)
    return said == [{"role": role, "content": text} for role, text in texts]


def _is_trained_alike(example: Example, row: Mapping[str, Any]) -> bool:
    """Return whether all that launch_sft would train of a row is to be trained."""
    turns = row.get("completion") if example.format == "prompt_completion" else example.messages
    answers = [
        turn
        for turn in (turns if isinstance(turns, list) else [])
        if isinstance(turn, Mapping) and turn.get("role") == "assistant"
    ]
    return is_answered(example.messages) and all(map(is_trained, answers))


def _without_nulls(row: Any) -> tuple[str, Any]:
    """Return the format of a row and what is read of it.

    Nulls are the columns of other sets that it was joined with, if the rest is an example.
    """
    if not isinstance(row, Mapping):
        return "unknown", row
    rest = row
    if None in row.values():
        rest = {name: value for name, value in row.items() if value is not None}
    found = detect(rest)
    return (detect(row), row) if found in {"unknown", "prompt_only"} else (found, rest)


def _tools(example: Example, row: Mapping[str, Any]) -> list[Any]:
    """Return the tools of a row, as OpenAI spells them today or did before."""
    if row.get("tools") is not None:
        return objects(example, row["tools"])
    return [{"type": "function", "function": one} for one in objects(example, row.get("functions"))]


def _chat(example: Example, row: Mapping[str, Any]) -> None:
    example.messages = with_system(example, row, _turns(example, row))


def _turns(example: Example, row: Mapping[str, Any]) -> list[Message]:
    name = list_name(row) or ""
    told = turns_in(row, name)
    turns = add_turns(example, told)
    if told is not row[name]:
        # Nobody is named in the file, so no trainer knows who speaks.
        example.roles, example.turn_keys = frozenset({""}), ()
    return turns


def _question(example: Example, row: Mapping[str, Any], *names: str) -> str:
    """Return what is asked, by the first of these columns, and behind it what it is about."""
    asked = next((name for name in names if name in row), None)
    parts = [cell(example, row, asked)] if asked else []
    for name in ABOUT:
        if name == asked or not row.get(name):
            continue
        if name == "context" and not isinstance(row[name], str):
            # Passages with titles, or turns: how they would be told is not known.
            example.problems.append("unread_column")
            continue
        extra = cell(example, row, name)
        if extra.strip().lower() in NO_INPUT:
            example.problems.append("placeholder_input")
        else:
            parts.append(extra)
    return "\n\n".join(part for part in parts if part.strip())


def _alpaca(example: Example, row: Mapping[str, Any]) -> None:
    question = _question(example, row, "instruction", "question", "query")
    example.messages = ask(example, row, question) + answered_with(
        cell(example, row, *ALPACA_ANSWERS)
    )


def _prompt_and_completion(example: Example, row: Mapping[str, Any]) -> tuple[list[Message], Any]:
    answer = answer_name(row) or ""
    asked = _asked(example, row, *(name for name in PROMPTS if name != answer))
    if answer == "answers":
        return asked, [called(calls_in(row[answer]))]
    if holds_turns(row.get(answer)):
        return asked, add_turns(example, row[answer])
    return asked, answered_with(cell(example, row, answer))


def _asked(example: Example, row: Mapping[str, Any], *names: str) -> list[Message]:
    """Return the turns before the answer: a prompt of turns, or the texts that ask."""
    prompt = next(name for name in names if name in row)
    if holds_turns(row[prompt]):
        return with_system(example, row, add_turns(example, row[prompt]))
    told = as_transcript(row[prompt])
    if told is not row[prompt]:
        turns = add_turns(example, told)
        # It ends with who is to speak next.
        return with_system(example, row, turns if turns[-1]["content"] else turns[:-1])
    return ask(example, row, _question(example, row, prompt))


def _prompt_completion(example: Example, row: Mapping[str, Any]) -> None:
    asked, answered = _prompt_and_completion(example, row)
    if not row.get("history"):
        # Of a prompt of turns none is trained; LLaMA-Factory trains its history.
        asked = [turn | UNTRAINED if turn["role"] == "assistant" else turn for turn in asked]
    example.messages = asked + answered


def _prompt_only(example: Example, row: Mapping[str, Any]) -> None:
    asked, _ = _prompt_and_completion(example, row)
    example.messages = asked
    example.problems.append("missing_assistant")


def _plain_text(example: Example, row: Mapping[str, Any]) -> None:
    example.text = cell(example, row, "text")


def _kto(example: Example, row: Mapping[str, Any]) -> None:
    example.label = label_of(row)
    if list_name(row):
        turns = with_system(example, row, _turns(example, row))
        example.messages, example.chosen = turns[:-1], turns[-1:]
    else:
        example.messages, example.chosen = _prompt_and_completion(example, row)


def _side(example: Example, value: Any) -> list[Message]:
    return (
        answered_with(value)
        if isinstance(value, str) and not holds_turns(value)
        else add_turns(example, value)
    )


def _pair(example: Example, row: Mapping[str, Any], names: tuple[str, str]) -> None:
    example.chosen = _side(example, row[names[0]])
    example.rejected = _side(example, row[names[1]])
    if len(example.chosen) > 1 or len(example.rejected) > 1:
        _take_prompt_out(example)
    for side in filter(None, (example.chosen, example.rejected)):
        if not is_answered(side):
            example.problems.append("missing_assistant")
        elif not content_of(side[-1]).strip():
            example.problems.append("empty_answer")


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
    elif prompt and _says_the_same(prompt[-1], example.messages[-1]):
        # An explicit prompt that both sides repeat, it may be with what came before it.
        example.messages = max(prompt, example.messages, key=len)
        example.chosen, example.rejected = chosen[shared:], rejected[shared:]
    if any(
        side[:1] and side[0]["role"] != "assistant" for side in (example.chosen, example.rejected)
    ):
        example.problems.append("prompts_differ")


def _says_the_same(one: Message, other: Message) -> bool:
    """Return whether two turns differ in no more than blanks around their texts."""
    return one | {"content": one["content"].strip()} == other | {
        "content": other["content"].strip()
    }


def _explicit(example: Example, row: Mapping[str, Any]) -> None:
    example.messages = _asked(example, row, "prompt")
    _pair(example, row, ("chosen", "rejected"))


def _implicit(example: Example, row: Mapping[str, Any]) -> None:
    example.problems.append("implicit_prompt")
    sides = row["chosen"], row["rejected"]
    told = dict(zip(("chosen", "rejected"), map(as_transcript, sides), strict=True))
    if all(isinstance(side, list) for side in told.values()):
        _pair(example, told, ("chosen", "rejected"))
    elif all(isinstance(side, str) and not holds_turns(side) for side in sides):
        _implicit_strings(example, *sides)
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
    question = _question(example, row, "instruction", "question", "query")
    example.messages = ask(example, row, question)
    _pair(example, row, ("chosen", "rejected"))


def _openai_preference(example: Example, row: Mapping[str, Any]) -> None:
    asked = row.get("input")
    if isinstance(asked, Mapping):
        example.tools = objects(example, asked.get("tools"))
        asked = asked.get("messages")
    example.messages = add_turns(example, asked)
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
