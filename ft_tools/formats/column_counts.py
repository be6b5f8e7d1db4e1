"""Count what each column of a file holds: types, different values, lengths, ranges.

Columns inside objects have dotted names (`ticket.answer`), those of the items of a list brackets
(`messages[].rating`). What a column means is decided by whoever reads the counts, never here.
"""

import re
from collections import Counter
from collections.abc import Collection, Container, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ft_tools.formats.quoting import quote
from ft_tools.formats.turns import SPEAKER, as_turns

MOST_LISTED = 12
"""Different values up to which all are kept with their counts."""
MOST_HASHED = 10_000
"""Different values that are told apart; more are `many`."""
MOST_COLUMNS = 200
MAX_DEPTH = 20
DEEPER = "(more inside)"
"""Stands for what is nested deeper than that."""
MAX_ITEMS = 200
"""Single values of one list that are counted; its objects are all looked into."""
SHORT_CHARS, LONG_CHARS, MOST_SHORT, MOST_OUTSTANDING = 20, 60, 500, 8
"""Values that stand out beside longer ones or numbers: such as ok, delete, n.a. Judgement."""
NAME_CHARS, VALUE_CHARS = 60, 40
LIKE_A_LIST = 5
"""Objects in an object, all with the same keys, from which on it is read as a list. Judgement."""
PLAIN = re.compile(r"[^\W_](?:[]\w.+/&%@[-]| (?! )){0,59}")
"""A value or name that is shown without quotation marks."""
DATE = re.compile(r"\d{4}-\d{1,2}-\d{1,2}(?!\d)|\d{1,2}[./]\d{1,2}[./](?:\d{4}|\d{2})(?!\d)")
NUMBER = re.compile(r"[+-]?\d{1,15}(?:[.,]\d{1,10})?")
GROUPED = re.compile(r"[+-]?\d{1,3}(?:(?:\.\d{3}){1,4},\d{1,10}|(?:,\d{3}){1,4}\.\d{1,10})")
"""A number with its thousands apart; without a decimal part it could be a decimal itself."""
TURN_KEYS = frozenset(
    {"role", "from", "content", "value", "text", "parts", "name", "tool_calls", "tool_call_id"}
    | {"function_call", "weight", "train", "training", "reasoning_content", "thinking", "reasoning"}
    | {"type", "id"}
)
"""What is read of a turn in one of the known formats."""


def cell_at(row: Mapping[str, Any], name: str, other: Any = None) -> Any:
    """Return the value of a column, or `other` if the row has none of that name.

    >>> cell_at({"talk": {"customer": "Hi", "a.b": 1}}, "talk.customer")
    'Hi'
    >>> cell_at({"talk": {"customer": "Hi", "a.b": 1}}, "talk.a.b"), cell_at({"a": "b"}, "a.b")
    (1, None)
    """
    if name in row:
        return row[name]
    at = name.find(".")
    while at >= 0:
        inner = row.get(name[:at])
        if isinstance(inner, Mapping):
            return cell_at(inner, name[at + 1 :], other)
        at = name.find(".", at + 1)
    return other


def items_of(value: Any) -> "list[Any] | None":
    """Return the items of a list, or of an object that is one; None for anything else.

    An object is one if its objects have their own key as an id, or are many and alike.

    >>> items_of({str(at): {"text": "a"} for at in range(5)})[:1], items_of({"a": {}, "b": {}})
    ([{'text': 'a'}], None)
    >>> items_of({"a1": {"id": "a1", "text": "x"}})
    [{'id': 'a1', 'text': 'x'}]
    """
    if isinstance(value, list):
        return value
    inner = _objects_in(value)
    if not inner:
        return None
    keys = inner[0].keys()
    if any(all(one.get(key) == at for at, one in value.items()) for key in keys):
        return inner
    is_alike = len(inner) >= LIKE_A_LIST and keys and all(one.keys() == keys for one in inner)
    return inner if is_alike else None


def turns_in(value: Any) -> "list[Any] | None":
    """Return the turns of a column that is named as one of turns; None if it holds one value.

    >>> turns_in({"a": {"text": "x"}}), turns_in("7")
    ([{'text': 'x'}], None)
    """
    value = as_turns(value)
    items = items_of(value)
    return items if items is not None else _objects_in(value) or None


def _objects_in(value: Any) -> "list[Any]":
    """Return the values of an object if all are objects."""
    inner = list(value.values()) if isinstance(value, Mapping) else []
    return inner if all(isinstance(one, Mapping) for one in inner) else []


def leaves_of(
    name: str, value: Any, depth: int = 1, most: int = MAX_ITEMS
) -> Iterator[tuple[str, Any]]:
    """Yield the single values of a column with their dotted names; what is blank is left out.

    >>> list(leaves_of("talk", {"marks": [1, 2], "by": "x", "note": " "}))
    [('talk.marks[]', 1), ('talk.marks[]', 2), ('talk.by', 'x')]
    """
    if isinstance(value, str):
        if value and not value.isspace():
            yield name, value
    elif isinstance(value, bool | int | float):
        if value == value:
            yield name, value
    elif value and depth > MAX_DEPTH:
        yield name, DEEPER
    elif value:
        for inner, part in _parts_of(name, value, most):
            yield from leaves_of(inner, part, depth + 1, most)


def _parts_of(name: str, value: Any, most: int) -> Iterator[tuple[str, Any]]:
    """Yield what an object or list holds; of a list with more than `most` items all objects."""
    items = items_of(value)
    if items is not None:
        inner = f"{name}[]"
        for at, item in enumerate(items):
            if at < most or isinstance(item, Mapping | list):
                yield inner, item
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield f"{name}.{key}", part


def shown(text: str, most: int = VALUE_CHARS) -> str:
    r"""Return a name or value of a file, bounded; in quotation marks and escaped if not plain.

    >>> shown("ok"), shown("say: \n hi"), shown("a" * 50, 5)
    ('ok', '"say: \\n hi"', '"aaaaa"...')
    """
    if PLAIN.fullmatch(text) and len(text) <= most:
        return text
    quoted, is_whole = quote(text, most)
    return quoted if is_whole else f"{quoted}..."


def text_of(value: Any) -> str:
    """Return a single value as text: true and false as JSON spells them, whole numbers without .0.

    >>> text_of(" ok "), text_of(True), text_of(4.0), text_of(0.5), text_of(None)
    ('ok', 'true', '4', '0.5', '')
    """
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None or value != value:
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def number_of(value: Any) -> float | None:
    """Return the number that a value is or spells, with a decimal point or comma; else None.

    >>> number_of("3,5"), number_of(4), number_of("4 stars"), number_of(True)
    (3.5, 4.0, None, None)
    >>> number_of("1.100,50"), number_of("1,234,567.5"), number_of("1.234")
    (1100.5, 1234567.5, 1.234)
    """
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return float(value) if value == value and abs(value) < 1e15 else None
    if not isinstance(value, str):
        return None
    text = value.strip()
    if NUMBER.fullmatch(text):
        return float(text.replace(",", "."))
    if GROUPED.fullmatch(text):
        thousands = "." if text.rfind(",") > text.rfind(".") else ","
        return float(text.replace(thousands, "").replace(",", "."))
    return None


@dataclass(slots=True)
class ColumnCounts:
    """What one column holds."""

    name: str
    num_rows: int = 0
    """Rows with a value."""
    num_values: int = 0
    types: Counter[str] = field(default_factory=Counter)
    values: Counter[str] = field(default_factory=Counter)
    """The values as text; complete where `is_listed`."""
    shortest: int = 1 << 62
    longest: int = 0
    low: float = float("inf")
    high: float = float("-inf")
    short: Counter[str] = field(default_factory=Counter)
    """Short values that are no numbers; of the first `MOST_SHORT` different ones."""
    repeats: bool = False
    """Whether any value was there twice."""
    _hashes: set[int] = field(default_factory=set)
    _last_row: int = -1

    def add(self, value: Any, row: int) -> None:
        """Count a single value that is not blank."""
        if row != self._last_row:
            self._last_row = row
            self.num_rows += 1
        self.num_values += 1
        text = text_of(value)
        self.shortest, self.longest = min(self.shortest, len(text)), max(self.longest, len(text))
        kind = _kind_of(value, text)
        self.types[kind] += 1
        if kind == "number" and (number := number_of(value)) is not None:
            self.low, self.high = min(self.low, number), max(self.high, number)
        elif len(text) <= SHORT_CHARS and (text in self.short or len(self.short) < MOST_SHORT):
            self.short[text] += 1
        if text in self.values:
            self.repeats = True
            self.values[text] += 1
        elif len(self.values) <= MOST_LISTED:
            self.values[text] = 1
            self._hashes.add(hash(text))
        else:
            key = hash(text)
            if key in self._hashes:
                self.repeats = True
            elif len(self._hashes) < MOST_HASHED:
                self._hashes.add(key)

    @property
    def num_different(self) -> int:
        """Return how many different values there are; `MOST_HASHED` stands for more."""
        return len(self._hashes)

    @property
    def is_listed(self) -> bool:
        """Return whether there are so few values that all of them are in `values`."""
        return len(self.values) <= MOST_LISTED

    @property
    def has_all_different(self) -> bool:
        """Return whether no value is there twice, as in a column of ids or of free text."""
        return not self.repeats and not self.is_listed

    @property
    def type(self) -> str:
        """Return the type of its values; `mixed` if they are of several."""
        kinds = [kind for kind, _ in self.types.most_common()]
        return kinds[0] if len(kinds) == 1 else "mixed" if kinds else "empty"

    @property
    def description(self) -> str:
        """Return the values with their counts where there are few, else a range; escaped."""
        if self.is_listed:
            return ", ".join(f"{shown(v)} {n}" for v, n in self.values.most_common())
        many = "" if self.num_different < MOST_HASHED else "at least "
        return f"{many}{self.num_different:,} different values, {self.range}"

    @property
    def range(self) -> str:
        """Return between what the values are, and those that stand out: no number, or short.

        >>> counts = ColumnCounts("note")
        >>> for row, value in enumerate(["1,0", "2", "15,0", "k. A.", "k. A."]):
        ...     counts.add(value, row)
        >>> counts.range
        '1 to 15; k. A. 2'
        """
        num_others = self.num_values - self.types["number"]
        is_number = self.types["number"] > num_others
        ends = f"{self.low:g} to {self.high:g}"
        if not is_number:
            sizes = dict.fromkeys([self.shortest, self.longest])
            ends = f"{' to '.join(f'{size:,}' for size in sizes)} characters"
        if not is_number and self.longest < LONG_CHARS:
            return ends
        most = self.short.most_common(MOST_OUTSTANDING)
        listed = [f"{shown(value)} {count}" for value, count in most]
        more = (num_others if is_number else self.short.total()) - sum(n for _, n in most)
        listed += [f"{more} more {'texts' if is_number else 'short ones'}"] if more else []
        return f"{ends}; {', '.join(listed)}" if listed else ends

    @property
    def described(self) -> str:
        """Return the column with what it holds, for a person or agent who decides about it."""
        return f"{shown(self.name, NAME_CHARS)} ({self.description})"


def _kind_of(value: Any, text: str) -> str:
    if isinstance(value, bool):
        return "true/false"
    if isinstance(value, int | float):
        return "number"
    if len(text) <= 40:
        if number_of(text) is not None:
            return "number"
        if DATE.match(text):
            return "date"
    return "text"


class UnreadColumns:
    """The columns of a file that neither its format nor a mapping reads, nor is told to ignore."""

    def __init__(self, ignored: Collection[str] = ()) -> None:
        self._ignored = frozenset(ignored)
        self._ignores_all = "*" in self._ignored
        self.columns: dict[str, ColumnCounts] = {}
        self._is_ignored: dict[str, bool] = {}
        self._beyond = ColumnCounts(f"columns beyond the first {MOST_COLUMNS}")
        """Names of columns for which there is no place."""

    def add(self, row: Any, read: Container[str], number: int) -> None:
        """Count the values of a row that nothing reads; names inside of objects are dotted."""
        if self._ignores_all or not isinstance(row, Mapping):
            return
        for name, value in row.items():
            if name not in self._ignored:
                for leaf, inner in _unread_leaves(str(name), value, read):
                    if leaf not in read and (column := self._column(leaf, read)) is not None:
                        column.add(leaf if column is self._beyond else inner, number)

    def _column(self, name: str, read: Container[str]) -> ColumnCounts | None:
        """Return the counts of a column; None if it is ignored, or an object around it is read."""
        if (column := self.columns.get(name)) is not None:
            return column
        is_ignored = self._is_ignored.get(name)
        if is_ignored is None:
            is_ignored = is_named(name, self._ignored) or _is_within(name, read)
            if len(self._is_ignored) < 10 * MOST_COLUMNS:
                self._is_ignored[name] = is_ignored
        if is_ignored:
            return None
        if len(self.columns) >= MOST_COLUMNS:
            return self._beyond
        return self.columns.setdefault(name, ColumnCounts(name))

    def undecided(self) -> list[ColumnCounts]:
        """Return the columns that have to be used or ignored by name.

        Columns of which each value is different, such as ids, need no decision.
        """
        beyond = [self._beyond] if self._beyond.num_rows else []
        asked = [one for one in self.columns.values() if not one.has_all_different]
        return asked + beyond

    def listed(self) -> list[str]:
        """Return the names of the columns that are left out without being asked about."""
        return [
            shown(one.name, NAME_CHARS) for one in self.columns.values() if one.has_all_different
        ]


def is_named(name: str, names: Collection[str]) -> bool:
    """Return whether a column, or an object or list that it is in, is among some names.

    >>> is_named("meta.by", ["meta"]), is_named("tags[]", ["tags"]), is_named("metal", ["meta"])
    (True, True, False)
    """
    if name in names:
        return True
    ends = [at for at, char in enumerate(name) if char in ".["]
    return any(name[:at] in names for at in ends)


def _is_within(name: str, read: Container[str]) -> bool:
    """Return whether an object that a column is in is read as a whole."""
    dots = [at for at, char in enumerate(name) if char == "." and name[at - 1] != "]"]
    lists = [at for at, char in enumerate(name) if char == "[" and "." in name[:at]]
    # The items of a list that is read as turns are looked into.
    lists = [at for at in lists if f"{name[:at]}[]" not in read]
    return any(name[:at] in read for at in dots + lists)


def _unread_leaves(name: str, value: Any, read: Container[str]) -> Iterator[tuple[str, Any]]:
    """Yield the single values of a column; of turns that are read those that no format knows."""
    if name in read and f"{name}[]" not in read:
        turns = as_turns(value)
        for turn in turns if isinstance(turns, list) else ():
            if isinstance(turn, Mapping) and any(name in turn for name in SPEAKER):
                for key in (key for key in turn if key not in TURN_KEYS):
                    yield from leaves_of(f"{name}[].{key}", turn[key], 3)
        return
    if f"{name}[]" in read:
        value = turns_in(value) or value
    for leaf, inner in leaves_of(name, value):
        # Turns may be JSON in a string.
        turns = as_turns(inner) if f"{leaf}[]" in read else inner
        yield from leaves_of(leaf, turns) if isinstance(turns, list) else [(leaf, inner)]
