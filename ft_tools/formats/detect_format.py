"""Recognise a row's format from its columns and the types in them.

Formats: openai_messages, sharegpt, alpaca, prompt_completion, text, preference_explicit,
preference_implicit, sharegpt_preference, alpaca_preference, openai_preference, kto, prompt_only.

Source: https://huggingface.co/docs/trl/dataset_formats, LLaMA-Factory data/README.md
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

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

LISTS = (
    "messages", "conversations", "conversation", "dialogue", "dialog", "turns", "chat", "contents"
)  # fmt: skip
_LISTS = frozenset(LISTS)
PROMPTS = (
    "prompt",
    "question",
    "query",
    "user_prompt",
    "instruction",
    "input",
    "inputs",
    "context",
)
ANSWERS = (
    "completion", "response", "answer", "output", "target", "targets", "solution", "assistant"
)  # fmt: skip
ALPACA_ANSWERS = ("output", "response", "answer", "completion")
ABOUT = ("input", "context")
"""What a prompt may be about, if it is not the prompt itself."""
BESIDE = (*SYSTEMS, *GEMINI_SYSTEMS, "tools", "functions", "history")
"""What is read of a row whatever its format is."""
SIDES = ("chosen", "rejected")
_VALUES = frozenset({*LISTS, "answers", "label", "kto_tag"})
"""Columns of which the value matters, and not only that they are there."""
_NAMES = frozenset({*PROMPTS, *ANSWERS, *SIDES, "text", "preferred_output", "non_preferred_output"})
"""The others that matter."""
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
    return _detect(row) if _told_by_values(row) else _of_names(_NAMES.intersection(row))


def _told_by_values(row: Mapping[str, Any]) -> bool:
    """Return whether a row has a column whose value, not only its name, decides on the format."""
    return not _VALUES.isdisjoint(row)


@lru_cache(maxsize=1024)
def _of_names(names: frozenset[str]) -> str:
    return _detect(dict.fromkeys(names, ""))


def _detect(row: Mapping[str, Any]) -> str:
    keys = row.keys()
    listed = list_name(row)
    has_pair = "chosen" in keys and "rejected" in keys
    if "preferred_output" in keys and "non_preferred_output" in keys:
        return "openai_preference"
    if has_pair:
        return _preference(row, listed)
    if listed:
        if isinstance(label_of(row), bool):
            return "kto"
        # Gemini's `contents` have turns of their own shape, too.
        own = (
            listed == "contents"
            or turns_in(row, listed) is not row[listed]
            or _spells_from(as_turns(row[listed]))
        )
        return "sharegpt" if own else "openai_messages"
    answer = answer_name(row)
    prompt = next((name for name in PROMPTS if name in keys and name != answer), None)
    if prompt and answer and isinstance(label_of(row), bool):
        return "kto"
    if "instruction" in keys and any(name in keys for name in ALPACA_ANSWERS):
        return "alpaca"
    if prompt and answer:
        return "prompt_completion"
    if "text" in keys:
        return "text"
    return "prompt_only" if prompt else "unknown"


def columns_read(row: Mapping[str, Any], format_name: str) -> frozenset[str]:
    """Return the names of the columns that an example of a format is made of."""
    if _told_by_values(row):
        return _columns_read(row, format_name)
    return _columns_of_names(_NAMES.intersection(row), format_name)


@lru_cache(maxsize=1024)
def _columns_of_names(names: frozenset[str], format_name: str) -> frozenset[str]:
    return _columns_read(dict.fromkeys(names, ""), format_name)


def _columns_read(row: Mapping[str, Any], format_name: str) -> frozenset[str]:
    listed, answer = list_name(row), answer_name(row)
    asked = next((name for name in PROMPTS if name in row and name != answer), None)
    instruction = next((n for n in ("instruction", "question", "query") if n in row), asked)
    answered = next((name for name in ALPACA_ANSWERS if name in row), answer)
    asks_and_answers = () if listed else (asked, answer, *ABOUT)
    read: dict[str, tuple[str | None, ...]] = {
        "openai_messages": (listed,),
        "sharegpt": (listed,),
        "alpaca": (instruction, answered, *ABOUT),
        "prompt_completion": (asked, answer, *ABOUT),
        "prompt_only": (asked, *ABOUT),
        "text": ("text",),
        "preference_explicit": ("prompt", *ABOUT, *SIDES),
        "preference_implicit": SIDES,
        "sharegpt_preference": (listed, *SIDES),
        "alpaca_preference": (instruction, *ABOUT, *SIDES),
        "openai_preference": ("input", "preferred_output", "non_preferred_output"),
        "kto": (listed, "label", "kto_tag", *asks_and_answers),
    }
    return frozenset(name for name in (*read.get(format_name, ()), *BESIDE) if name is not None)


def _preference(row: Mapping[str, Any], listed: str | None) -> str:
    # What ends with an answer is no prompt, but one of the sides again.
    if listed and not is_answered(as_turns(row[listed])):
        return "sharegpt_preference"
    if "prompt" in row:
        return "preference_explicit"
    if any(name in row for name in ("instruction", "question", "query", "input")):
        return "alpaca_preference"
    return "preference_implicit"


def _spells_from(turns: Any) -> bool:
    return any(isinstance(turn, Mapping) and turn.get("from") is not None for turn in turns)


def label_of(row: Mapping[str, Any]) -> Any:
    """Return what marks an answer as good or bad, true and false read as such; null if nothing."""
    label = row.get("label", row.get("kto_tag"))
    if isinstance(label, str) and label.strip().lower() in {"true", "false"}:
        return label.strip().lower() == "true"
    return label


def answer_name(row: Mapping[str, Any]) -> str | None:
    """Name the column of the answer; `answers` is one only where it holds calls, as in xLAM."""
    name = next((name for name in ANSWERS if name in row), None)
    return name or ("answers" if calls_in(row.get("answers")) else None)


def turns_in(row: Mapping[str, Any], name: str) -> Any:
    """Return the turns of a column; `turns` is the questions alone in MT-Bench."""
    return row[name] if name == "turns" else with_roles(row[name])


def list_name(row: Mapping[str, Any]) -> str | None:
    """Name the column of the turns; `contents` is one only where it holds what Gemini has there."""
    if _LISTS.isdisjoint(row):
        return None
    return next((name for name in LISTS if name in row and _holds_turns(row, name)), None)


def _holds_turns(row: Mapping[str, Any], name: str) -> bool:
    value = row.get(name)
    return is_conversation(as_turns(value)) if name == "contents" else is_turns(value)
