"""Columns that may mark how good a row is, over a whole file: what to ask about, and what to offer.

A column that no format reads and that may hold such marks is asked about, not dropped.
"""

import re
from collections import Counter
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ft_tools.formats.columns import PLAIN_NAME, place_of
from ft_tools.formats.scales import MAX_CHARS, is_scale, number_of, threshold_of
from ft_tools.formats.verdicts import (
    MAX_PARTS,
    Mark,
    is_benign,
    is_reversed,
    is_telling,
    mark_of,
    marks_in,
    says_verdict,
    scalars_in,
)

MAX_DISTINCT = 64
MAX_COLUMNS = 100
# A column without a telling name or telling values is asked about up to so many different values,
# if each is there at least this often on average. Ours.
FEW_VALUES = 12
ROWS_A_VALUE = 3
RECOGNISED_FRACTION = 0.8
TURN_KEYS = frozenset(
    {"role", "from", "content", "value", "text", "parts", "name", "tool_calls", "tool_call_id"}
    | {"function_call", "weight", "train", "training", "reasoning_content", "thinking", "reasoning"}
    | {"type", "id"}
)
DATE = re.compile(r"\d{4}-\d{2}-\d{2}|\d{1,2}[./]\d{1,2}[./]\d{2,4}|\d{1,2}:\d{2}")
Kind = Literal["verdict", "few_values"]


@dataclass
class Column:
    """A column that no format reads: how often which short value stands in it."""

    name: str
    """With dots for objects in objects and `[]` for lists: `feedback.score`, "
        "`messages[].rating`."""
    values: "Counter[str | bool | float]" = field(default_factory=Counter)
    first_rows: dict[Any, list[int]] = field(default_factory=dict)
    num_rows: int = 0
    num_other: int = 0
    """Values that are no mark: long texts, dates, and words beyond `MAX_DISTINCT`."""
    num_more: int = 0
    """Numbers beyond `MAX_DISTINCT`, as scores have them."""
    low: float = float("inf")
    high: float = float("-inf")
    whole: bool = True
    last_row: int = 0
    place: int = 0
    """Number of the column in the first row that has it, from 1."""

    def add(self, value: Any, row: int) -> None:
        """Count a value."""
        self.num_rows += row != self.last_row
        self.last_row = row
        key = value.strip() if isinstance(value, str) else value
        if isinstance(key, str) and (len(key) > MAX_CHARS or DATE.match(key)):
            self.num_other += 1
            return
        number = number_of(key)
        if number is not None:
            self.low, self.high = min(self.low, number), max(self.high, number)
            self.whole = self.whole and number.is_integer()
        if key not in self.values and len(self.values) >= MAX_DISTINCT:
            self.num_more += number is not None
            self.num_other += number is None
            return
        self.values[key] += 1
        rows = self.first_rows.setdefault(key, [])
        if len(rows) < 5:
            rows.append(row)

    @property
    def kind(self) -> Kind | None:
        """Return why it is asked about; None if it needs no decision."""
        total = sum(self.values.values()) + self.num_other + self.num_more
        if not total or not self.values:
            return None
        marks = marks_in(self.values)
        sure = sum(n for v, n in self.values.items() if mark_of(v) is not None)
        telling = any(
            isinstance(v, str) and mark_of(v) is not None and is_telling(v) for v in self.values
        )
        numeric = all(number_of(v) is not None for v in self.values)
        named = says_verdict(self.name)
        benign = is_benign(self.name) and not named
        is_few = len(self.values) <= FEW_VALUES and not self.num_other
        if telling and sure >= RECOGNISED_FRACTION * total:
            return "verdict"
        marked = sum(self.values[value] for value in marks)
        if named and (is_few or numeric or 2 * marked >= total):
            return "verdict"
        if benign or not is_few or len(self.values) < 2:
            return None
        if sure == total:
            return "verdict"
        return "few_values" if total >= ROWS_A_VALUE * len(self.values) else None

    @property
    def is_scale(self) -> bool:
        """Tell whether its numbers need a threshold."""
        numbers = {number for v in self.values if (number := number_of(v)) is not None}
        return 2 * len(numbers) > len(self.values) and is_scale(numbers)

    @property
    def is_clear(self) -> bool:
        """Tell whether each value says by itself whether it is good or bad."""
        return (
            not self.num_other
            and not self.good_values
            and all(mark_of(value) is not None for value in self.values)
        )

    @property
    def is_reversed(self) -> bool:
        """Tell whether the name says how bad something is, and the values yes, no or how much.

        >>> column = Column("toxic", Counter({"yes": 3, "no": 9}))
        >>> column.is_reversed, column.good_values
        (True, ['no'])
        """
        words = [value for value in self.values if isinstance(value, str)]
        return is_reversed(self.name) and not any(map(is_telling, words))

    @property
    def good_values(self) -> list[str | bool | float]:
        """Propose what means good, where only a person can say so; empty: nothing can be proposed.

        Of a scale it is a condition. No free text of the data is among them.
        """
        if self.is_scale:
            ends = (self.low, self.high)
            return [threshold_of(*ends, whole=self.whole, high_is_bad=self.is_reversed)]
        is_known = self.is_reversed and all(mark_of(value) is not None for value in self.values)
        good = [value for value in self.values if is_known and mark_of(value) is Mark.BAD]
        return [v if isinstance(v, str | bool) else float(v) for v in good]

    @property
    def about(self) -> str:
        """Describe what needs a person; no word of the data is repeated."""
        if self.is_scale:
            return f"numbers from {self.low:g} to {self.high:g}"
        return "a name that says what is bad"

    def _marks(self) -> dict[Any, Mark]:
        marks = marks_in(self.values)
        if not self.is_reversed:
            return marks
        other = {Mark.GOOD: Mark.BAD, Mark.BAD: Mark.GOOD}
        return {value: other.get(mark, mark) for value, mark in marks.items()}

    def bad_rows(self) -> list[int]:
        """Return the first rows that are marked bad, else the first that are marked at all."""
        marks = self._marks()
        bad = [r for v, rows in self.first_rows.items() if marks.get(v) is Mark.BAD for r in rows]
        return sorted(bad or [row for rows in self.first_rows.values() for row in rows])[:5]

    @property
    def num_bad(self) -> int:
        """Return how many values say that something is bad, as far as that is known."""
        marks = self._marks()
        return sum(n for value, n in self.values.items() if marks.get(value) is Mark.BAD)

    @property
    def shown_name(self) -> str:
        """Return the name if it is a plain one; a name may be text that an agent must not read."""
        if PLAIN_NAME.fullmatch(self.name):
            return self.name
        return f"{self.place} (unusual name: show_examples with field='column {self.place}')"


class UnreadColumns:
    """What the columns hold that no format reads, over a whole file."""

    def __init__(self) -> None:
        self._columns: dict[str, Column] = {}
        self.num_rows = 0
        self.num_judged_twice = 0
        self.num_agreed = 0

    def add(self, row: Any, read: Container[str], number: int) -> None:
        """Count the short values of a row.

        Args:
            row: As it stands in the file.
            read: Names of the columns that the example is made of.
            number: The row's number.
        """
        self.num_rows += 1
        if not isinstance(row, Mapping):
            return
        seen: list[Mark | float] = []
        for at, (name, value) in enumerate(_values_of(row, read)):
            if at >= MAX_PARTS:
                break
            if name in read:
                continue
            column = self._columns.get(name)
            if column is None:
                if len(self._columns) >= MAX_COLUMNS:
                    continue
                column = self._columns[name] = Column(name, place=place_of(row, name))
            column.add(value, number)
            if says_verdict(name) and (said := number_of(value) or mark_of(value)) is not None:
                seen.append(said)
        # Stars and thumbs of one row cannot be compared without a threshold.
        if len(seen) > 1 and len(set(map(type, seen))) == 1:
            self.num_judged_twice += 1
            self.num_agreed += len(set(seen)) == 1

    def asked(self, decided: Container[str] = ()) -> list[Column]:
        """Return the columns that need a decision, those with the most bad marks first."""
        found = [c for c in self._columns.values() if c.name not in decided and c.kind]
        return sorted(found, key=lambda c: (c.kind != "verdict", -c.num_bad, c.name))

    def within(self, name: str) -> list[Column]:
        """Return the columns in the lists and objects of one."""
        starts = (f"{name}[", f"{name}.")
        return [column for column in self._columns.values() if column.name.startswith(starts)]

    def column(self, name: str) -> Column | None:
        """Return what is known of a column."""
        return self._columns.get(name)


def _values_of(row: Mapping[str, Any], read: Container[str]) -> Iterator[tuple[str, Any]]:
    for name, value in row.items():
        if name not in read:
            yield from scalars_in(str(name), value, 1)
        elif isinstance(value, list):
            for turn in value:
                if isinstance(turn, Mapping):
                    for key, inner in turn.items():
                        if key not in TURN_KEYS:
                            yield from scalars_in(f"{name}[].{key}", inner, 2)
