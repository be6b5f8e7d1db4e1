"""Apply a mapping to a row: its example, or why it is left out."""

import json
import re
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from ft_tools.data.judge.privacy import changed_all
from ft_tools.data.map.conditions import drops, is_one_of, keeps, values_at
from ft_tools.data.map.conversations import JOINED, NOT_JOINED, WHY_NOT
from ft_tools.data.map.mapping import PLACEHOLDER, ColumnMapping, Picked
from ft_tools.data.map.masking import mask_values, replace_in, replaced
from ft_tools.formats.column_counts import cell_at, is_named, number_of, text_of
from ft_tools.formats.example import Example, Message, content_of
from ft_tools.formats.formats import normalise
from ft_tools.formats.json_text import json_collection
from ft_tools.formats.plain_html import plain_html
from ft_tools.formats.turns import with_system

MAX_CLASSES = 50
CLASS_CHARS = 40
"""Mean length up to which values that return are classes, and not replies. Judgement."""
NULLS = frozenset({"", "nan", "null", "<na>", "#n/a", "#ref!", "#value!", "#name?", "#div/0!"})
"""What programs write for an empty cell."""
NO_ANSWER = "no_answer"
PLAIN_HTML = "plain_html"
LEFT_OUT = frozenset(
    {"not_kept", "dropped", "not_marked", NO_ANSWER, "no_conversation", "same_group_as_test"}
    | {*NOT_JOINED}
)
"""Why rows are left out that are no fault of theirs: the caller decided so, or the split."""
_ENCODE = json.JSONEncoder(ensure_ascii=False).encode


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
        is_plain = mapping.is_as_it_is and not mapping.turns and not mapping.row_columns
        return MappedRow(normalise(number, row)) if is_plain else MappedRow(None, "wrong_type")
    label = mark_of(mapping, row)
    if why := _left_out(mapping, row, label):
        return MappedRow(None, why)
    found: list[str] = []
    if masked := mapping.masked_columns:
        row, found = mask_values(row, [*masked, *_joined_of(mapping, masked)])
    made = _as_it_is(mapping, number, row) if mapping.is_as_it_is else _made(mapping, number, row)
    example = made.example
    if example is None or example.format == "unknown":
        return made
    if label is not None:
        if example.task != "sft" or example.text is not None:
            return MappedRow(None, "wrong_type")
        asked, answered = example.prompt_and_answer()
        problems = example.problems
        example = Example(number, "kto", "kto", asked, answered, label=label, problems=problems)
    changed_by = _rewrite(mapping, example)
    return MappedRow(example, "", tuple(found), made.is_corrected, changed_by)


def _joined_of(mapping: ColumnMapping, masked: Collection[str]) -> list[str]:
    """Return the joined turns if the columns that they are made of are masked."""
    turns = mapping.turns
    if turns is None:
        return []
    talk = turns.conversation
    texts = [f"{talk}[].{turns.text}", turns.text, *filter(None, [turns.first])]
    return [JOINED] if any(is_named(text, masked) for text in texts) else []


def _left_out(mapping: ColumnMapping, row: Mapping[str, Any], label: bool | None) -> str:
    """Return why the values of a row leave it out; empty if they do not."""
    if not keeps(row, mapping.keep):
        return "not_kept"
    if mapping.drop and drops(row, mapping.drop):
        return "dropped"
    if isinstance(mapping.chosen, Picked) and not mapping.chosen.sides(row):
        return "not_marked"
    return "not_marked" if mapping.marks is not None and label is None else ""


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


def _as_it_is(mapping: ColumnMapping, number: int, row: Mapping[str, Any]) -> MappedRow:
    """Read a row that is an example of a known format, or joined turns."""
    if mapping.turns is None:
        example = normalise(number, row)
    elif JOINED not in row:
        return MappedRow(None, row.get(WHY_NOT, "no_conversation"))
    else:
        example = normalise(number, {"messages": row[JOINED]})
    if mapping.system and example.text is None and example.format != "unknown":
        example.messages = with_system(example, {"system": mapping.system}, example.messages)
    return MappedRow(example)


def _made(mapping: ColumnMapping, number: int, row: Mapping[str, Any]) -> MappedRow:
    asked: list[Message] = [dict(message) for message in _asked(mapping, row)]
    if not asked[-1]["content"]:
        return MappedRow(None, "empty_prompt")
    if mapping.chosen is not None:
        picked = mapping.chosen
        names = picked.sides(row) if isinstance(picked, Picked) else mapping.sides
        sides = [cell_at(row, name) for name in names]
        if any(map(is_empty, sides)):
            return MappedRow(None, NO_ANSWER)
        good, bad = (_answered(text_of_cell(side)) for side in sides)
        return MappedRow(Example(number, "preference_explicit", "dpo", asked, good, bad))
    better = correction_of(mapping, row)
    answer = better or answer_of(mapping, row)
    if answer is None:
        return MappedRow(None, NO_ANSWER)
    example = Example(number, "prompt_completion", "sft", [*asked, *_answered(answer)])
    return MappedRow(example, is_corrected=bool(better))


def _answered(text: str) -> list[Message]:
    return [{"role": "assistant", "content": text}]


def _rewrite(mapping: ColumnMapping, example: Example) -> tuple[str, ...]:
    """Change in all turns what the mapping names; return what found anything.

    Of turns that no template makes both sides become plain text, else the answers. Of an answer
    that columns make as JSON, each value is a text of its own.
    """
    found = Counter[str]()
    if not (mapping.replace or mapping.plain_html):
        return ()
    where = f"row {example.line}"
    answers: list[Message] = []
    if mapping.answer and mapping.is_json:
        *example.messages, answer = example.messages
        values = json.loads(answer["content"])
        made = {key: rewritten(mapping, one, where, found) for key, one in values.items()}
        answers = [{**answer, "content": _ENCODE(made)}]
    roles = {"assistant", "user", "tool"} if mapping.is_as_it_is else {"assistant"}
    turns = [*example.messages, *example.chosen, *example.rejected]
    for turn in turns if mapping.plain_html else ():
        text = turn.get("content")
        if isinstance(text, str) and turn["role"] in roles and (left := plain_html(text)) != text:
            turn["content"] = left.strip()
            found[PLAIN_HTML] += 1
    found += replace_in(example, mapping.replace, where)
    example.messages += answers
    return tuple(+found)


def rewritten(mapping: ColumnMapping, value: Any, where: str, found: "Counter[str]") -> Any:
    """Return a value of a JSON answer with what `replace` and `plain_html` change."""
    if not (mapping.replace or mapping.plain_html) or not isinstance(value, str | list | dict):
        return value

    def change(text: str) -> str:
        left = plain_html(text) if mapping.plain_html else text
        found[PLAIN_HTML] += left != text
        left = replaced(mapping.replace, left, where, found)
        return text if left == text else left.strip()

    return changed_all(value, change)


def _asked(mapping: ColumnMapping, row: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the messages that ask about a row, with nothing replaced yet."""
    system = [{"role": "system", "content": mapping.system}] if mapping.system else []
    return [*system, {"role": "user", "content": filled(mapping.prompt, row)}]


def filled(template: str, row: Mapping[str, Any]) -> str:
    """Put the values of a row into a template; a column that the row lacks is empty.

    >>> filled("{a} {b} {c}", {"a": 1, "b": None})
    '1'
    """
    return PLACEHOLDER.sub(lambda one: text_of_cell(cell_at(row, one[1])), template).strip()


def answer_of(mapping: ColumnMapping, row: Mapping[str, Any]) -> str | None:
    """Return the answer of a row; None if a part of it is empty that may not be.

    >>> both = ColumnMapping(answer=["a", "b"], prompt="{c}")
    >>> answer_of(both, {"a": "x", "b": "2"}), answer_of(both, {"a": "x", "b": ""})
    ('{"a": "x", "b": "2"}', None)
    """
    values = {key: cell_at(row, column) for key, column in mapping.answer_keys.items()}
    # An empty list is a value of JSON.
    empty = {k for k, v in values.items() if is_empty(v) and not (mapping.is_json and v == [])}
    if not values or not all(map(mapping.may_be_null, empty)):
        return None
    if not mapping.is_json:
        (template,) = mapping.answer
        return text_of_cell(values[template]) if template in values else filled(template, row)
    properties = (mapping.answer_schema or {}).get("properties", {})
    typed = {
        key: None if key in empty else _typed(json_value(value), properties.get(key, {}))
        for key, value in values.items()
    }
    return _ENCODE(typed)


def correction_of(mapping: ColumnMapping, row: Mapping[str, Any]) -> str:
    """Return the better answer of a row; empty if there is none, or the answer is repeated.

    >>> better = ColumnMapping(prompt="{q}", answer=["a"], corrected="b")
    >>> [correction_of(better, {"a": "x", "b": b}) for b in ("y", " x", "")]
    ['y', '', '']
    """
    better = mapping.corrected
    value = cell_at(row, better.column) if better else None
    if better is None or is_empty(value) or is_one_of(value, better.as_given):
        return ""
    text = text_of_cell(value)
    return "" if text == answer_of(mapping, row) else text


def is_empty(value: Any) -> bool:
    """Return whether a cell holds nothing: blank, or what programs write for that."""
    if isinstance(value, str):
        return value.strip().casefold() in NULLS
    return value is None or value != value or value in ([], {})


def text_of_cell(value: Any) -> str:
    """Return a cell as text; what is no single value is JSON."""
    if isinstance(value, list | dict):
        return _ENCODE(value)
    return str(value) if isinstance(value, bool) else text_of(value)


def are_classes(counts: Mapping[Any, int]) -> bool:
    """Return whether values are a few short ones that return, as classes do and texts do not.

    >>> are_classes({"billing": 4, "tech": 3}), are_classes({f"Dear {n}": 1 for n in range(28)})
    (True, False)
    """
    total = sum(counts.values())
    chars = sum(len(text_of_cell(value)) * count for value, count in counts.items())
    is_few = 1 < len(counts) <= MAX_CLASSES and total >= 2 * len(counts)
    return is_few and chars <= CLASS_CHARS * total


def json_value(value: Any) -> Any:
    """Return a cell as it stands in JSON: a text that is an object or list is that."""
    if not isinstance(value, str):
        return value
    parsed = json_collection(value)
    return value.strip() if parsed is None else parsed


def type_in_json(value: Any, *, is_typed: bool) -> str:
    """Return the type of a value in JSON; where the file has only texts, of what one spells.

    >>> type_in_json("7", is_typed=True), type_in_json("7", is_typed=False)
    ('string', 'integer')
    """
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, list | dict):
        return "array" if isinstance(value, list) else "object"
    if (isinstance(value, str) and is_typed) or not _is_number(value):
        return "string"
    return "integer" if float(value).is_integer() else "number"


def schema_of(
    mapping: ColumnMapping,
    types: Mapping[str, Collection[str]],
    values: Mapping[str, Mapping[str, int]],
) -> dict[str, Any]:
    """Derive the JSON Schema of answers from the values of their columns.

    Args:
        mapping: Of columns to a JSON object.
        types: Of the values of each column in JSON.
        values: How often which text was seen; none if there are too many different.
    """
    properties = {
        key: _property(types.get(column, ()), values.get(column, {}))
        for key, column in mapping.answer_keys.items()
    }
    for key, about in properties.items():
        if mapping.may_be_null(key):
            properties[key] = {"anyOf": [about, {"type": "null"}]}
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _property(types: Collection[str], values: Mapping[str, int]) -> dict[str, Any]:
    kinds = {*types} - ({"integer"} if "number" in types else set())
    if kinds - {"string"}:
        return {"type": sorted(kinds) if len(kinds) > 1 else min(kinds)}
    is_few = 0 < len(values) <= MAX_CLASSES and sum(values.values()) >= 2 * len(values)
    if is_few and all(len(value) <= CLASS_CHARS for value in values):
        return {"type": "string", "enum": sorted(values)}
    return {"type": "string"}


def _is_number(value: Any) -> bool:
    """Return whether a value is a number, or spells one the only way a number is spelled."""
    if not isinstance(value, str):
        return not isinstance(value, bool) and number_of(value) is not None
    text = value.strip()
    has_zero = len(text.lstrip("-")) > 1 and text.lstrip("-")[0] == "0" and "." not in text
    return re.fullmatch(r"-?\d{1,15}(?:\.\d{1,10})?", text) is not None and not has_zero


def kinds_of(about: Any) -> list[str]:
    """Return the types that a schema names, null aside; a schema may also be true or false."""
    found: list[Any] = []
    for one in about.get("anyOf", [about]) if isinstance(about, Mapping) else ():
        kinds = one.get("type") if isinstance(one, Mapping) else None
        found += kinds if isinstance(kinds, list) else [kinds]
    return [str(kind) for kind in found if kind not in (None, "null")]


def _typed(value: Any, about: Any) -> Any:
    """Return a value in the type that the schema gives its column."""
    kinds = kinds_of(about)
    own = type_in_json(value, is_typed=True)
    if own in kinds or (own == "integer" and "number" in kinds):
        return int(value) if own == "integer" else value
    if {"integer", "number"}.intersection(kinds) and _is_number(value):
        return int(float(value)) if "integer" in kinds else float(value)
    return text_of_cell(value)


def answers_of(example: Example) -> str:
    """Return what is answered, as one text."""
    return " ".join(map(content_of, example.prompt_and_answer()[1]))
