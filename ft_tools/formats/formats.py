"""The table of formats: which columns of a row are read as what, into an `Example`.

Source: https://huggingface.co/docs/trl/dataset_formats, LLaMA-Factory data/README.md
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from ft_tools.formats.example import Example, Message, content_of
from ft_tools.formats.loss_marks import is_trained, without_mark
from ft_tools.formats.turns import (
    GEMINI_SYSTEMS,
    ROLES,
    SYSTEMS,
    UNTRAINED,
    add_turns,
    answered_with,
    as_transcript,
    as_turns,
    ask,
    called,
    calls_in,
    cell,
    holds_turns,
    is_answered,
    is_conversation,
    is_turns,
    objects,
    with_system,
)

Row = Mapping[str, Any]
LISTS = (
    "messages", "conversations", "conversation", "dialogue", "dialog", "turns", "chat", "contents"
)  # fmt: skip
PROMPTS = (
    "prompt", "instruction", "question", "query", "user_prompt", "input", "inputs", "context"
)  # fmt: skip
ANSWERS = (
    "completion", "output", "response", "answer", "target", "targets", "solution", "assistant"
)  # fmt: skip
ABOUT = ("input", "context")
"""What a prompt may be about, if it is not the prompt itself."""
BESIDE = (*SYSTEMS, *GEMINI_SYSTEMS, "tools", "functions", "history")
"""What is read of a row whatever its format is."""
SIDES = ("chosen", "rejected")
OPENAI_SIDES = ("preferred_output", "non_preferred_output")
NO_INPUT = {"<noinput>", "<no input>", "noinput", "no input", "n/a", "none"}
PYTHON_TURNS = re.compile(r"\s*+\[\s*+\{\s*+'(?:role|from|content|value)'\s*+:")
"""How Python prints a list of turns; so pandas and NumPy write it into CSV."""
TURN_COLUMNS = frozenset(
    {"messages", "conversations", "conversation", "dialogue", "dialog", "chat"}
    | {"prompt", "completion", "chosen", "rejected"}
)


class Columns(NamedTuple):
    """The columns of a row that may be its turns, its prompt and its answer."""

    turns: str | None
    asked: str | None
    answer: str | None


class Format(NamedTuple):
    """A row of the table."""

    task: str
    """sft, dpo or kto."""
    build: Callable[[Example, Row, Columns], None]
    """Reads the columns into an example."""
    read: tuple[str, ...]
    """The columns that an example is made of, beside `BESIDE`; fields of `Columns` by name."""


def normalise(line: int, row: Any) -> Example:
    """Turn a row into an example; what is wrong with it is in `problems`, never raised."""
    if is_conversation(row):
        row = {"messages": row}
    name, columns, row = _without_nulls(row)
    if name == "unknown":
        example = Example(line, name, "sft")
        example.problems.append("python_turns" if has_python_turns(row) else "unknown_format")
        return example
    example = Example(line, name, FORMATS[name].task)
    FORMATS[name].build(example, row, columns)
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


def _without_nulls(row: Any) -> tuple[str, Columns, Any]:
    """Return the format of a row, its columns, and what is read of it.

    Nulls are the columns of other sets that it was joined with, if the rest is an example.
    """
    if isinstance(row, Mapping) and None in row.values():
        rest = {name: value for name, value in row.items() if value is not None}
        name, columns = _recognised(rest)
        if name not in {"unknown", "prompt_only"}:
            return name, columns, rest
    return *_recognised(row), row


def _tools(example: Example, row: Row) -> list[Any]:
    """Return the tools of a row, as OpenAI spells them today or did before."""
    if row.get("tools") is not None:
        return objects(example, row["tools"])
    return [{"type": "function", "function": one} for one in objects(example, row.get("functions"))]


def _turns(example: Example, row: Row, its: Columns) -> list[Message]:
    return with_system(example, row, add_turns(example, row[its.turns or ""]))


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


def _preference(example: Example, row: Row, its: Columns) -> None:
    example.messages = _asked(example, row, its.asked or "")
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


def _openai_preference(example: Example, row: Row, _: Columns) -> None:
    asked = row.get("input")
    if isinstance(asked, Mapping):
        example.tools = objects(example, asked.get("tools"))
        asked = asked.get("messages")
    example.messages = add_turns(example, asked)
    _pair(example, row, OPENAI_SIDES)


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
    shared = num_shared(chosen[:-1], rejected[:-1])
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
    shared = num_shared(chosen, rejected)
    cut = max(chosen.rfind(" ", 0, shared) if chosen != rejected else shared, 0)
    example.messages = [{"role": "user", "content": chosen[:cut]}]
    example.chosen, example.rejected = answered_with(chosen[cut:]), answered_with(rejected[cut:])


def num_shared(one: Sequence[Any], other: Sequence[Any]) -> int:
    """Return how many items two sequences share at their start.

    >>> num_shared([1, 2, 3], [1, 2, 4, 5])
    2
    """
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


TEXTS = ("{asked}", "{answer}", *ABOUT)
PAIR = ("{asked}", *ABOUT, *SIDES)
FORMATS = {
    "openai_preference": Format("dpo", _openai_preference, ("input", *OPENAI_SIDES)),
    "sharegpt_preference": Format("dpo", _chat_preference, ("{turns}", *SIDES)),
    "preference_explicit": Format("dpo", _preference, PAIR),
    "alpaca_preference": Format("dpo", _preference, PAIR),
    "preference_implicit": Format("dpo", _implicit, SIDES),
    "kto": Format("kto", _kto, ("label", "kto_tag", "{turns}", *TEXTS)),
    "sharegpt": Format("sft", _chat, ("{turns}",)),
    "openai_messages": Format("sft", _chat, ("{turns}",)),
    "alpaca": Format("sft", _prompt_completion, TEXTS),
    "prompt_completion": Format("sft", _prompt_completion, TEXTS),
    "text": Format("sft", _plain_text, ("text",)),
    "prompt_only": Format("sft", _prompt_only, TEXTS),
}
PREFERENCES = {name for name, one in FORMATS.items() if one.task == "dpo"}


def detect(row: Any) -> str:
    """Name the format of a row from its columns and the types in them; unknown if none fits."""
    return _recognised(row)[0]


def _recognised(row: Any) -> tuple[str, Columns]:
    if not isinstance(row, Mapping):
        return "unknown", Columns(None, None, None)
    columns = columns_of(row)
    if row.keys() >= {*OPENAI_SIDES}:
        return "openai_preference", columns
    return (_pair_in if row.keys() >= {*SIDES} else _answer_in)(row, columns), columns


def _pair_in(row: Row, its: Columns) -> str:
    """Name the format of a row with a better and a worse answer."""
    # What ends with an answer is no prompt, but one of the sides again.
    if its.turns is not None and not is_answered(as_turns(row[its.turns])):
        return "sharegpt_preference"
    if "prompt" in row:
        return "preference_explicit"
    return "preference_implicit" if its.asked is None else "alpaca_preference"


def _answer_in(row: Row, its: Columns) -> str:
    """Name the format of a row with at most one answer."""
    has_answer = bool(its.asked and its.answer)
    if (its.turns or has_answer) and isinstance(label_of(row), bool):
        return "kto"
    if its.turns is not None:
        return "sharegpt" if _is_sharegpt(row, its.turns) else "openai_messages"
    if has_answer:
        return "alpaca" if its.asked == "instruction" else "prompt_completion"
    return "text" if "text" in row else "prompt_only" if its.asked else "unknown"


def columns_read(row: Row, format_name: str) -> frozenset[str]:
    """Return the names of the columns that an example of a format is made of."""
    return _read(format_name, columns_of(row))


@lru_cache(maxsize=1024)
def _read(format_name: str, columns: Columns) -> frozenset[str]:
    read = FORMATS[format_name].read if format_name in FORMATS else ()
    if format_name == "kto" and columns.turns:
        read = read[: -len(TEXTS)]
    its = {f"{{{name}}}": column for name, column in columns._asdict().items()}
    return frozenset(filter(None, (its.get(name, name) for name in (*read, *BESIDE))))


def columns_of(row: Row) -> Columns:
    """Return which columns of a row may be its turns, its prompt and its answer."""
    answer = answer_name(row)
    asked = next((name for name in PROMPTS if name in row and name != answer), None)
    return Columns(list_name(row), asked, answer)


def _is_sharegpt(row: Row, name: str) -> bool:
    """Return whether turns are not spelt as OpenAI's are; Gemini's are not, either."""
    named = (turn for turn in as_turns(row[name]) if isinstance(turn, Mapping))
    return name == "contents" or any(turn.get("from") is not None for turn in named)


def label_of(row: Row) -> Any:
    """Return what marks an answer as good or bad, true and false read as such; null if nothing."""
    label = row.get("label", row.get("kto_tag"))
    if isinstance(label, str) and label.strip().lower() in {"true", "false"}:
        return label.strip().lower() == "true"
    return label


def answer_name(row: Row) -> str | None:
    """Name the column of the answer; `answers` is one only where it holds calls, as in xLAM."""
    name = next((name for name in ANSWERS if name in row), None)
    return name or ("answers" if calls_in(row.get("answers")) else None)


def list_name(row: Row) -> str | None:
    """Name the column of the turns; `contents` is one only where it holds what Gemini has there."""
    for name in LISTS:
        if name in row:
            value = row[name]
            if is_conversation(as_turns(value)) if name == "contents" else is_turns(value):
                return name
    return None
