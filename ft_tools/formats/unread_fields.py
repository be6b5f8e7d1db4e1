"""Name what of a row no example holds, or holds as what it is not."""

import re
from collections.abc import Mapping
from typing import Any

from ft_tools.formats.example import Example, thoughts_of
from ft_tools.formats.turns import ROLES, as_transcript

# A text beside what is read: longer than labels, ids and titles, and no mere part of a row. Ours.
UNREAD_CHARS = 100
UNREAD_FRACTION = 0.25
PYTHON_TURNS = re.compile(r"\s*+\[\s*+\{\s*+'(?:role|from|content|value)'\s*+:")
"""How Python prints a list of turns; so pandas and NumPy write it into CSV."""
TURN_COLUMNS = frozenset(
    {"messages", "conversations", "conversation", "dialogue", "dialog", "chat"}
    | {"prompt", "completion", "chosen", "rejected"}
)


def unread_in(example: Example, row: Mapping[str, Any]) -> list[str]:
    """Return the ids of what is not read of a row, or not as what it is."""
    found = {
        "unread_column": _has_text(example, row),
        "lone_turn": example.text is not None and _has_speaker(row),
        "python_turns": has_python_turns(row),
    }
    return [name for name, holds in found.items() if holds]


def has_python_turns(row: Any) -> bool:
    """Tell whether a column holds turns as Python prints them, which is no JSON."""
    return isinstance(row, Mapping) and any(
        isinstance(row[name], str) and PYTHON_TURNS.match(row[name])
        for name in TURN_COLUMNS.intersection(row)
    )


def _has_speaker(row: Mapping[str, Any]) -> bool:
    """Tell whether a text is one turn of a conversation that other rows go on with, as in OASST."""
    role = row.get("role")
    return isinstance(role, str) and role.strip().lower() in ROLES


def _has_text(example: Example, row: Mapping[str, Any]) -> bool:
    """Tell whether a row holds a text that is no part of its example, nor made of it."""
    sides = {"chosen", "rejected"} if example.task == "dpo" else set()
    long = [
        text
        for name, text in row.items()
        if isinstance(text, str)
        and len(text) >= UNREAD_CHARS
        and name not in sides
        and as_transcript(text) is text
    ]
    if not long:
        return False
    turns = [*example.messages, *example.chosen, *example.rejected]
    read = [*(str(turn["content"]) for turn in turns), *map(thoughts_of, turns), example.text or ""]
    long = [text for text in long if text not in read]
    if not long:
        return False
    longest = max(read, key=len)
    return any(
        len(text) >= UNREAD_FRACTION * len(longest)
        and _is_prose(text)
        and longest not in text
        and not any(text in other for other in read)
        for text in long
    )


def _is_prose(text: str) -> bool:
    """Tell words from addresses, ids and JSON, which is read elsewhere or describes a row."""
    return text.lstrip()[:1] not in {"{", "["} and (" " in text.strip() or not text.isascii())
