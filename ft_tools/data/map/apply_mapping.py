"""Apply a mapping to a row: its example, or why it is left out."""

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from ft_tools.data.map.answers import (
    ENCODE,
    filled,
    is_empty,
    json_answer,
    text_answer,
    text_of_cell,
)
from ft_tools.data.map.conditions import drops, fits, is_one_of, keeps, values_at
from ft_tools.data.map.conversations import JOINED, NOT_JOINED, WHY_NOT
from ft_tools.data.map.mapping import ColumnMapping
from ft_tools.data.map.masking import mask_values, replace_in
from ft_tools.formats.column_counts import cell_at, is_named
from ft_tools.formats.example import Example, Message
from ft_tools.formats.formats import normalise
from ft_tools.formats.turns import with_system

NO_ANSWER = "no_answer"
LEFT_OUT = frozenset(
    {"not_kept", "dropped", "not_marked", NO_ANSWER, "no_conversation", "same_group_as_test"}
    | {*NOT_JOINED}
)
"""Why rows are left out that are no fault of theirs: the caller decided so, or the split."""


class MappedRow(NamedTuple):
    """What a mapping makes of a row."""

    example: Example | None
    problem: str = ""
    """Why there is no example."""
    masked: tuple[str, ...] = ()
    """The kind of each secret or personal datum that is replaced in the columns that were named."""
    is_corrected: bool = False
    changed_by: tuple[str, ...] = ()
    """What found something in its turns: patterns of `replace`, or `PLAIN_HTML`."""


def apply_mapping(mapping: ColumnMapping, number: int, row: Any) -> MappedRow:
    """Make an example of a row.

    Raises:
        BadInput: A pattern to replace needs too long.
    """
    if not isinstance(row, Mapping):
        # A line may be a conversation by itself.
        is_plain = mapping.is_as_it_is and not mapping.turns and not mapping.uses
        return MappedRow(normalise(number, row)) if is_plain else MappedRow(None, "wrong_type")
    label = mark_of(mapping, row)
    if why := _left_out(mapping, row, label):
        return MappedRow(None, why)
    masked: list[str] = []
    if names := mapping.masked_columns:
        row, masked = mask_values(row, [*names, *_joined_of(mapping)])
    found = Counter[str]()
    made = _as_it_is if mapping.is_as_it_is else _made
    example = made(mapping, number, row, found)
    if isinstance(example, str):
        return MappedRow(None, example)
    if example.format == "unknown":
        return MappedRow(example)
    if label is not None and (example.task != "sft" or example.text is not None):
        return MappedRow(None, "wrong_type")
    if mapping.replace or mapping.plain_html:
        # The values of a JSON answer have been changed one by one.
        answer = example.messages.pop() if mapping.answer and mapping.is_json else None
        of = ("assistant", "user", "tool") if mapping.is_as_it_is else ("assistant",)
        html_of = of if mapping.plain_html else ()
        found += replace_in(example, mapping.replace, f"row {number}", html_of)
        example.messages += [answer] if answer else []
    if label is not None:
        asked, answered = example.prompt_and_answer()
        problems = example.problems
        example = Example(number, "kto", "kto", asked, answered, label=label, problems=problems)
    is_corrected = bool(correction_of(mapping, row))
    return MappedRow(example, "", tuple(masked), is_corrected, tuple(+found))


def _joined_of(mapping: ColumnMapping) -> list[str]:
    """Return the joined turns if the columns that they are made of are masked."""
    turns = mapping.turns
    if turns is None:
        return []
    texts = [f"{turns.conversation}[].{turns.text}", turns.text, *filter(None, [turns.first])]
    return [JOINED] if any(is_named(text, mapping.masked_columns) for text in texts) else []


def _left_out(mapping: ColumnMapping, row: Mapping[str, Any], label: bool | None) -> str:
    """Return why the values of a row leave it out; empty if they do not."""
    if not keeps(row, mapping.keep):
        return "not_kept"
    if drops(row, mapping.drop):
        return "dropped"
    is_marked = not mapping.marks or label is not None
    return "" if is_marked and (not mapping.picked or mapping.picked.sides(row)) else "not_marked"


def mark_of(mapping: ColumnMapping, row: Mapping[str, Any]) -> bool | None:
    """Return whether a row is marked good; None if it has no mark, or one of neither side."""
    marks = mapping.marks
    if marks is None:
        return None
    values = values_at(row, marks.column)
    if not values:
        return True if "" in marks.good else False if "" in marks.bad else None
    if any(is_one_of(value, marks.bad) for value in values):
        return False
    return True if all(is_one_of(value, marks.good) for value in values) else None


def _as_it_is(
    mapping: ColumnMapping, number: int, row: Mapping[str, Any], _: "Counter[str]"
) -> Example | str:
    """Read a row that is an example of a known format, or joined turns; else say why not."""
    if mapping.turns is not None and JOINED not in row:
        return str(row.get(WHY_NOT, "no_conversation"))
    example = normalise(number, row if mapping.turns is None else {"messages": row[JOINED]})
    if mapping.system and example.text is None and example.format != "unknown":
        example.messages = with_system(example, {"system": mapping.system}, example.messages)
    return example


def _made(
    mapping: ColumnMapping, number: int, row: Mapping[str, Any], found: "Counter[str]"
) -> Example | str:
    """Make an example of the columns of a row; else say why there is none."""
    asked: list[Message] = [{"role": "system", "content": mapping.system}] if mapping.system else []
    asked.append({"role": "user", "content": filled(mapping.prompt, row)})
    if not asked[-1]["content"]:
        return "empty_prompt"
    if mapping.chosen is not None:
        names = mapping.picked.sides(row) if mapping.picked else mapping.sides
        sides = [cell_at(row, name) for name in names]
        if any(map(is_empty, sides)):
            return NO_ANSWER
        good, bad = (_answered(text_of_cell(side)) for side in sides)
        return Example(number, "preference_explicit", "dpo", asked, good, bad)
    if mapping.is_json:
        values = json_answer(mapping, row, found, f"row {number}")
        answer = None if values is None else ENCODE(values)
    else:
        answer = correction_of(mapping, row) or text_answer(mapping, row)
    if answer is None:
        return NO_ANSWER
    return Example(number, "prompt_completion", "sft", [*asked, *_answered(answer)])


def _answered(text: str) -> list[Message]:
    return [{"role": "assistant", "content": text}]


def correction_of(mapping: ColumnMapping, row: Mapping[str, Any]) -> str:
    """Return the better answer of a row; empty if there is none, or the answer is repeated.

    >>> better = {"column": "b", "when": {"v": ["fix"]}}
    >>> better = ColumnMapping(prompt="{q}", answer=["a"], corrected=better)
    >>> rows = [("y", "fix"), ("x", "fix"), ("", "fix"), ("y", "keep")]
    >>> [correction_of(better, {"a": "x", "b": b, "v": v}) for b, v in rows]
    ['y', '', '', '']
    """
    better = mapping.corrected
    value = cell_at(row, better.column) if better else None
    if better is None or is_empty(value) or is_one_of(value, better.as_given):
        return ""
    text = text_of_cell(value)
    return text if fits(row, better.when) and text != text_answer(mapping, row) else ""
