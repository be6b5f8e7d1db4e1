"""Check the columns that a mapping names against the file: that they exist, and what they hold."""

import difflib
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import islice
from typing import Any

from ft_tools.data.judge.findings import note
from ft_tools.data.map.answers import types_of
from ft_tools.data.map.conditions import (
    COMPARE,
    ByColumn,
    Pattern,
    counted,
    is_bound,
    is_one_of,
    values_at,
)
from ft_tools.data.map.mapping import ColumnMapping, HigherRated, Picked, Use
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

SAMPLE_ROWS = 20_000
"""Rows in which columns are looked for before any is read as an example."""
MOST_COLUMNS, MOST_NAMED, MOST_COUNTED = 200, 20, 10 * MOST_LISTED
NOT_THERE = object()
THREE_DIGITS = re.compile(r"[+-]?[1-9]\d{0,2}[.,]\d{3}")
"""A decimal, or a whole number with its thousands apart: nothing in it tells."""
NOT_BOUND = ' (bounds are on numbers or days, 2026-04-01 or 01.04.2026: use {"pattern": "REGEX"})'
Key = tuple[str, str]
"""Whether a column of rows or a key of turns: row or turn; and its name."""


@dataclass
class _Chooser:
    """What a column holds by which rows, turns or answers are chosen."""

    wanted: list[Any] = field(default_factory=list)
    """Values that are named, and nothing has so far."""
    places: list[Sequence[Any]] = field(default_factory=list)
    """Of a column of marks: each of its values is in one of these."""
    is_number: bool = False
    has_dates: bool = False
    """Whether bounds on numbers, or on dates, are named."""
    doubts: "Counter[str]" = field(default_factory=Counter)
    """decimals: values read as numbers that may have been meant with thousands; no_dates."""
    values: "Counter[str]" = field(default_factory=Counter)
    misplaced: "dict[bool, Counter[str]]" = field(default_factory=lambda: defaultdict(Counter))
    """Values that are in no place, and those that are in two."""

    def add(self, values: Sequence[Any]) -> None:
        """Count the values of a row or turn."""
        for value in values or [""]:
            text = text_of(value)
            self.doubts["no_dates"] += self.has_dates and day_of(text) is None
            if self.wanted and text not in self.values:
                self.wanted = [one for one in self.wanted if not is_one_of(value, [one])]
            if text in self.values or len(self.values) <= MOST_COUNTED:
                self.values[text] += 1
        for value in values if self.places or self.is_number else ():
            if self.is_number and isinstance(value, str) and THREE_DIGITS.fullmatch(value.strip()):
                self.doubts["decimals"] += 1
            num_places = sum(is_one_of(value, place) for place in self.places)
            counts = self.misplaced[num_places > 1]
            if self.places and num_places != 1 and len(counts) <= MOST_COUNTED:
                counts[text_of(value)] += 1


class NamedColumns:
    """What the columns that a mapping names hold, over the rows that were added."""

    def __init__(self, mapping: ColumnMapping, preferred: ByColumn) -> None:
        self._turns, self._preferred = mapping.turns, preferred
        turns, marks, chosen = mapping.turns, mapping.marks, mapping.picked
        picked = chosen if isinstance(chosen, Picked) else None
        uses = [*mapping.uses, *(Use(name, values) for name, values in preferred.items())]
        self._single = {use.column for use in uses if use.is_single}
        self._known: dict[str, None] = {}
        """Columns of the file, in order."""
        names = [*(use.column for use in uses), *mapping.masked_columns]
        names += [name for name in mapping.ignore if name != "*"]
        names += [turns.conversation, *turns.columns] if turns else []
        keys = turns.keys if turns else []
        self.unmet = dict.fromkeys([*(("row", one) for one in names), *(("turn", k) for k in keys)])
        """Columns, and keys of turns, that the mapping names and no row has so far."""
        self._choosers: dict[Key, _Chooser] = defaultdict(_Chooser)
        rules = [(("row", use.column), use.values) for use in uses if use.values]
        for rule in [*turns.keep, turns.drop, turns.first_turn] if turns else []:
            rules += [(("turn", name), values) for name, values in rule.items()]
        for key, values in rules:
            chooser = self._choosers[key]
            chooser.wanted += [one if isinstance(one, Pattern) else text_of(one) for one in values]
            chooser.is_number |= key[0] == "row" and any(map(is_bound, values))
            chooser.has_dates |= any(is_bound(one, date) for one in values)
        self._problem = "neither_good_nor_bad" if marks else "choose_no_answer"
        for name in chosen.judging if isinstance(chosen, HigherRated) else []:
            self._choosers["row", name].is_number = True
        if judging := marks or picked:
            chooser = self._choosers["row", judging.column]
            chooser.places = [[*picked.answers]] if picked else []
            chooser.places += [marks.good, marks.bad] if marks else []
            chooser.places.append(judging.neither)
            chooser.is_number |= any(is_bound(v) for side in chooser.places for v in side)
        properties = (mapping.answer_schema or {}).get("properties", {})
        for key_of_json, column in mapping.answer_keys.items():
            if {"integer", "number"} & types_of(properties.get(key_of_json)):
                self._choosers["row", column].is_number = True

    def add(self, row: Any) -> None:
        """Count a row of the file, as it stands there."""
        if not isinstance(row, Mapping):
            return
        if len(self._known) < MOST_COLUMNS and not row.keys() <= self._known.keys():
            for name, value in row.items():
                self._known.setdefault(str(name))
                if isinstance(value, Mapping | list):
                    self._known.update(dict.fromkeys(leaf for leaf, _ in leaves_of(name, value)))
        self._add("row", row)
        # Once all of them are met, nothing more is counted of turns.
        open_keys = any(what == "turn" for what, _ in self.unmet)
        wanted = (one.wanted for (what, _), one in self._choosers.items() if what == "turn")
        if self._turns is None or not (open_keys or any(wanted)):
            return
        conversation = self._turns.conversation
        items = turns_in(cell_at(row, conversation))
        for turn in [row] if items is None else items:
            if isinstance(turn, Mapping):
                self._add("turn", turn)
                if items is not None and len(self._known) < MOST_COLUMNS:
                    self._known.update((f"{conversation}[].{key}", None) for key in turn)

    def _add(self, what: str, row: Mapping[str, Any]) -> None:
        for key in [key for key in self.unmet if key[0] == what]:
            if _has(row, key[1], is_single=what == "row" and key[1] in self._single):
                del self.unmet[key]
        for key, chooser in self._choosers.items():
            if key[0] == what:
                chooser.add(values_at(row, key[1]))

    def notes(self) -> list[str]:
        """Return how numbers and dates of the columns were read where that can be doubted."""
        return [
            note(about, column=shown(name, NAME_CHARS), count=chooser.doubts[about])
            for about in ("decimals", "no_dates")
            for (_, name), chooser in self._choosers.items()
            if chooser.doubts[about]
        ]

    def problems(self, *, is_sample: bool) -> list[str]:
        """Return what is wrong with columns: not there, or with values that nobody decided about.

        Rows behind a sample may have the values that are named.
        """
        found = [self._missing(name) for _, name in self.unmet] if self._known else []
        for key, chooser in self._choosers.items():
            for has_two, counts in chooser.misplaced.items():
                if counts:
                    problem = "in_two_places" if has_two else self._problem
                    found.append(note(problem, column=shown(key[1]), listed=counted(counts)))
            if not is_sample and key not in self.unmet:
                found += [self._unmet_value(*key, value, chooser) for value in chooser.wanted]
        return found

    def _by(self, column: str) -> str:
        return "contradictions" if column in self._preferred else "mapping"

    def _missing(self, name: str) -> str:
        named = brief(repr(name))
        if name in self._known and "[]" in name:
            whole = shown(name.partition("[]")[0], NAME_CHARS)
            return note("items_of_a_list", name=named, whole=whole)
        inside = [one.rpartition("[].")[2] for one in self._known]
        close = difflib.get_close_matches(name, [*self._known, *inside], 3, 0.6)
        names = dict.fromkeys(close or list(self._known)[:MOST_NAMED])
        listed = ", ".join(shown(one, NAME_CHARS) for one in names)
        what = "similar" if close else "columns"
        return note("missing_column", by=self._by(name), name=named, what=what, listed=listed)

    def _unmet_value(self, what: str, column: str, value: Any, chooser: _Chooser) -> str:
        close = difflib.get_close_matches(str(value), chooser.values, 3, 0.6)
        similar = f" (similar: {', '.join(map(shown, close))})" if close else ""
        if str(value).startswith(tuple(COMPARE)):
            similar = "" if is_bound(value) or any(map(day_of, chooser.values)) else NOT_BOUND
        fields = {"by": self._by(column), "column": shown(column), "value": brief(repr(str(value)))}
        listed = counted(chooser.values)
        return note("value_of_none", what=what, similar=similar, listed=listed, **fields)


def _has(row: Mapping[str, Any], name: str, *, is_single: bool) -> bool:
    if cell_at(row, name, NOT_THERE) is not NOT_THERE:
        return True
    if "[]" not in name or is_single:
        return False
    head = name.partition("[]")[0].partition(".")[0]
    inside = (leaf for leaf, _ in leaves_of(head, row.get(head)))
    return bool(values_at(row, name)) or any(is_named(leaf, [name]) for leaf in inside)


def require_columns(mapping: ColumnMapping, reader: Reader) -> None:
    """Refuse a mapping whose columns the first rows do not have.

    Raises:
        BadInput: With the nearest names.
    """
    named = NamedColumns(mapping, reader.preferred)
    for _, _, row in islice(reader.numbered(), SAMPLE_ROWS):
        named.add(row.value)
        if not named.unmet:
            return
    require_none(named.problems(is_sample=True))


def require_none(problems: Sequence[str]) -> None:
    """Refuse what has to be decided, all of it at once.

    Raises:
        BadInput: There is something.
    """
    if len(problems) == 1:
        raise BadInput(problems[0])
    if problems:
        listed = "; ".join(f"({at}) {one}" for at, one in enumerate(problems, 1))
        raise BadInput(note("things_to_decide", count=len(problems), listed=listed))
