"""The table of formats: how a row is recognised, and which columns are read into an `Example`.

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

    @property
    def is_answered(self) -> bool:
        """Return whether there is a prompt and its answer."""
        return self.asked is not None and self.answer is not None


class Format(NamedTuple):
    """A row of the table; columns that a row may have under several names stand in braces."""

    task: str
    """sft, dpo or kto."""
    asked: tuple[str, ...]
    """The columns that a prompt, or a whole conversation, is made of, beside `BESIDE`."""
    answered: tuple[str, ...]
    """The columns of the answers."""
    fits: Callable[[Row, Columns], Any]
    """Whether a row has this format, if it has none of those above."""


def _has_sides(row: Row) -> bool:
    return "chosen" in row and "rejected" in row


TEXTS, ANSWER = ("{asked}", *ABOUT), ("{answer}",)
FORMATS = {
    "openai_preference": Format(
        "dpo", ("input",), OPENAI_SIDES, lambda row, _: row.keys() >= {*OPENAI_SIDES}
    ),
    # What ends with an answer is no prompt, but one of the sides again.
    "sharegpt_preference": Format(
        "dpo",
        ("{turns}",),
        SIDES,
        lambda row, its: (
            _has_sides(row) and its.turns and not is_answered(as_turns(row[its.turns]))
        ),
    ),
    "preference_explicit": Format(
        "dpo", TEXTS, SIDES, lambda row, _: _has_sides(row) and "prompt" in row
    ),
    "alpaca_preference": Format(
        "dpo", TEXTS, SIDES, lambda row, its: _has_sides(row) and its.asked
    ),
    "preference_implicit": Format("dpo", (), SIDES, lambda row, _: _has_sides(row)),
    "kto": Format(
        "kto",
        ("label", "kto_tag", "{turns}", *TEXTS),
        ANSWER,
        lambda row, its: (its.turns or its.is_answered) and isinstance(label_of(row), bool),
    ),
    "sharegpt": Format(
        "sft", ("{turns}",), (), lambda row, its: its.turns and _is_sharegpt(row, its.turns)
    ),
    "openai_messages": Format("sft", ("{turns}",), (), lambda _, its: its.turns),
    "alpaca": Format(
        "sft", TEXTS, ANSWER, lambda _, its: its.is_answered and its.asked == "instruction"
    ),
    "prompt_completion": Format("sft", TEXTS, ANSWER, lambda _, its: its.is_answered),
    "text": Format("sft", ("text",), (), lambda row, _: "text" in row),
    "prompt_only": Format("sft", TEXTS, ANSWER, lambda _, its: its.asked),
}
PREFERENCES = {name for name, one in FORMATS.items() if one.task == "dpo"}


def detect(row: Any) -> str:
    """Name the format of a row from its columns and the types in them; unknown if none fits."""
    return _recognised(row)[0]


def _recognised(row: Any) -> tuple[str, Columns]:
    if not isinstance(row, Mapping):
        return "unknown", Columns(None, None, None)
    its = columns_of(row)
    return next((name for name, one in FORMATS.items() if one.fits(row, its)), "unknown"), its


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
    _build(example, row, columns)
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
    if any(row.get(name) != value for name, value in example.row().items()):
        answers = ("completion",) if example.task == "sft" else SIDES
        values = [row.get(name) for name in ("prompt", *answers)]
        said = [*example.messages, *example.chosen, *example.rejected]
        roles = zip(("user", "assistant", "assistant"), values, strict=False)
        listed = [turn for value in values if isinstance(value, list) for turn in value]
        is_text = said == [{"role": role, "content": text} for role, text in roles]
        are_turns = list(map(without_mark, said)) == list(map(without_mark, listed))
        if example.tools or not (is_text or are_turns):
            return False
    if example.task != "sft" or example.text is not None:
        return True
    read = row.get("completion") if example.format == "prompt_completion" else example.messages
    turns = [turn for turn in read if isinstance(turn, Mapping)] if isinstance(read, list) else []
    answered = [turn for turn in turns if turn.get("role") == "assistant"]
    return is_answered(example.messages) and all(map(is_trained, answered))


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


def _build(example: Example, row: Row, its: Columns) -> None:
    """Read the columns of a row into its example."""
    form = FORMATS[example.format]
    if example.format == "text":
        example.text = cell(example, row, "text")
        return
    if "{turns}" in form.asked and its.turns:
        example.messages = with_system(example, row, add_turns(example, row[its.turns]))
    elif form.asked == ("input",):
        asked = row.get("input")
        if isinstance(asked, Mapping):
            example.tools = objects(example, asked.get("tools"))
            asked = asked.get("messages")
        example.messages = add_turns(example, asked)
    elif form.asked:
        example.messages = _asked(example, row, its.asked or "")
    if example.task == "dpo":
        (_pair if form.asked else _implicit)(example, row, form.answered)
    elif form.answered:
        _answered(example, row, its)


def _answered(example: Example, row: Row, its: Columns) -> None:
    """Add the answer to what is asked."""
    if example.task == "kto":
        example.label = label_of(row)
        if its.turns:
            example.messages, example.chosen = example.messages[:-1], example.messages[-1:]
        else:
            example.chosen = _answer(example, row, its)
    elif its.answer is None:
        example.problems.append("missing_assistant")
    else:
        asked = example.messages
        if not row.get("history"):
            # Of a prompt of turns none is trained; LLaMA-Factory trains its history.
            asked = [turn | UNTRAINED if turn["role"] == "assistant" else turn for turn in asked]
        example.messages = asked + _answer(example, row, its)


def _implicit(example: Example, row: Row, sides: tuple[str, ...]) -> None:
    example.problems.append("implicit_prompt")
    told = {name: as_transcript(row[name]) for name in sides}
    texts = [row[name] for name in sides]
    if all(isinstance(side, list) for side in told.values()):
        _pair(example, told, sides)
    elif all(isinstance(side, str) and not holds_turns(side) for side in texts):
        _implicit_strings(example, *texts)
    else:
        _pair(example, row, sides)


def _pair(example: Example, row: Row, names: tuple[str, ...]) -> None:
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


def columns_read(row: Row, format_name: str) -> frozenset[str]:
    """Return the names of the columns that an example of a format is made of."""
    return _read(format_name, columns_of(row))


@lru_cache(maxsize=1024)
def _read(format_name: str, columns: Columns) -> frozenset[str]:
    form = FORMATS.get(format_name)
    read = (*form.asked, *form.answered) if form else ()
    if format_name == "kto" and columns.turns:
        read = tuple(name for name in read if name not in TEXTS + ANSWER)
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
