"""Mask secrets and personal data in examples and rows, and replace what a caller names."""

from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

from ft_tools.data.judge import privacy
from ft_tools.data.map.conditions import in_time
from ft_tools.formats.column_counts import is_named
from ft_tools.formats.example import THOUGHTS, Example, content_of
from ft_tools.formats.plain_html import plain_html

PLAIN_HTML = "plain_html"


def mask_example(example: Example) -> list[str]:
    """Replace secrets and personal data in all that an example says, its tools included.

    Returns the kind of each value that was found; it has one replacement in the whole example.
    """
    turns = [*example.messages, *example.chosen, *example.rejected]
    parts = [*map(content_of, turns), example.text or ""]
    if example.tools or any(len(turn) != 2 for turn in turns):
        parts.append(str([turns, example.tools]))
    if not privacy.may_hold("\n".join(parts)):
        return []
    seen: privacy.Seen = {}
    for message in turns:
        masked = privacy.mask_all(message, seen)
        message.clear()
        message.update(masked)
    example.tools = privacy.mask_all(example.tools, seen)
    example.text = privacy.mask_all(example.text, seen)
    return [kind for kind, _ in seen]


def replace_in(
    example: Example, patterns: Mapping[str, str], where: str, html_of: Container[str] = ()
) -> "Counter[str]":
    """Replace in all turns, in the arguments of calls and in tools; return places by pattern.

    In turns of the roles `html_of` HTML becomes plain text first.

    Raises:
        BadInput: A pattern needs too long.
    """
    found = Counter[str]()

    def changed(value: Any) -> Any:
        return privacy.changed_all(value, lambda text: replaced(patterns, text, where, found))

    for turn in [*example.messages, *example.chosen, *example.rejected]:
        text = turn.get("content")
        if turn["role"] in html_of and isinstance(text, str) and (left := plain_html(text)) != text:
            turn["content"] = left.strip()
            found[PLAIN_HTML] += 1
        for name in ("content", *THOUGHTS) if patterns else ():
            if (made := changed(turn.get(name))) != turn.get(name):
                is_said = isinstance(made, str) and turn["role"] != "system"
                turn[name] = made.strip() if is_said else made
        if patterns and (calls := turn.get("tool_calls")):
            turn["tool_calls"] = [_with_arguments(call, changed) for call in calls]
    if patterns:
        example.tools, example.text = changed(example.tools), changed(example.text)
    return +found


def _with_arguments(call: Any, changed: Callable[[Any], Any]) -> Any:
    """Return a call of a tool with changed arguments; its name and identity stay."""
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or "arguments" not in function:
        return call
    return {**call, "function": {**function, "arguments": changed(function["arguments"])}}


def replaced(
    patterns: Mapping[str, str], text: str, where: str, found: "Counter[str]", *, html: bool = False
) -> str:
    """Return a text with what patterns find replaced, one after another; places are counted.

    Raises:
        BadInput: A pattern needs too long.
    """
    left = plain_html(text) if html else text
    found[PLAIN_HTML] += left != text
    for pattern, other in patterns.items():
        left, num = in_time("subn", pattern, f"a text of {where}", lambda _, to=other: to, left)
        found[pattern] += num
    return left


def mask_values(row: Mapping[str, Any], columns: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Return a row with some columns masked, dotted inside objects, and the kind of each value.

    >>> row = {"by": {"mail": "ada@mail.internal"}, "note": "ada@mail.internal"}
    >>> mask_values(row, ["by.mail"])[0]
    {'by': {'mail': '[email]'}, 'note': 'ada@mail.internal'}
    """
    seen: privacy.Seen = {}
    made = {key: _masked(value, f"{key}", columns, seen) for key, value in row.items()}
    return made, [kind for kind, _ in seen]


def _masked(value: Any, name: str, columns: Sequence[str], seen: privacy.Seen) -> Any:
    if is_named(name, columns):
        return privacy.mask_all(value, seen)
    if not any(one.startswith(name) for one in columns):
        return value
    if isinstance(value, Mapping):
        return {key: _masked(one, f"{name}.{key}", columns, seen) for key, one in value.items()}
    if isinstance(value, list):
        return [_masked(item, f"{name}[]", columns, seen) for item in value]
    return value
