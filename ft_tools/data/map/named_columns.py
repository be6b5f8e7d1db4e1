"""Check the columns that a mapping names against the file: that they exist, and what they hold."""

import difflib
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache
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
    types_of,
)
from ft_tools.data.map.conditions import (
    COMPARE,
    ByColumn,
    Pattern,
    drops,
    is_bound,
    is_one_of,
    keeps,
    values_at,
)
from ft_tools.data.map.mapping import ColumnMapping, Use
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
MISFITS = {
    0: "are neither good nor bad",
    1: "choose no answer",
    2: "are in two of these",
}


@dataclass
class _Chooser:
    """What a column holds by which rows, turns or answers are chosen."""

    wanted: list[Any] = field(default_factory=list)
    """Values that are named, and nothing has so far."""
    places: list[Sequence[Any]] = field(default_factory=list)
    """Of a column of marks: each of its values is in one of these."""
    num_no_dates: int | None = None
    """Values that are no dates, where a bound on dates is named."""
    is_number: bool = False
    num_decimals: int = 0
    """Of one read as numbers: values that may have been meant with thousands."""
    values: "Counter[str]" = field(default_factory=Counter)
    misplaced: "dict[bool, Counter[str]]" = field(default_factory=lambda: defaultdict(Counter))
    """Values that are in no place, and those that are in two."""

    def want(self, values: Sequence[Any]) -> None:
        """Add values by which it is chosen."""
        self.wanted += [one if isinstance(one, Pattern) else text_of(one) for one in values]
        self.is_number |= any(map(is_bound, values))
        if any(is_bound(one, date) for one in values):
            self.num_no_dates = 0

    def add(self, values: Sequence[Any]) -> None:
        """Count the values of a row or turn."""
        for value in values or [""]:
            text = text_of(value)
            if self.num_no_dates is not None:
                self.num_no_dates += day_of(text) is None
            if self.wanted and text not in self.values:
                self.wanted = [one for one in self.wanted if not is_one_of(value, [one])]
            if text in self.values or len(self.values) <= MOST_COUNTED:
                self.values[text] += 1
        for value in values if self.places or self.is_number else ():
            is_open = isinstance(value, str) and THREE_DIGITS.fullmatch(value.strip())
            self.num_decimals += self.is_number and bool(is_open)
            num_places = sum(is_one_of(value, place) for place in self.places)
            counts = self.misplaced[num_places > 1]
            if self.places and num_places != 1 and len(counts) <= MOST_COUNTED:
                counts[text_of(value)] += 1


class NamedColumns:
    """What the columns that a mapping names hold, over the rows that were added."""

    def __init__(self, mapping: ColumnMapping, preferred: ByColumn) -> None:
        self._mapping, self._preferred = mapping, preferred
        turns, marks, picked = mapping.turns, mapping.marks, mapping.picked
        uses = [*mapping.uses, *(Use(name, values) for name, values in preferred.items())]
        others = [*mapping.masked_columns, *(name for name in mapping.ignore if name != "*")]
        others += [turns.conversation, *turns.columns] if turns else []
        self.num_rows = 0
        self.known: dict[str, None] = {}
        """Columns of the file, in order."""
        self.unmet = dict.fromkeys([*(use.column for use in uses), *others])
        """Columns, and keys of turns, that the mapping names and no row has so far."""
        self._unmet_keys = dict.fromkeys(turns.keys if turns else ())
        self._single = {use.column for use in uses if use.is_single}
        self._of_rows: dict[str, _Chooser] = defaultdict(_Chooser)
        self._of_turns: dict[str, _Chooser] = defaultdict(_Chooser)
        for use in uses:
            if use.values:
                self._of_rows[use.column].want(use.values)
        for rule in [*turns.keep, turns.drop] if turns else []:
            for name, values in rule.items():
                self._of_turns[name].want(values)
        if marks:
            chooser = self._of_rows[marks.column]
            chooser.places = [marks.good, marks.bad, marks.neither]
            chooser.is_number |= any(is_bound(v) for side in chooser.places for v in side)
        elif picked:
            self._of_rows[picked.column].places = [[*picked.answers], picked.neither]
        properties = (mapping.answer_schema or {}).get("properties", {})
        for key, column in mapping.answer_keys.items():
            if {"integer", "number"} & types_of(properties.get(key)):
                self._of_rows[column].is_number = True

    def add(self, row: Any) -> None:
        """Count a row of the file, as it stands there."""
        if not isinstance(row, Mapping):
            return
        self.num_rows += 1
        if len(self.known) < MOST_COLUMNS and not row.keys() <= self.known.keys():
            for name, value in row.items():
                self.known.setdefault(str(name))
                if isinstance(value, Mapping | list):
                    self.known.update(dict.fromkeys(leaf for leaf, _ in leaves_of(name, value)))
        for name in list(self.unmet):
            if _has(row, name, is_single=name in self._single):
                del self.unmet[name]
        for name, chooser in self._of_rows.items():
            chooser.add(values_at(row, name))
        if self._mapping.turns is not None:
            self._add_turns(row, self._mapping.turns.conversation)

    def _add_turns(self, row: Mapping[str, Any], conversation: str) -> None:
        if not self._unmet_keys and not any(one.wanted for one in self._of_turns.values()):
            return
        items = turns_in(cell_at(row, conversation))
        for turn in [row] if items is None else items:
            if isinstance(turn, Mapping):
                for name, chooser in self._of_turns.items():
                    chooser.add(values_at(turn, name))
                for key in [key for key in self._unmet_keys if _has(turn, key)]:
                    del self._unmet_keys[key]
                if items is not None and len(self.known) < MOST_COLUMNS:
                    self.known.update((f"{conversation}[].{key}", None) for key in turn)

    def notes(self) -> list[str]:
        """Return how numbers and dates of the columns were read where that can be doubted."""
        rows, turns = self._of_rows.items(), self._of_turns.items()
        doubts = [("decimals", name, one.num_decimals) for name, one in rows]
        doubts += [("no_dates", name, one.num_no_dates or 0) for name, one in [*rows, *turns]]
        return [
            note(about, column=shown(name, NAME_CHARS), count=count)
            for about, name, count in doubts
            if count
        ]

    def missing_columns(self) -> list[str]:
        """Return what is wrong with each column that is named and not in the file."""
        found = []
        for name in [*self.unmet, *self._unmet_keys] if self.num_rows else ():
            if name in self.known and "[]" in name:
                found.append(
                    f"mapping names {brief(repr(name))}, items of a list, where one value per row "
                    f"is needed: name the whole list ({shown(name.partition('[]')[0], NAME_CHARS)})"
                    ", read conversations with `turns`, or the list of a JSON object as rows with "
                    "`sheet`"
                )
                continue
            inside = [one.rpartition("[].")[2] for one in self.known]
            close = difflib.get_close_matches(name, [*self.known, *inside], 3, 0.6)
            names = dict.fromkeys(close or list(self.known)[:MOST_NAMED])
            found.append(
                f"{self._by(name)} names the column {brief(repr(name))}, which the file does not "
                f"have; {'similar' if close else 'columns'}: "
                f"{', '.join(shown(one, NAME_CHARS) for one in names)}"
            )
        return found

    def _by(self, column: str) -> str:
        return "contradictions" if column in self._preferred else "mapping"

    def undecided_values(self, *, is_sample: bool) -> list[str]:
        """Return what is wrong: marks of neither side, and values to choose by that no row has.

        Args:
            is_sample: Whether only the first rows were read: others may have these values.
        """
        found = []
        of_marks = self._mapping.marks is not None
        places = "marks.good, marks.bad and marks.neither"
        places = places if of_marks else "chosen.answers and chosen.neither"
        for name, chooser in self._of_rows.items():
            for has_two, counts in chooser.misplaced.items():
                if counts:
                    problem = MISFITS[2 if has_two else 0 if of_marks else 1]
                    found.append(
                        f"mapping: {shown(name)} has values that {problem}: {_listed(counts)}; each"
                        f" belongs in one of {places} (left out)"
                    )
        choosers = [("row", *one) for one in self._of_rows.items()]
        choosers += [("turn", *one) for one in self._of_turns.items()]
        for what, name, chooser in [] if is_sample else choosers:
            if name in {*self.unmet, *self._unmet_keys}:
                continue
            for value in chooser.wanted:
                close = difflib.get_close_matches(str(value), chooser.values, 3, 0.6)
                similar = f" (similar: {', '.join(map(shown, close))})" if close else ""
                if str(value).startswith(tuple(COMPARE)):
                    has_days = any(map(day_of, chooser.values))
                    similar = "" if is_bound(value) or has_days else NOT_BOUND
                found.append(
                    f"{self._by(name)}: no {what} has {brief(repr(str(value)))}{similar} in "
                    f"{shown(name)}, which has {_listed(chooser.values)}"
                )
        return found


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


def require_none(problems: Sequence[str]) -> None:
    """Refuse what has to be decided, all of it at once.

    Raises:
        BadInput: There is something.
    """
    if len(problems) == 1:
        raise BadInput(problems[0])
    if problems:
        listed = "; ".join(f"({at}) {one}" for at, one in enumerate(problems, 1))
        raise BadInput(f"{len(problems)} things have to be decided first: {listed}")


def completed(mapping: ColumnMapping, reader: Reader) -> tuple[ColumnMapping, list[str]]:
    """Return a mapping with the schema of JSON answers, and what of it does not fit the file."""
    named = NamedColumns(mapping, reader.preferred)
    answers = _Answers(mapping) if mapping.is_json else None
    for source in reader.sources if named.unmet else ():
        for row in islice(reader.raw(source), SAMPLE_ROWS):
            named.add(row.value)
            if answers is not None and isinstance(row.value, Mapping):
                answers.add(row.value, is_typed=source.kind not in TEXT_TABLES.values())
    problems = named.missing_columns()
    if answers is None:
        return mapping, problems
    wrong = answers.problems()
    made = mapping.answer_schema if wrong else answers.schema()
    return mapping.model_copy(update={"answer_schema": made}), problems + wrong


class _Answers:
    """The values of JSON answers, from which their schema follows, or which a given one allows.

    Args:
        mapping: Of columns to a JSON object.
    """

    def __init__(self, mapping: ColumnMapping) -> None:
        # Its library takes a moment that other requests do without.
        from ft_tools.metrics.schema import conformance

        self._mapping = mapping
        given = self._given = mapping.answer_schema or {}
        self._types = {key: set[str]() for key in mapping.answer_keys}
        self._values = {key: Counter[str]() for key in mapping.answer_keys}
        self._misfits: dict[str, Counter[str]] = defaultdict(Counter)
        """Key -> values that the given schema does not allow."""
        self._problems = self._of_schema() if given else []
        shared = {"$defs": given.get("$defs", {})}
        self._allows = {
            key: lru_cache(MOST_COUNTED)(
                conformance(shared | {"properties": {key: about}}, "mapping.answer_schema")
            )
            for key, about in ({} if self._problems else given.get("properties", {})).items()
        }

    def _of_schema(self) -> list[str]:
        """Return what is wrong with a given schema, whatever the values are."""
        from ft_tools.metrics.schema import conformance

        try:
            conformance(self._given, "mapping.answer_schema")
        except BadInput as error:
            return [str(error)]
        keys = [*self._given.get("properties", {}), *self._given.get("required", [])]
        other = [name for name in keys if name not in self._mapping.answer_keys]
        if self._given.get("type", "object") == "object" and not other:
            return []
        what = f"names {brief(repr(other[0]))}" if other else "is for no object"
        known = [*self._mapping.answer_keys]
        return [f"mapping.answer_schema {what}; answers have {known}; leave out what is derived"]

    def add(self, row: Mapping[str, Any], *, is_typed: bool) -> None:
        """Count the values of a row.

        Args:
            row: Of the file.
            is_typed: Whether the file says of a value whether it is a number or a text.
        """
        mapping = self._mapping
        if not keeps(row, mapping.keep) or drops(row, mapping.drop):
            return
        for key, column in mapping.answer_keys.items():
            value = json_value(mapping, cell_at(row, column), Counter())
            if is_empty(value) and value != []:
                continue
            self._types[key].add(type_in_json(value, is_typed=is_typed))
            if isinstance(value, str) and len(self._values[key]) <= MAX_CLASSES:
                self._values[key][value] += 1
        answer = json_answer(mapping, row, Counter()) if self._allows else None
        for key, value in (answer or {}).items():
            if key in self._allows and not self._allows[key](ENCODE({key: value})):
                self._misfits[key][text_of_cell(value)] += 1

    def problems(self) -> list[str]:
        """Return what is wrong with a given schema."""
        if not self._misfits:
            return self._problems
        listed = "; ".join(f"{key} {_listed(counts)}" for key, counts in self._misfits.items())
        return [
            f"mapping.answer_schema does not allow these values: {listed}; change it, replace them "
            "(`replace` is applied first), or leave their rows out with keep or drop"
        ]

    def schema(self) -> dict[str, Any]:
        """Return the given schema, if it names all keys, or one completed from the values."""
        keys, given = self._mapping.answer_keys, self._given
        made = {
            key: property_of(
                self._types[key],
                self._values[key],
                nullable=not {key, column}.isdisjoint(self._mapping.nullable),
            )
            for key, column in keys.items()
        }
        whole: dict[str, Any] = {"type": "object", "properties": made, "required": list(keys)}
        whole |= {"additionalProperties": False}
        named = given.get("properties", {})
        is_whole = bool(given) and named.keys() >= keys.keys()
        return given if is_whole else whole | given | {"properties": made | named}
