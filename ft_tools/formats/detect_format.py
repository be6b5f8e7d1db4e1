"""The table of formats: which columns of a row are read as what.

Source: https://huggingface.co/docs/trl/dataset_formats, LLaMA-Factory data/README.md
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from ft_tools.formats.turns import (
    GEMINI_SYSTEMS,
    SYSTEMS,
    as_turns,
    calls_in,
    is_answered,
    is_conversation,
    is_turns,
    with_roles,
)

Row = Mapping[str, Any]
LISTS = (
    "messages", "conversations", "conversation", "dialogue", "dialog", "turns", "chat", "contents"
)  # fmt: skip
PROMPTS = (
    "prompt", "question", "query", "user_prompt", "instruction", "input", "inputs", "context"
)  # fmt: skip
ANSWERS = (
    "completion", "response", "answer", "output", "target", "targets", "solution", "assistant"
)  # fmt: skip
ALPACA_ANSWERS = ("output", "response", "answer", "completion")
INSTRUCTIONS = ("instruction", "question", "query")
ABOUT = ("input", "context")
"""What a prompt may be about, if it is not the prompt itself."""
BESIDE = (*SYSTEMS, *GEMINI_SYSTEMS, "tools", "functions", "history")
"""What is read of a row whatever its format is."""
SIDES = ("chosen", "rejected")
OPENAI_SIDES = ("preferred_output", "non_preferred_output")
_VALUES = frozenset({*LISTS, "answers", "label", "kto_tag"})
"""Columns of which the value matters, and not only that they are there."""
_NAMES = frozenset({*PROMPTS, *ANSWERS, *SIDES, *OPENAI_SIDES, "text"})
"""The others that matter."""


class Columns(NamedTuple):
    """The columns of a row that may be its turns, its prompt and its answer."""

    turns: str | None = None
    asked: str | None = None
    answer: str | None = None
    instruction: str | None = None
    alpaca_answer: str | None = None

    @property
    def in_text(self) -> tuple[str | None, ...]:
        """Return the columns of a prompt and its answer in texts."""
        return () if self.turns else (self.asked, self.answer, *ABOUT)


class Format(NamedTuple):
    """A row of the table."""

    task: str
    """sft, dpo or kto."""
    fits: Callable[[Row, Columns], bool]
    read: Callable[[Columns], tuple[str | None, ...]]
    """The columns that an example is made of, beside `BESIDE`."""


def _has(*names: str) -> Callable[[Row, Columns], bool]:
    return lambda row, _: row.keys() >= set(names)


FORMATS = {
    "openai_preference": Format("dpo", _has(*OPENAI_SIDES), lambda _: ("input", *OPENAI_SIDES)),
    # What ends with an answer is no prompt, but one of the sides again.
    "sharegpt_preference": Format(
        "dpo",
        lambda row, its: (
            _has(*SIDES)(row, its)
            and its.turns is not None
            and not is_answered(as_turns(row[its.turns]))
        ),
        lambda its: (its.turns, *SIDES),
    ),
    "preference_explicit": Format(
        "dpo", _has("prompt", *SIDES), lambda _: ("prompt", *ABOUT, *SIDES)
    ),
    "alpaca_preference": Format(
        "dpo",
        lambda row, its: _has(*SIDES)(row, its) and any(n in row for n in (*INSTRUCTIONS, "input")),
        lambda its: (its.instruction, *ABOUT, *SIDES),
    ),
    "preference_implicit": Format("dpo", _has(*SIDES), lambda _: SIDES),
    "kto": Format(
        "kto",
        lambda row, its: bool(
            (its.turns or (its.asked and its.answer)) and isinstance(label_of(row), bool)
        ),
        lambda its: (its.turns, "label", "kto_tag", *its.in_text),
    ),
    "sharegpt": Format("sft", lambda row, its: _is_sharegpt(row, its.turns), lambda its: its[:1]),
    "openai_messages": Format("sft", lambda _, its: bool(its.turns), lambda its: its[:1]),
    "alpaca": Format(
        "sft",
        lambda row, its: "instruction" in row and its.alpaca_answer is not None,
        lambda its: (its.instruction, its.alpaca_answer, *ABOUT),
    ),
    "prompt_completion": Format(
        "sft", lambda _, its: bool(its.asked and its.answer), lambda its: its.in_text
    ),
    "text": Format("sft", _has("text"), lambda _: ("text",)),
    "prompt_only": Format("sft", lambda _, its: bool(its.asked), lambda its: (its.asked, *ABOUT)),
}
"""The formats; of those that fit a row, the first is its own."""
PREFERENCES = {name for name, one in FORMATS.items() if one.task == "dpo"}


def detect(row: Any) -> str:
    """Name the format of a row from its columns and the types in them; unknown if none fits."""
    if not isinstance(row, Mapping):
        return "unknown"
    return _of_names(_NAMES.intersection(row)) if _VALUES.isdisjoint(row) else _fitting(row)


def _fitting(row: Row) -> str:
    columns = columns_of(row)
    return next((name for name, one in FORMATS.items() if one.fits(row, columns)), "unknown")


@lru_cache(maxsize=1024)
def _of_names(names: frozenset[str]) -> str:
    return _fitting(dict.fromkeys(names, ""))


def columns_read(row: Row, format_name: str) -> frozenset[str]:
    """Return the names of the columns that an example of a format is made of."""
    return _read(format_name, columns_of(row))


@lru_cache(maxsize=1024)
def _read(format_name: str, columns: Columns) -> frozenset[str]:
    read = FORMATS[format_name].read(columns) if format_name in FORMATS else ()
    return frozenset(name for name in (*read, *BESIDE) if name is not None)


def columns_of(row: Row) -> Columns:
    """Return which columns of a row may be its turns, its prompt and its answer."""
    answer = answer_name(row)
    asked = next((name for name in PROMPTS if name in row and name != answer), None)
    return Columns(
        list_name(row),
        asked,
        answer,
        next((name for name in INSTRUCTIONS if name in row), asked),
        next((name for name in ALPACA_ANSWERS if name in row), None),
    )


def _is_sharegpt(row: Row, name: str | None) -> bool:
    """Return whether turns are not spelt as OpenAI's are; Gemini's are not, either."""
    if name is None:
        return False
    if name == "contents" or turns_in(row, name) is not row[name]:
        return True
    turns = as_turns(row[name])
    return any(isinstance(turn, Mapping) and turn.get("from") is not None for turn in turns)


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


def turns_in(row: Row, name: str) -> Any:
    """Return the turns of a column; `turns` is the questions alone in MT-Bench."""
    return row[name] if name == "turns" else with_roles(row[name])


def list_name(row: Row) -> str | None:
    """Name the column of the turns; `contents` is one only where it holds what Gemini has there."""
    for name in LISTS:
        if name in row:
            value = row[name]
            if is_conversation(as_turns(value)) if name == "contents" else is_turns(value):
                return name
    return None
