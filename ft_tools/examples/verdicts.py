"""Recognise columns in which people or programs marked how good a row is, and what they marked.

Training on answers that somebody marked as bad teaches them, so a column that may hold such marks
and that no format reads is asked about, not dropped.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from typing import Any, Literal

from ft_tools.examples import verdict_words
from ft_tools.examples.scales import (
    BAD_PLACE,
    GOOD_PLACE,
    MAX_CHARS,
    ends_of,
    is_scale,
    meets,
    number_of,
    threshold_of,
)

MAX_DISTINCT = 64
MAX_COLUMNS = 100
MAX_PARTS = 200
"""Values looked at in one row."""
MAX_DEPTH = 3
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
IGNORED = re.compile("[\\s_\\-.!,;:'\"()\\[\\]{}\ufe0f\U0001f3fb-\U0001f3ff]+")
"""What makes no difference, the colours of skin of a thumb among it."""
NAME_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^\W\d_A-Z]+|[^\W\d_]+")
PLAIN_NAME = re.compile(
    r"[A-Za-z_][A-Za-z0-9_.\[\]-]{0,40}(?: [A-Za-z0-9_.()-]{1,16}){0,2}|[^\W\d_]{1,12}"
)
"""A name that may be repeated; in scripts without spaces a longer one could be a sentence."""

UNUSUAL_NAME = "(a column with an unusual name)"
Kind = Literal["verdict", "few_values"]


class Mark(Enum):
    """What a value says of an answer."""

    GOOD = "good"
    BAD = "bad"
    NEUTRAL = "neutral"


def _words(text: str) -> frozenset[str]:
    return frozenset(filter(None, map(_squash, text.split()))) | (
        frozenset(text.split()) & frozenset("+-")
    )


def _squash(text: str) -> str:
    """Return a spelling without case, blanks and punctuation.

    >>> _squash("Thumbs-Up!"), _squash(" Nicht_hilfreich ")
    ('thumbsup', 'nichthilfreich')
    """
    return IGNORED.sub("", unicodedata.normalize("NFKC", text).casefold())


_GOOD, _BAD = _words(verdict_words.GOOD), _words(verdict_words.BAD)
_NEUTRAL, _AMBIGUOUS = _words(verdict_words.NEUTRAL), _words(verdict_words.AMBIGUOUS)
_NAMES, _BENIGN = _words(verdict_words.NAMES), _words(verdict_words.BENIGN)
_UNSPACED = tuple(name for name in _NAMES if not name.isascii() and len(name) > 1)


def mark_of(value: Any) -> Mark | None:
    """Return what a value says by itself; None if it says nothing that is known.

    Numbers on a scale say something only beside the others of their column: see `marks_in`.

    >>> [mark_of(v) for v in ("Thumbs up", "schlecht", "👎", -1, True, "banana")]
    [<Mark.GOOD: 'good'>, <Mark.BAD: 'bad'>, <Mark.BAD: 'bad'>, <Mark.BAD: 'bad'>, \
<Mark.GOOD: 'good'>, None]
    """
    if isinstance(value, bool):
        return Mark.GOOD if value else Mark.BAD
    if isinstance(value, int | float):
        return Mark.GOOD if value == 1 else Mark.BAD if value in (0, -1) else None
    return _mark_of_text(value) if isinstance(value, str) and len(value) <= MAX_CHARS else None


@lru_cache(maxsize=4096)
def _mark_of_text(value: str) -> Mark | None:
    text = value.strip()
    number = number_of(text)
    if number is not None:
        return mark_of(number)
    word = text if text in {"+", "-"} else _squash(text)
    if word in _BAD:
        return Mark.BAD
    if word in _GOOD:
        return Mark.GOOD
    return Mark.NEUTRAL if word in _NEUTRAL else None


def judged(value: Any, good: Sequence[Any]) -> Mark | None:
    """Return what a value says, by the values or the condition that mean good, if they are given.

    >>> judged(4, [">=4"]), judged("4 stars", ["4", 5]), judged("Up!", ["up"]), judged("up", [])
    (<Mark.GOOD: 'good'>, <Mark.GOOD: 'good'>, <Mark.GOOD: 'good'>, <Mark.GOOD: 'good'>)
    >>> judged(1, [">=4"])
    <Mark.BAD: 'bad'>
    """
    if not good:
        return mark_of(value)
    return Mark.GOOD if any(_is_one_of(value, one) for one in good) else Mark.BAD


def _is_one_of(value: Any, good: Any) -> bool:
    met = meets(number_of(value), good) if isinstance(good, str) else None
    return _spelling(value) == _spelling(good) if met is None else met


def says_verdict(name: str) -> bool:
    """Tell whether a column's name speaks of how good something is, in any of some languages.

    >>> [says_verdict(n) for n in ("user_rating", "isCorrect", "Bewertung", "用户评分", "answer")]
    [True, True, True, True, False]
    """
    return not _parts_of(name).isdisjoint(_NAMES) or any(w in name for w in _UNSPACED)


def _is_benign(name: str) -> bool:
    return not _parts_of(name).isdisjoint(_BENIGN)


@lru_cache(maxsize=1024)
def _parts_of(name: str) -> frozenset[str]:
    last = name.replace("[]", "").rpartition(".")[2]
    parts = {_squash(part) for part in NAME_PARTS.findall(last[:200])}
    return frozenset(parts | {_squash(last[:200])})


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
            isinstance(v, str) and mark_of(v) is not None and _is_telling(v) for v in self.values
        )
        numeric = all(number_of(v) is not None for v in self.values)
        named = says_verdict(self.name)
        benign = _is_benign(self.name) and not named
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
            and not self.is_scale
            and all(mark_of(value) is not None for value in self.values)
        )

    @property
    def threshold(self) -> str:
        """Propose the condition that good values of a scale meet."""
        return threshold_of(self.low, self.high, whole=self.whole)

    @property
    def about(self) -> str:
        """Describe the numbers of a scale; no word of the data is repeated."""
        return f"numbers from {self.low:g} to {self.high:g}"

    def bad_rows(self) -> list[int]:
        """Return the first rows that are marked bad, else the first that are marked at all."""
        marks = marks_in(self.values)
        bad = [r for v, rows in self.first_rows.items() if marks.get(v) is Mark.BAD for r in rows]
        return sorted(bad or [row for rows in self.first_rows.values() for row in rows])[:5]

    @property
    def num_bad(self) -> int:
        """Return how many values say that something is bad, as far as that is known."""
        marks = marks_in(self.values)
        return sum(n for value, n in self.values.items() if marks.get(value) is Mark.BAD)

    @property
    def shown_name(self) -> str:
        """Return the name if it is a plain one; a name may be text that an agent must not read."""
        return self.name if PLAIN_NAME.fullmatch(self.name) else UNUSUAL_NAME


def _is_telling(value: str) -> bool:
    return _squash(value) not in _AMBIGUOUS and number_of(value) is None


def marks_in(values: Mapping[Any, int]) -> dict[Any, Mark]:
    """Return what each value of a column says; numbers by where they stand on the column's scale.

    Of a scale from 1 to 5 the upper two are good and the lower two are bad; of others what is in
    the upper and the lower two fifths.

    >>> marks_in({1: 1, 3: 1, 5: 1, 4: 1, 2: 1})[4], marks_in({"7": 2, "2": 1})["2"]
    (<Mark.GOOD: 'good'>, <Mark.BAD: 'bad'>)
    """
    numbers = {value: number for value in values if (number := number_of(value)) is not None}
    made = {v: mark for v in values if v not in numbers and (mark := mark_of(v)) is not None}
    if not numbers:
        return made
    low, high = ends_of(min(numbers.values()), max(numbers.values()))
    for value, number in numbers.items():
        place = (number - low) / (high - low) if high > low else 1.0
        is_good, is_bad = place > GOOD_PLACE, place < BAD_PLACE
        made[value] = Mark.GOOD if is_good else Mark.BAD if is_bad else Mark.NEUTRAL
    return made


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
                column = self._columns[name] = Column(name)
            column.add(value, number)
            if says_verdict(name) and (said := number_of(value) or mark_of(value)) is not None:
                seen.append(said)
        if len(seen) > 1:
            self.num_judged_twice += 1
            self.num_agreed += len(set(seen)) == 1

    def asked(self, decided: Container[str] = ()) -> list[Column]:
        """Return the columns that need a decision, those with the most bad marks first."""
        found = [c for c in self._columns.values() if c.name not in decided and c.kind]
        return sorted(found, key=lambda c: (c.kind != "verdict", -c.num_bad, c.name))

    def column(self, name: str) -> Column | None:
        """Return what is known of a column."""
        return self._columns.get(name)


def _values_of(row: Mapping[str, Any], read: Container[str]) -> Iterator[tuple[str, Any]]:
    for name, value in row.items():
        if name not in read:
            yield from _inside(str(name), value, 1)
        elif isinstance(value, list):
            for turn in value:
                if isinstance(turn, Mapping):
                    for key in turn.keys() - TURN_KEYS:
                        yield from _inside(f"{name}[].{key}", turn[key], 2)


def _inside(name: str, value: Any, depth: int) -> Iterator[tuple[str, Any]]:
    """Yield the scalars of a value with their paths."""
    if isinstance(value, str | bool | int | float):
        if value != "" and value == value:
            yield name, value
    elif depth > MAX_DEPTH:
        return
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _inside(f"{name}.{key}", inner, depth + 1)
    elif isinstance(value, list):
        for inner in value[:MAX_PARTS]:
            yield from _inside(f"{name}[]", inner, depth + 1)


def values_at(row: Any, path: str) -> list[Any]:
    """Return the values of a row at a column's path.

    >>> values_at({"feedback": {"score": 1}, "marks": [0, 1]}, "marks[]")
    [0, 1]
    """
    if not isinstance(row, Mapping):
        return []
    if path in row:
        return [v for _, v in _inside(path, row[path], 1)]
    head = path.replace("[]", "").partition(".")[0]
    return [v for name, v in _inside(head, row.get(head), 1) if name == path]


def is_wanted(row: Any, column: str, use: "Sequence[Any] | str") -> bool:
    """Tell whether a row stays, by what was decided about a column.

    >>> is_wanted({"rating": "Up"}, "rating", "filter"), is_wanted({"stars": 4.0}, "stars", [">4"])
    (True, False)
    """
    if use == "ignore":
        return True
    values = values_at(row, column)
    good = () if isinstance(use, str) else use
    marks = {judged(value, good) for value in values}
    if use == "drop_bad":
        return Mark.BAD not in marks
    return marks == {Mark.GOOD} if values else "" in good


def _spelling(value: Any) -> str | float:
    number = number_of(value)
    return number if number is not None else _squash(str(value)) or str(value)
