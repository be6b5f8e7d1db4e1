"""The JSON Schema of answers: derived from the values of the file, or given and held to them."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from ft_tools.data.judge.findings import note
from ft_tools.data.map.answers import (
    ENCODE,
    MAX_CLASSES,
    is_empty,
    json_answer,
    json_value,
    property_of,
    text_of_cell,
    type_in_json,
)
from ft_tools.data.map.conditions import counted, drops, keeps
from ft_tools.data.map.mapping import ColumnMapping
from ft_tools.data.read.rows import Reader
from ft_tools.errors import BadInput, brief
from ft_tools.formats.column_counts import cell_at
from ft_tools.formats.readers.file_kinds import TEXT_TABLES

SAMPLE_ROWS = 20_000
"""Rows of a file from which a schema is derived, and whose values are held to a given one."""
Row = Mapping[str, Any]


def completed(mapping: ColumnMapping, reader: Reader) -> tuple[ColumnMapping, list[str]]:
    """Return a mapping with the schema of JSON answers, and what of a given one does not fit."""
    given, keys = mapping.answer_schema or {}, mapping.answer_keys
    if not mapping.is_json:
        return mapping, []
    if wrong := _fault_of(given, keys) or _misfits(mapping, reader):
        return mapping, [wrong]
    named = given.get("properties", {})
    if not given or not named.keys() >= keys.keys():
        whole = {"type": "object", "required": list(keys), "additionalProperties": False}
        properties = _properties(mapping, reader) | named
        given = whole | given | {"properties": {key: properties[key] for key in keys}}
    return mapping.model_copy(update={"answer_schema": given}), []


def _rows(mapping: ColumnMapping, reader: Reader) -> Iterator[tuple[Row, bool]]:
    """Yield rows that are kept, and whether their file says what is a number and what a text."""
    for source in reader.sources:
        is_typed = source.kind not in TEXT_TABLES
        for row in islice(reader.raw(source), SAMPLE_ROWS):
            is_kept = isinstance(row.value, Mapping) and keeps(row.value, mapping.keep)
            if is_kept and not drops(row.value, mapping.drop):
                yield row.value, is_typed


def _properties(mapping: ColumnMapping, reader: Reader) -> dict[str, Any]:
    """Derive the schema of each key from its values."""
    types = {key: set[str]() for key in mapping.answer_keys}
    texts = {key: Counter[str]() for key in mapping.answer_keys}
    for row, is_typed in _rows(mapping, reader):
        for key, column in mapping.answer_keys.items():
            value = json_value(mapping, cell_at(row, column), Counter())
            if not is_empty(value) or value == []:
                types[key].add(type_in_json(value, is_typed=is_typed))
                if isinstance(value, str) and len(texts[key]) <= MAX_CLASSES:
                    texts[key][value] += 1
    return {
        key: property_of(types[key], texts[key], nullable=mapping.is_nullable(key))
        for key in mapping.answer_keys
    }


def _fault_of(given: Mapping[str, Any], keys: Mapping[str, str]) -> str:
    """Return what is wrong with a given schema, whatever the values are."""
    # Its library takes a moment that other requests do without.
    from ft_tools.metrics.schema import conformance

    try:
        conformance(given, "it")
    except BadInput as error:
        return note("schema_unusable", error=error)
    named = [*given.get("properties", {}), *given.get("required", [])]
    for key in named:
        if key not in keys:
            return note("schema_names_others", other=brief(repr(key)), keys=[*keys])
    is_object = given.get("type", "object") == "object"
    return "" if is_object else note("schema_of_no_object", keys=[*keys])


def _misfits(mapping: ColumnMapping, reader: Reader) -> str:
    """Return which values a given schema does not allow."""
    from ft_tools.metrics.schema import conformance

    given = mapping.answer_schema or {}
    shared = {"$defs": given.get("$defs", {})}
    allows = {
        key: conformance(shared | {"properties": {key: about}}, key)
        for key, about in given.get("properties", {}).items()
    }
    misfits: dict[str, Counter[str]] = defaultdict(Counter)
    for row, _ in _rows(mapping, reader) if allows else ():
        answer = json_answer(mapping, row, Counter()) or {}
        for key in allows.keys() & answer.keys():
            if not allows[key](ENCODE({key: answer[key]})):
                misfits[key][text_of_cell(answer[key])] += 1
    if not misfits:
        return ""
    listed = "; ".join(f"{key} {counted(misfits[key])}" for key in allows if key in misfits)
    return note("schema_does_not_allow", listed=listed)
