"""The answers that columns make: a text, or a JSON object whose values have types."""

import json
import re
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

from ft_tools.data.judge.privacy import changed_all
from ft_tools.data.map.mapping import PLACEHOLDER, ColumnMapping
from ft_tools.data.map.masking import replaced
from ft_tools.formats.column_counts import cell_at, number_of, text_of
from ft_tools.formats.json_text import json_collection

MAX_CLASSES = 50
CLASS_CHARS = 40
"""Mean length up to which values that return are classes, and not replies. Judgement."""
NULLS = frozenset({"", "nan", "null", "<na>", "#n/a", "#ref!", "#value!", "#name?", "#div/0!"})
"""What programs write for an empty cell."""
NUMBER = re.compile(r"-?(?:0|[1-9]\d{0,14})(?:\.\d{1,10})?")
"""A number as it is spelled the only way: not 007."""
BOOLEANS = {"true": True, "false": False}
ENCODE = json.JSONEncoder(ensure_ascii=False).encode


def filled(template: str, row: Mapping[str, Any]) -> str:
    """Put the values of a row into a template; a column that the row lacks is empty.

    >>> filled("{a} {b} {c}", {"a": 1, "b": None})
    '1'
    """
    return PLACEHOLDER.sub(lambda one: text_of_cell(cell_at(row, one[1])), template).strip()


def text_answer(mapping: ColumnMapping, row: Mapping[str, Any]) -> str | None:
    """Return the answer of a row as text; None if a column of it is empty."""
    if any(is_empty(cell_at(row, name)) for name in mapping.answer_columns):
        return None
    (template,) = mapping.answer
    is_column = template in mapping.answer_keys
    return text_of_cell(cell_at(row, template)) if is_column else filled(template, row)


def json_answer(
    mapping: ColumnMapping, row: Mapping[str, Any], found: "Counter[str]", where: str = "this file"
) -> dict[str, Any] | None:
    """Return the answer of a row as an object; None if a value is empty that may not be.

    What `replace` and `plain_html` change, before values get their types, is counted in `found`.

    >>> both = ColumnMapping(answer=["a", "b"], prompt="{c}")
    >>> json_answer(both, {"a": "x", "b": "2"}, Counter()), json_answer(both, {"a": "x"}, Counter())
    ({'a': 'x', 'b': '2'}, None)
    """
    properties = (mapping.answer_schema or {}).get("properties", {})
    made: dict[str, Any] = {}
    for key, column in mapping.answer_keys.items():
        value = json_value(mapping, cell_at(row, column), found, where)
        about = properties.get(key, {})
        # An empty list is a value of JSON.
        if is_empty(value) and value != []:
            if not mapping.is_nullable(key) and "null" not in types_of(about):
                return None
            value = None
        made[key] = None if value is None else _typed(value, types_of(about))
    return made


def json_value(
    mapping: ColumnMapping, value: Any, found: "Counter[str]", where: str = "this file"
) -> Any:
    """Return a cell as it stands in JSON, changed as `replace` says: a text of a list is one."""
    if isinstance(value, str):
        parsed = json_collection(value)
        value = value.strip() if parsed is None else parsed
    if not (mapping.replace or mapping.plain_html) or not isinstance(value, str | list | dict):
        return value

    def change(text: str) -> str:
        left = replaced(mapping.replace, text, where, found, html=mapping.plain_html)
        return text if left == text else left.strip()

    return changed_all(value, change)


def is_empty(value: Any) -> bool:
    """Return whether a cell holds nothing: blank, or what programs write for that."""
    if isinstance(value, str):
        return value.strip().casefold() in NULLS
    return value is None or value != value or value in ([], {})


def text_of_cell(value: Any) -> str:
    """Return a cell as text; what is no single value is JSON."""
    if isinstance(value, list | dict):
        return ENCODE(value)
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


def property_of(types: Collection[str], values: Mapping[str, int], *, nullable: bool) -> Any:
    """Return the JSON Schema of a key with values of these types, and so often these texts."""
    kinds = {*types} - ({"integer"} if "number" in types else set())
    is_few = 0 < len(values) <= MAX_CLASSES and sum(values.values()) >= 2 * len(values)
    about: dict[str, Any] = {"type": "string"}
    if kinds - {"string"}:
        about = {"type": sorted(kinds) if len(kinds) > 1 else min(kinds)}
    elif is_few and all(len(value) <= CLASS_CHARS for value in values):
        about["enum"] = sorted(values)
    return {"anyOf": [about, {"type": "null"}]} if nullable else about


def types_of(about: Any) -> set[str]:
    """Return the types that a schema names; a schema may also be true or false."""
    found: list[Any] = []
    for one in about.get("anyOf", [about]) if isinstance(about, Mapping) else ():
        kinds = one.get("type") if isinstance(one, Mapping) else None
        found += kinds if isinstance(kinds, list) else [kinds]
    return {str(kind) for kind in found if kind is not None}


def _is_number(value: Any) -> bool:
    """Return whether a value is a number, or spells one the only way a number is spelled."""
    if isinstance(value, str):
        return NUMBER.fullmatch(value.strip()) is not None
    return not isinstance(value, bool) and number_of(value) is not None


def _typed(value: Any, kinds: Collection[str]) -> Any:
    """Return a value in a type that the schema gives its key."""
    own = type_in_json(value, is_typed=True)
    if own in kinds or (own == "integer" and "number" in kinds):
        return int(value) if own == "integer" else value
    if {"integer", "number"}.intersection(kinds) and _is_number(value):
        return int(float(value)) if "integer" in kinds else float(value)
    if "boolean" in kinds and isinstance(value, str) and value.casefold() in BOOLEANS:
        return BOOLEANS[value.casefold()]
    return text_of_cell(value)
