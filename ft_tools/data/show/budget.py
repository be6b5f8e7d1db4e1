"""Quote values of a file, masked, so that many of them fit a budget of characters."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ft_tools.data.judge import privacy
from ft_tools.data.report import QuotedValue
from ft_tools.formats.column_counts import items_of, leaves_of, text_of
from ft_tools.formats.quoting import cut_to, quote
from ft_tools.formats.turns import as_turns

CHARS_A_TOKEN, TURN_CHARS = 4, 60
TEXT_CHARS = (2000, 1000, 500, 250, 160, 80, 60, 45, 35, 25, 18, 12)
"""Lengths to which texts are cut until a row fits."""


class Quoted(NamedTuple):
    """A value to quote."""

    row: int
    value: Any
    field: str | None = None


def within_budget(values: Sequence[Quoted], left: int, offset: int = 0) -> list[QuotedValue]:
    """Quote values so that short ones are whole, and long ones get equal shares of characters."""
    quoted: dict[int, QuotedValue] = {}
    by_length = sorted(range(len(values)), key=lambda at: len(as_text(values[at].value)))
    for done, at in enumerate(by_length):
        share = min(len(as_text(values[at].value)), left // (len(values) - done))
        left -= share
        quoted[at] = _quoted(values[at], share, offset)
    return [quoted[at] for at in range(len(values))]


def _quoted(one: Quoted, most: int, offset: int) -> QuotedValue:
    # Masked before it becomes JSON, whose escapes would hide where a key begins.
    value = privacy.mask_all(one.value)
    text = as_text(value)
    quoted, is_whole = quote(text[offset:], most if len(text) > most else 6 * most)
    if not is_whole and isinstance(value, Mapping) and not offset:
        # With all texts cut to equal lengths each column can be seen, if they are not too many.
        shorter = _fitting(lambda chars: as_text(_shortened(value, chars)), most)
        quoted = quote(shorter, most)[0] if shorter is not None else quoted
    chars = len(as_text(one.value))
    return QuotedValue(
        row=one.row, field=one.field, value=quoted, truncated=not is_whole, original_chars=chars
    )


def cells_of(number: int, row: Any, most: int) -> QuotedValue:
    """Quote a row with its cells between bars, each cut to the same length."""
    values = list(row.values()) if isinstance(row, Mapping) else [row]
    cells = [_cell(privacy.mask_all(value)) for value in values]
    text = " | ".join(cells)
    shown = _fitting(lambda chars: " | ".join(cut_to(cell, chars) for cell in cells), most) or text
    quoted, is_whole = quote(shown, most)
    return QuotedValue(
        row=number,
        value=quoted,
        truncated=not is_whole or shown != text,
        original_chars=sum(len(as_text(value)) for value in values),
    )


def _cell(value: Any) -> str:
    """Return what a cell says without brackets and quotation marks; of turns their longest texts.

    >>> _cell([{"by": {"role": "user"}, "text": "Where is it?"}]), _cell({"a": {"b": 1}, "c": "x"})
    ('Where is it?', 'a.b=1, c=x')
    """
    turns = items_of(as_turns(value))
    if turns and all(isinstance(turn, Mapping) for turn in turns):
        parts = [[text_of(part) for _, part in leaves_of("", turn)] for turn in turns]
        texts = [
            max(some, key=lambda one: (one.count(" "), len(one)), default="") for some in parts
        ]
        said = [text for text in texts if " " in text] or texts
        return " / ".join(cut_to(text, TURN_CHARS) for text in said)
    if isinstance(value, Mapping):
        return ", ".join(f"{name[1:]}={text_of(one)}" for name, one in leaves_of("", value))
    return as_text(value)


def _fitting(make: Callable[[int], str], most: int) -> str | None:
    """Return a text whose parts are cut to the largest of `TEXT_CHARS` with which it fits."""
    return next((text for text in map(make, TEXT_CHARS) if len(text) <= most), None)


def _shortened(value: Any, most: int, depth: int = 4) -> Any:
    """Return a value whose texts have at most so many characters, and one more that says so."""
    if isinstance(value, str):
        return cut_to(value, most)
    if depth and isinstance(value, Mapping):
        return {name: _shortened(inner, most, depth - 1) for name, inner in value.items()}
    if depth and isinstance(value, list):
        return [_shortened(inner, most, depth - 1) for inner in value]
    return value


def as_text(value: Any) -> str:
    """Return a text as it is, any other value as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def grouped(names: Iterable[str]) -> str:
    """Return dotted names with what several begin with written once.

    >>> grouped(["id", "talk.by", "talk.parts[].text", "talk.parts[].at", "user.id"])
    'id, talk.{by, parts[].{text, at}}, user.id'
    """
    inside: dict[str, list[str]] = {}
    for name in names:
        # A name in quotation marks is not plain, and stays whole.
        first, dot, rest = (name, "", "") if name.startswith('"') else name.partition(".")
        inside.setdefault(first + dot, []).append(rest)
    return ", ".join(
        first + (f"{{{grouped(rest)}}}" if len(rest) > 1 else grouped(rest) if rest[0] else "")
        for first, rest in inside.items()
    )
