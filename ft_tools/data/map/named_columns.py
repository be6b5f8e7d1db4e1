"""Check the columns that a mapping names against the file: that they exist, and what they hold."""

import difflib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date
from itertools import islice
from typing import Any

from ft_tools.data.judge.findings import note
from ft_tools.data.map.apply_mapping import (
    MAX_CLASSES,
    is_empty,
    json_value,
    kinds_of,
    rewritten,
    schema_of,
    text_of_cell,
    type_in_json,
)
from ft_tools.data.map.conditions import (
    COMPARE,
    ByColumn,
    Condition,
    Pattern,
    drops,
    is_bound,
    is_one_of,
    keeps,
    values_at,
)
from ft_tools.data.map.mapping import ColumnMapping, Picked
from ft_tools.data.map.times import day_of
from ft_tools.data.read.rows import Reader
from ft_tools.errors import BadInput, brief
from ft_tools.formats.column_counts import (
    MOST_LISTED,
    NAME_CHARS,
    cell_at,
    is_named,
    leaves_of,
    shown,
    text_of,
    turns_in,
)
from ft_tools.formats.readers.source import TEXT_TABLES

SAMPLE_ROWS = 20_000
"""Rows in which the columns of a mapping are looked for, and from which a schema is derived."""
MOST_COLUMNS, MOST_NAMED, MOST_COUNTED = 200, 20, 10 * MOST_LISTED
NOT_THERE = object()
THREE_DIGITS = re.compile(r"[+-]?[1-9]\d{0,2}[.,]\d{3}")
"""A decimal, or a whole number with its thousands apart: nothing in it tells."""
NOT_BOUND = ' (bounds are on numbers or days, 2026-04-01 or 01.04.2026: use {"pattern": "REGEX"})'
NUMBERS = {"integer", "number"}
JUDGED = {
    "marks": ("are neither good nor bad", "marks.good, marks.bad and marks.neither"),
    "chosen": ("choose no answer", "chosen.answers and chosen.neither"),
}
"""Key of a mapping -> what a value does that has no place, and which places there are."""


class _Choices:
    """The values that a mapping chooses by, and those that the file has."""

    def __init__(self, rules: Sequence[Condition]) -> None:
        named = [(name, one) for rule in rules for name, ones in rule.items() for one in ones]
        self.unmet = [(n, v if isinstance(v, Pattern) else text_of(v)) for n, v in named]
        """Columns and values that the mapping names and nothing has so far."""
        self.values: dict[str, Counter[str]] = {name: Counter() for rule in rules for name in rule}
        self.no_dates = {name: 0 for name, one in named if is_bound(one, date)}

    def add(self, row: Mapping[str, Any]) -> None:
        """Count the values of a row or turn."""
        for name, counts in self.values.items():
            for value in values_at(row, name) or [""]:
                text = text_of(value)
                if name in self.no_dates:
                    self.no_dates[name] += day_of(text) is None
                if text not in counts and self.unmet:
                    self.unmet = [
                        one for one in self.unmet if one[0] != name or not is_one_of(value, one[1:])
                    ]
                if text in counts or len(counts) <= MOST_COUNTED:
                    counts[text] += 1


class NamedColumns:
    """What the columns that a mapping names hold, over the rows that were added."""

    def __init__(self, mapping: ColumnMapping, preferred: ByColumn) -> None:
        self._mapping, self._preferred = mapping, preferred
        self.num_rows = 0
        self.known: dict[str, None] = {}
        """Columns of the file, in order."""
        turns, better, marks = mapping.turns, mapping.corrected, mapping.marks
        self.unmet = dict.fromkeys([*mapping.row_columns, *mapping.masked_columns, *preferred])
        """Columns, and keys of turns, that the mapping names and no row has so far."""
        if turns is not None:
            self.unmet |= dict.fromkeys([turns.conversation, *turns.columns])
        self.unmet |= dict.fromkeys(name for name in mapping.ignore if name != "*")
        self._unmet_keys = dict.fromkeys(turns.keys if turns else ())
        self._single = {*mapping.prompt_columns, *mapping.answer_columns, *mapping.sides}
        """Of these, columns of one value: no items of a list."""
        self._single |= {mapping.time_column or "", better.column if better else ""}
        self.answers = {name: Counter[str]() for name in mapping.answer_columns}
        self.types: dict[str, set[str]] = {name: set() for name in mapping.answer_columns}
        """Of the values of the answer's columns in JSON."""
        self._judging, self._sides = "", list[Sequence[Any]]()
        if marks is not None:
            self._judging, self._sides = marks.column, [marks.good, marks.bad, marks.neither]
        elif isinstance(picked := mapping.chosen, Picked):
            self._judging, self._sides = picked.column, [[*picked.answers], picked.neither]
        self._misjudged: dict[bool, Counter[str]] = {False: Counter(), True: Counter()}
        """Values of that column for which the mapping has no place, and those that have two."""
        as_given = [{better.column: better.as_given}] if better else []
        self._of_rows = _Choices([*mapping.keep, mapping.drop, preferred, *as_given])
        self._of_turns = _Choices([*turns.keep, turns.drop] if turns else [])
        self._as_numbers = _read_as_numbers(mapping)
        self._decimals: Counter[str] = Counter()
        """Column that is read as a number -> values that may have been meant with thousands."""

    def add(self, row: Any, *, is_typed: bool = True) -> None:
        """Count a row of the file.

        Args:
            row: As it stands there.
            is_typed: Whether the file says of a value whether it is a number or a text.
        """
        if not isinstance(row, Mapping):
            return
        self.num_rows += 1
        self._add_names(row)
        self._add_turns(row)
        self._of_rows.add(row)
        for value in values_at(row, self._judging) if self._sides else ():
            num_places = sum(is_one_of(value, side) for side in self._sides)
            counts = self._misjudged[num_places > 1]
            if num_places != 1 and len(counts) <= MOST_COUNTED:
                counts[text_of(value)] += 1
        for name in self._as_numbers:
            texts = [value for value in values_at(row, name) if isinstance(value, str)]
            self._decimals[name] += sum(bool(THREE_DIGITS.fullmatch(t.strip())) for t in texts)
        if self.answers and keeps(row, self._mapping.keep) and not drops(row, self._mapping.drop):
            self._add_answers(row, is_typed=is_typed)

    def _add_names(self, row: Mapping[str, Any]) -> None:
        if len(self.known) < MOST_COLUMNS and not row.keys() <= self.known.keys():
            for name, value in row.items():
                self.known.setdefault(str(name))
                if isinstance(value, Mapping | list):
                    self.known.update(dict.fromkeys(leaf for leaf, _ in leaves_of(name, value)))
        for name in list(self.unmet):
            if _has(row, name, is_single=name in self._single):
                del self.unmet[name]

    def _add_answers(self, row: Mapping[str, Any], *, is_typed: bool) -> None:
        for name, counts in self.answers.items():
            value = json_value(cell_at(row, name))
            value = rewritten(self._mapping, value, "this file", Counter())
            if is_empty(value) and value != []:
                continue
            self.types[name].add(type_in_json(value, is_typed=is_typed))
            if isinstance(value, str) and len(counts) <= MAX_CLASSES:
                counts[text_of_cell(value)] += 1

    def _add_turns(self, row: Mapping[str, Any]) -> None:
        turns = self._mapping.turns
        if turns is None or not (self._unmet_keys or self._of_turns.unmet):
            return
        items = turns_in(cell_at(row, turns.conversation))
        for turn in [row] if items is None else items:
            if isinstance(turn, Mapping):
                self._of_turns.add(turn)
                for key in [key for key in self._unmet_keys if _has(turn, key)]:
                    del self._unmet_keys[key]
                if items is not None and len(self.known) < MOST_COLUMNS:
                    self.known.update((f"{turns.conversation}[].{key}", None) for key in turn)

    def notes(self) -> list[str]:
        """Return how numbers and dates of the columns were read where that can be doubted."""
        dates = {**self._of_rows.no_dates, **self._of_turns.no_dates}
        return [
            note(about, column=shown(name, NAME_CHARS), count=count)
            for about, counts in (("decimals", self._decimals), ("no_dates", dates))
            for name, count in counts.items()
            if count
        ]

    def require_columns(self) -> None:
        """Refuse a mapping that names a column which the file does not have.

        Raises:
            BadInput: With the nearest names.
        """
        name = next(iter([*self.unmet, *self._unmet_keys]), None)
        if name is None or not self.num_rows:
            return
        if name in self.known and "[]" in name:
            raise BadInput(
                f"mapping names {brief(repr(name))}, items of a list, where one value per row is "
                f"needed: name the whole list ({shown(name.partition('[]')[0], NAME_CHARS)}), read "
                "conversations with `turns`, or the list of a JSON object as rows with `sheet`"
            )
        inside = [one.rpartition("[].")[2] for one in self.known]
        close = difflib.get_close_matches(name, [*self.known, *inside], 3, 0.6)
        names = dict.fromkeys(close or list(self.known)[:MOST_NAMED])
        by = "contradictions" if name in self._preferred else "mapping"
        raise BadInput(
            f"{by} names the column {brief(repr(name))}, which the file does not have; "
            f"{'similar' if close else 'columns'}: "
            f"{', '.join(shown(one, NAME_CHARS) for one in names)}"
        )

    def require_values(self, *, is_sample: bool) -> None:
        """Refuse marks that are neither good nor bad, and values to choose by that no row has.

        Args:
            is_sample: Whether only the first rows were read: others may have these values.

        Raises:
            BadInput: With the values.
        """
        what, places = JUDGED["marks" if self._mapping.marks else "chosen"]
        for has_two, counts in self._misjudged.items():
            if counts:
                problem = "are in two of these" if has_two else what
                raise BadInput(
                    f"mapping: {shown(self._judging)} has values that {problem}: {_listed(counts)};"
                    f" each belongs in one of {places} (left out)"
                )
        for what, choices in (("row", self._of_rows), ("turn", self._of_turns)):
            for name, value in [] if is_sample else choices.unmet:
                held = choices.values[name]
                close = difflib.get_close_matches(str(value), held, 3, 0.6)
                similar = f" (similar: {', '.join(map(shown, close))})" if close else ""
                if str(value).startswith(tuple(COMPARE)):
                    similar = "" if is_bound(value) or any(map(day_of, held)) else NOT_BOUND
                by = "contradictions" if name in self._preferred else "mapping"
                raise BadInput(
                    f"{by}: no {what} has {brief(repr(str(value)))}{similar} in {shown(name)}, "
                    f"which has {_listed(held)}"
                )


def _read_as_numbers(mapping: ColumnMapping) -> list[str]:
    """Return the columns of which a bound or a number of the answer's schema reads numbers."""
    marks = mapping.marks
    rules = [item for rule in (*mapping.keep, mapping.drop) for item in rule.items()]
    rules += [(marks.column, [*marks.good, *marks.bad, *marks.neither])] if marks else []
    properties = (mapping.answer_schema or {}).get("properties", {})
    keys = mapping.answer_keys.items()
    numbers = [column for key, column in keys if NUMBERS & {*kinds_of(properties.get(key))}]
    return [name for name, values in rules if any(map(is_bound, values))] + numbers


def _listed(counts: "Counter[str]") -> str:
    most = counts.most_common(MOST_LISTED)
    more = len(counts) - len(most)
    listed = ", ".join(f"{shown(value) if value else 'nothing'} {count}" for value, count in most)
    return f"{listed} and {more} more values" if more > 0 else listed


def _has(row: Mapping[str, Any], name: str, *, is_single: bool = False) -> bool:
    if cell_at(row, name, NOT_THERE) is not NOT_THERE:
        return True
    if "[]" not in name or is_single:
        return False
    head = name.partition("[]")[0].partition(".")[0]
    inside = (leaf for leaf, _ in leaves_of(head, row.get(head)))
    return bool(values_at(row, name)) or any(is_named(leaf, [name]) for leaf in inside)


def completed(mapping: ColumnMapping, reader: Reader) -> ColumnMapping:
    """Return a mapping with the schema of JSON answers, once the file is known to fit it.

    Raises:
        BadInput: It names a column that the file does not have, or the schema is none.
    """
    named = NamedColumns(mapping, reader.preferred)
    if named.unmet:
        for source in reader.sources:
            for row in islice(reader.raw(source), SAMPLE_ROWS):
                named.add(row.value, is_typed=source.kind not in TEXT_TABLES.values())
        named.require_columns()
    schema = mapping.answer_schema
    if schema is None:
        made = schema_of(mapping, named.types, named.answers) if mapping.is_json else None
        return mapping.model_copy(update={"answer_schema": made})
    cure = "leave answer_schema out: it is derived from the values"
    # Its library takes a moment that other requests do without.
    from ft_tools.metrics.schema import require_schema

    require_schema(schema, "mapping.answer_schema")
    keys = [*schema.get("properties", {}), *schema.get("required", [])]
    other = [name for name in keys if name not in mapping.answer_keys]
    if schema.get("type", "object") != "object" or other:
        what = f"names {brief(repr(other[0]))}" if other else "is for no object"
        raise BadInput(
            f"mapping.answer_schema {what}; answers have {[*mapping.answer_keys]}; {cure}"
        )
    return mapping
