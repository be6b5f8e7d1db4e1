"""Read an answer as words, a label, a number, a list, JSON or tool calls."""

import json
import re
import unicodedata
from collections.abc import Sequence
from typing import Any

_WORDS = re.compile(r"\w+")
_NUMBER = re.compile(r"[-+]?\d[\d,_]*(?:\.\d+)?(?:[eE][-+]?\d+)?")
_CALL, _CALL_END = "<tool_call>", "</tool_call>"

Leaves = dict[tuple[str | int, ...], Any]
"""Place in a JSON value -> what is there."""


def normalise(text: str) -> str:
    """Return a text without case, compatibility forms and repeated or outer spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def label(text: str) -> str:
    """Return a class name without case, spaces and punctuation around it."""
    return normalise(text).strip(" .,:;!?\"'`*")


def words(text: str) -> list[str]:
    """Return the words of a text in lower case, punctuation dropped."""
    return _WORDS.findall(unicodedata.normalize("NFKC", text).casefold())


def is_latin(texts: Sequence[str]) -> bool:
    """Return whether most letters are ASCII."""
    letters = [c for text in texts for c in text if c.isalpha()]
    return not letters or sum(c.isascii() for c in letters) >= len(letters) / 2


def parse_json(text: str) -> Any:
    """Return the JSON value of a whole text, or None; NaN and Infinity are not JSON."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None


def leaves(value: Any) -> Leaves:
    """Return the value at each place of a JSON value, texts normalised; {} if it has no places."""
    found: Leaves = {}
    waiting: list[tuple[tuple[str | int, ...], Any]] = [((), value)]
    while waiting:
        place, value = waiting.pop()
        parts = dict(enumerate(value)) if isinstance(value, list) else value
        if isinstance(parts, dict) and parts:
            waiting += [((*place, key), below) for key, below in parts.items()]
        elif place:
            # True equals 1 in Python; in JSON it does not.
            plain = normalise(value) if isinstance(value, str) else value
            found[place] = ("bool", value) if isinstance(value, bool) else plain
    return found


def last_number(text: str) -> float | None:
    """Return the last number of a text."""
    found = _NUMBER.findall(text)
    return float(found[-1].replace(",", "").replace("_", "")) if found else None


def list_items(text: str) -> set[str]:
    """Return the items of a JSON list, or of a list with commas, semicolons or lines."""
    value = parse_json(text)
    if isinstance(value, list):
        return {normalise(str(item)) for item in value}
    parts = (item.strip().lstrip("-*\u2022 ") for item in re.split(r"[,;\n]", text))
    return {normalise(item) for item in parts if item.strip(" .")}


def tool_calls(text: str) -> list[str] | None:
    """Return the tool calls of a text, sorted, each as canonical JSON; None when it has none.

    Read are `<tool_call>{...}</tool_call>` blocks, or one JSON object or list; names are `name`,
    arguments `arguments` or `parameters`, as an object or as JSON in a string.
    """
    blocks = _tool_call_blocks(text) or [text]
    calls: list[str] = []
    for block in blocks:
        value = parse_json(block)
        for call in value if isinstance(value, list) else [value]:
            if isinstance(call, dict) and isinstance(call.get("function"), dict):
                call = call["function"]
            if not isinstance(call, dict) or not isinstance(call.get("name"), str):
                return None
            arguments = call.get("arguments", call.get("parameters", {}))
            if isinstance(arguments, str):
                arguments = parse_json(arguments)
            calls.append(json.dumps([call["name"], arguments], sort_keys=True))
    return sorted(calls) or None


def _tool_call_blocks(text: str) -> list[str]:
    """Return the text between tags; linear, unlike a pattern that backtracks from each start."""
    blocks = []
    end = 0
    while (at := text.find(_CALL, end)) >= 0 and (stop := text.find(_CALL_END, at)) >= 0:
        blocks.append(text[at + len(_CALL) : stop].strip())
        end = stop + len(_CALL_END)
    return blocks


def _refuse(constant: str) -> None:
    raise ValueError(constant)
