"""Read an answer as words, a label, a number, a list, JSON or tool calls."""

import json
import math
import re
import unicodedata
from functools import lru_cache
from typing import Any

_WORDS = re.compile(r"\w+")
_NUMBER = re.compile(r"[-+]?\d[\d,_]*(?:\.\d+)?(?:[eE][-+]?\d+)?")
_CALL, _CALL_END = "<tool_call>", "</tool_call>"
THOUGHT_ENDS = ("</think>", "[/THINK]", "<|END_THINKING|>", "</seed:think>")
"""Source: the chat templates of Qwen 3, GLM 4.5 and Nemotron, Mistral, Command A, Seed-OSS."""
# What templates write around a thought: <think> of Qwen 3, DeepSeek R1, GLM 4.5 and Nemotron, the
# analysis channel of gpt-oss, START_THINKING of Command A, Seed-OSS, [THINK] of Mistral, thought
# channel of Gemma 4. Source: the chat templates of these models on the Hub.
THINKS = re.compile(
    r"<think>|<\|channel\|>analysis|<\|START_THINKING\|>|<seed:think>|\[THINK\]|<\|channel>thought"
)
PATTERN_SECONDS = 0.5
"""Longest search of one pattern in one answer; a sound pattern takes a thousandth of it."""

Leaves = dict[tuple[str | int, ...], Any]
"""Place in a JSON value -> what is there."""


def normalise(text: str, *, keep_case: bool = False) -> str:
    """Return a text without case, compatibility forms and repeated or outer spaces."""
    plain = unicodedata.normalize("NFKC", text)
    return " ".join((plain if keep_case else plain.casefold()).split())


def without_thought(text: str) -> str:
    """Return what follows the thought of an answer; all of an answer without a whole one.

    Templates write an empty thought before an answer that has none, and a model learns to.

    >>> without_thought("<think></think> spam"), without_thought("<think>Well")
    ('spam', '<think>Well')
    """
    ends = [text.rfind(mark) + len(mark) for mark in THOUGHT_ENDS if mark in text]
    return text[max(ends) :].strip() if ends else text


def label(text: str) -> str:
    """Return a class name without case, spaces and punctuation around it."""
    return normalise(text).strip(" .,:;!?\"'`*")


def words(text: str) -> list[str]:
    """Return the words of a text in lower case, punctuation dropped."""
    return _WORDS.findall(unicodedata.normalize("NFKC", text).casefold())


def parse_json(text: str) -> Any:
    """Return the JSON value of a whole text, or None.

    NaN, Infinity and numbers beyond a float are not JSON. An object with a key twice is none
    either: each parser takes another of its values, and an answer may not name both.

    >>> parse_json('{"a": 1, "a": 2}') is None, parse_json("1e999") is None
    (True, True)
    """
    try:
        return json.loads(
            text, parse_constant=_finite, parse_float=_finite, object_pairs_hook=_object
        )
    except (ValueError, RecursionError):
        return None


def json_object_in(text: str) -> dict[str, Any] | None:
    """Return the JSON object from the first brace of a text to the last; None if that is none.

    >>> json_object_in('Well: {"better": "A"}.')
    {'better': 'A'}
    """
    value = parse_json(text[text.find("{") : text.rfind("}") + 1])
    return value if isinstance(value, dict) else None


def leaves(value: Any, *, keep_case: bool = False) -> Leaves:
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
            plain = normalise(value, keep_case=keep_case) if isinstance(value, str) else value
            found[place] = ("bool", value) if isinstance(value, bool) else plain
    return found


def equal_texts(output: str, reference: str, *, keep_case: bool = False) -> bool:
    """Return whether two texts are equal but for case and spaces; JSON: in its values."""
    value = parse_json(reference) if reference.lstrip()[:1] in ("{", "[") else None
    if isinstance(value, dict | list):
        other = parse_json(output)
        return type(other) is type(value) and equal_values(other, value, keep_case=keep_case)
    found, wanted = (normalise(text, keep_case=keep_case) for text in (output, reference))
    return found == wanted


def equal_values(found: Any, wanted: Any, *, keep_case: bool = False) -> bool:
    """Return whether two JSON values are equal, their texts without case and spaces."""
    return leaves([found], keep_case=keep_case) == leaves([wanted], keep_case=keep_case)


def last_number(text: str) -> float | None:
    """Return the last number of a text; None if there is none, or none that a float can hold.

    >>> last_number("3 of 1,200"), last_number("1e999"), last_number("nan")
    (1200.0, None, None)
    """
    found = _NUMBER.findall(text.replace("\u2212", "-"))
    value = float(found[-1].replace(",", "").replace("_", "")) if found else math.nan
    return value if math.isfinite(value) else None


def matches(pattern: str, text: str, *, whole: bool = False, ignore_case: bool = False) -> bool:
    """Return whether a text has a pattern, or all of it is one; not if the search takes too long.

    >>> matches("a+", "baa"), matches("a+", "baa", whole=True)
    (True, False)
    """
    # A library of its own: `re` has no time limit, and any pattern may be slow on some text.
    search = _compiled(pattern, ignore_case)
    try:
        return bool((search.fullmatch if whole else search.search)(text, timeout=PATTERN_SECONDS))
    except TimeoutError:
        return False


def all_matches(pattern: str, text: str) -> list[str]:
    """Return what the group of a pattern matches each time, or all of it without a group.

    It is nothing where the search takes too long.
    """
    try:
        found = _compiled(pattern, False).finditer(text, timeout=PATTERN_SECONDS)
        return [match[min(1, match.re.groups)] or "" for match in found]
    except TimeoutError:
        return []


@lru_cache(maxsize=64)
def _compiled(pattern: str, ignore_case: bool) -> Any:
    import regex

    return regex.compile(pattern, regex.IGNORECASE if ignore_case else 0)


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
    blocks, end, calls = list[str](), 0, list[str]()
    # Linear, unlike a pattern that backtracks from each start.
    while (at := text.find(_CALL, end)) >= 0 and (stop := text.find(_CALL_END, at)) >= 0:
        blocks.append(text[at + len(_CALL) : stop].strip())
        end = stop + len(_CALL_END)
    for block in blocks or [text]:
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


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key occurs twice")
    return found
