"""Turn a row of any format into an `Example`; the table of formats is in `detect_format`."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ft_tools.formats.detect_format import (
    ABOUT,
    FORMATS,
    OPENAI_SIDES,
    SIDES,
    Columns,
    Row,
    columns_of,
    detect,
    label_of,
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
    if name == "unknown":
        example = Example(line, name, "sft")
        example.problems.append("python_turns" if has_python_turns(row) else "unknown_format")
        return example
    example = Example(line, name, FORMATS[name].task)
    _BUILDERS[name](example, row, columns_of(row))
    example.tools = example.tools or _tools(example, row) or None
    role = row.get("role")
    if example.text is not None and isinstance(role, str) and role.strip().lower() in ROLES:
        # One turn of a conversation that other rows continue, as in OASST.
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


def is_as_trained(example: Example, row: Any) -> bool:
    """Return whether launches read a row of JSON lines just as its example says."""
    if example.task == "kto" or not isinstance(row, Mapping) or None in row.values():
        return False
    if not _has_loss_marks(example, row):
        return False
    if example.task != "sft" or example.text is not None:
        return True
    turns = row.get("completion") if example.format == "prompt_completion" else example.messages
    answers = [
        turn
        for turn in (turns if isinstance(turns, list) else [])
        if isinstance(turn, Mapping) and turn.get("role") == "assistant"
    ]
    return is_answered(example.messages) and all(map(is_trained, answers))


def _has_loss_marks(example: Example, row: Row) -> bool:
    """Return whether a row has the columns that launches read, with what its example says."""
    if all(row.get(name) == value for name, value in example.row().items()):
        return True
    answers = ("completion",) if example.task == "sft" else SIDES
    values: list[Any] = [row.get(name) for name in ("prompt", *answers)]
    said = [*example.messages, *example.chosen, *example.rejected]
    if example.tools or None in values:
        return False
    if all(isinstance(value, list) for value in values):
        read = [turn for turns in values for turn in turns]
        return list(map(without_mark, said)) == list(map(without_mark, read))
    texts = zip(("user", "assistant", "assistant"), values, strict=False)
    return said == [{"role": role, "content": text} for role, text in texts]


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


def _tools(example: Example, row: Row) -> list[Any]:
    """Return the tools of a row, as OpenAI spells them today or did before."""
    if row.get("tools") is not None:
        return objects(example, row["tools"])
    return [{"type": "function", "function": one} for one in objects(example, row.get("functions"))]


def _turns(example: Example, row: Row, its: Columns) -> list[Message]:
    name = its.turns or ""
    told = turns_in(row, name)
    turns = add_turns(example, told)
    if told is not row[name]:
        # Nobody is named in the file, so no trainer knows who speaks.
        example.roles, example.turn_keys = frozenset({""}), ()
    return with_system(example, row, turns)


def _question(example: Example, row: Row, asked: str | None) -> str:
    """Return what a column asks, and behind it what it is about."""
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


def _asked(example: Example, row: Row, name: str) -> list[Message]:
    """Return the turns before the answer: a prompt of turns, or the texts that ask."""
    if holds_turns(row[name]):
        return with_system(example, row, add_turns(example, row[name]))
    told = as_transcript(row[name])
    if told is not row[name]:
        turns = add_turns(example, told)
        # It ends with who is to speak next.
        return with_system(example, row, turns if turns[-1]["content"] else turns[:-1])
    return ask(example, row, _question(example, row, name))


def _side(example: Example, value: Any) -> list[Message]:
    """Return the turns of an answer, which may be a text."""
    is_text = isinstance(value, str) and not holds_turns(value)
    return answered_with(value) if is_text else add_turns(example, value)


def _answer(example: Example, row: Row, its: Columns) -> list[Message]:
    name = its.answer or ""
    if name == "answers":
        return [called(calls_in(row[name]))]
    if holds_turns(row.get(name)):
        return add_turns(example, row[name])
    return answered_with(cell(example, row, name))


def _chat(example: Example, row: Row, its: Columns) -> None:
    example.messages = _turns(example, row, its)


def _alpaca(example: Example, row: Row, its: Columns) -> None:
    asked = ask(example, row, _question(example, row, its.instruction))
    example.messages = asked + answered_with(cell(example, row, its.alpaca_answer or ""))


def _prompt_completion(example: Example, row: Row, its: Columns) -> None:
    asked = _asked(example, row, its.asked or "")
    if not row.get("history"):
        # Of a prompt of turns none is trained; LLaMA-Factory trains its history.
        asked = [turn | UNTRAINED if turn["role"] == "assistant" else turn for turn in asked]
    example.messages = asked + _answer(example, row, its)


def _prompt_only(example: Example, row: Row, its: Columns) -> None:
    example.messages = _asked(example, row, its.asked or "")
    example.problems.append("missing_assistant")


def _plain_text(example: Example, row: Row, _: Columns) -> None:
    example.text = cell(example, row, "text")


def _kto(example: Example, row: Row, its: Columns) -> None:
    example.label = label_of(row)
    if its.turns:
        turns = _turns(example, row, its)
        example.messages, example.chosen = turns[:-1], turns[-1:]
    else:
        example.messages = _asked(example, row, its.asked or "")
        example.chosen = _answer(example, row, its)


def _explicit(example: Example, row: Row, _: Columns) -> None:
    example.messages = _asked(example, row, "prompt")
    _pair(example, row)


def _implicit(example: Example, row: Row, _: Columns) -> None:
    example.problems.append("implicit_prompt")
    told = {name: as_transcript(row[name]) for name in SIDES}
    sides = [row[name] for name in SIDES]
    if all(isinstance(side, list) for side in told.values()):
        _pair(example, told)
    elif all(isinstance(side, str) and not holds_turns(side) for side in sides):
        _implicit_strings(example, *sides)
    else:
        _pair(example, row)


def _chat_preference(example: Example, row: Row, its: Columns) -> None:
    _chat(example, row, its)
    _pair(example, row)


def _alpaca_preference(example: Example, row: Row, its: Columns) -> None:
    example.messages = ask(example, row, _question(example, row, its.instruction))
    _pair(example, row)


def _openai_preference(example: Example, row: Row, _: Columns) -> None:
    asked = row.get("input")
    if isinstance(asked, Mapping):
        example.tools = objects(example, asked.get("tools"))
        asked = asked.get("messages")
    example.messages = add_turns(example, asked)
    _pair(example, row, OPENAI_SIDES)


_BUILDERS: dict[str, Callable[[Example, Row, Columns], None]] = {
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


def _pair(example: Example, row: Row, names: tuple[str, ...] = SIDES) -> None:
    example.chosen, example.rejected = (_side(example, row[name]) for name in names)
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
    shared = _num_shared(chosen[:-1], rejected[:-1])
    prompt = chosen[:shared]
    # An explicit prompt that both sides repeat, it may be with what came before it.
    if not example.messages or (
        prompt and _stripped(prompt[-1]) == _stripped(example.messages[-1])
    ):
        example.messages = max(prompt, example.messages, key=len)
        example.chosen, example.rejected = chosen[shared:], rejected[shared:]
    sides = (example.chosen, example.rejected)
    if any(side and side[0]["role"] != "assistant" for side in sides):
        example.problems.append("prompts_differ")


def _stripped(turn: Message) -> Message:
    return turn | {"content": turn["content"].strip()}


def _implicit_strings(example: Example, chosen: str, rejected: str) -> None:
    """Cut two texts where they part, at the last space before it, as TRL does."""
    shared = _num_shared(chosen, rejected)
    cut = max(chosen.rfind(" ", 0, shared) if chosen != rejected else shared, 0)
    example.messages = [{"role": "user", "content": chosen[:cut]}]
    example.chosen, example.rejected = answered_with(chosen[cut:]), answered_with(rejected[cut:])


def _num_shared(one: Sequence[Any], other: Sequence[Any]) -> int:
    """Return how many items two sequences share at their start."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))
