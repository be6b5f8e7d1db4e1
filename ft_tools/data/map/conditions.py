"""The conditions of mappings and of `where`: column -> values, bounds or patterns. One language.

A value is compared as text, numbers as numbers; `>=4`, `<=2`, `>0.5` and `<3` are bounds on
numbers, `>=2026-04-01` on dates, "" stands for an empty cell, `!=bad` for any other value than
`bad`, `!=` for any cell that is filled, and {"pattern": "^bad"} for all values in which that
regular expression finds something.
"""

import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from functools import lru_cache
from operator import ge, gt, le, lt
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from ft_tools.contract import Request
from ft_tools.data.map.times import day_of
from ft_tools.errors import BadInput, brief
from ft_tools.formats.column_counts import (
    MOST_LISTED,
    cell_at,
    items_of,
    leaves_of,
    number_of,
    shown,
    text_of,
    turns_in,
)

BOUND = re.compile(r"\s*(>=|<=|>|<)\s*(\S{1,30})\s*")
COMPARE: dict[str, Callable[[Any, Any], bool]] = {">=": ge, "<=": le, ">": gt, "<": lt}
OTHER_THAN = "!="
PATTERN_SECONDS = 0.5
"""In which a caller's pattern has to read one value or answer."""
Row = Mapping[str, Any]
Condition = Mapping[str, Sequence[Any]]
"""Column -> what is wanted of its values."""


def as_pattern(text: str) -> str:
    """Return a regular expression that can be compiled.

    Raises:
        ValueError: It cannot.
    """
    import regex

    try:
        compiled(text)
    except regex.error as error:
        raise ValueError(f"is no regular expression: {error}") from error
    return text


Regex = Annotated[str, AfterValidator(as_pattern)]


class Pattern(Request):
    """Values in which a regular expression finds something."""

    pattern: Regex = Field(
        min_length=1, max_length=500, description="Regular expression; (?i) ignores case."
    )

    def __str__(self) -> str:
        """Return it as a refusal names it."""
        return f"pattern {self.pattern}"

    def finds(self, text: str) -> bool:
        """Return whether it finds something in a text.

        Raises:
            BadInput: It needs too long.
        """
        return in_time("search", self.pattern, "one value", text) is not None


@lru_cache(maxsize=32)
def compiled(pattern: str) -> Any:
    """Return a caller's pattern; it runs with a time limit, since any pattern may be slow."""
    # Most requests have no pattern.
    import regex

    return regex.compile(pattern, regex.MULTILINE)


def in_time(method: str, pattern: str, where: str, *given: Any) -> Any:
    """Return what a method of a compiled pattern, search or subn, finds within its time.

    Raises:
        BadInput: It needs too long.
    """
    try:
        return getattr(compiled(pattern), method)(*given, timeout=PATTERN_SECONDS)
    except TimeoutError:
        raise BadInput(
            f"the pattern {brief(repr(pattern))} needs more than {PATTERN_SECONDS:g} s for "
            f"{where}; write a simpler one"
        ) from None


def listed(value: Any) -> Any:
    """Return a single value as a list of one."""
    return [value] if isinstance(value, str | bool | int | float) else value


def _listed_values(value: Any) -> Any:
    values = [value] if isinstance(value, dict | Pattern) else listed(value)
    return [*map(_with_pattern, values)] if isinstance(values, list) else values


def _with_pattern(value: Any) -> Any:
    """Return a value, as a pattern if it is an object: what is wrong in it is said once."""
    if not isinstance(value, dict):
        return value
    if value.keys() != {"pattern"} or not isinstance(value["pattern"], str):
        raise ValueError('an object among values must be {"pattern": "REGULAR EXPRESSION"}')
    return Pattern(pattern=as_pattern(value["pattern"]))


def _each_listed(value: Any) -> Any:
    return {k: _listed_values(v) for k, v in value.items()} if isinstance(value, dict) else value


def _alternatives(value: Any) -> Any:
    return ([value] if value else []) if isinstance(value, dict) else value


Values = Annotated[list[str | bool | int | float | Pattern], BeforeValidator(_listed_values)]
ByColumn = Annotated[dict[str, Values], BeforeValidator(_each_listed)]
Choices = Annotated[list[ByColumn], BeforeValidator(_alternatives)]
"""Alternatives, of which each needs all its columns to have its values."""


@lru_cache(maxsize=512)
def _bound(text: str) -> "tuple[Callable[[Any, Any], bool], float | date] | None":
    if (found := BOUND.fullmatch(text)) is None:
        return None
    number = number_of(found[2])
    limit = day_of(found[2]) if number is None else number
    return None if limit is None else (COMPARE[found[1]], limit)


def counted(counts: "Counter[str]") -> str:
    """Return the commonest values with their counts, escaped and bounded."""
    most = counts.most_common(MOST_LISTED)
    listed = [f"{shown(value) if value else 'nothing'} {count}" for value, count in most]
    more = len(counts) - len(most)
    return ", ".join(listed) + (f" and {more} more" if more > 0 else "")


def is_bound(wanted: Any, on: type = float) -> bool:
    """Return whether a wanted value is a bound on numbers, or on dates."""
    bound = _bound(wanted) if isinstance(wanted, str) else None
    return bound is not None and isinstance(bound[1], on)


def is_one_of(value: Any, wanted: Sequence[Any]) -> bool:
    """Return whether a value is one of some values, or within one of their bounds.

    >>> is_one_of("4", [4]), is_one_of(4, [">=4"]), is_one_of("OK", ["ok"]), is_one_of("3,5", [3.5])
    (True, True, False, True)
    >>> is_one_of(True, ["true"]), is_one_of(" ok ", ["ok"]), is_one_of("four", [">=4"])
    (True, True, False)
    >>> is_one_of("1.4.2026", [">=2026-04-01"]), is_one_of("2026-04-01T09:00", ["<=1.4.2026"])
    (True, True)
    >>> is_one_of("a", ["!="]), is_one_of(" ", ["!="]), is_one_of("bad", ["!=bad"])
    (True, False, False)
    >>> is_one_of("Private: x", [Pattern(pattern="(?i)^private")])
    True
    """
    text = text_of(value)
    number = number_of(value)
    for one in wanted:
        bound = _bound(one) if isinstance(one, str) else None
        if isinstance(one, Pattern):
            if one.finds(text):
                return True
        elif isinstance(one, str) and one.startswith(OTHER_THAN):
            if not is_one_of(value, [one.removeprefix(OTHER_THAN)]):
                return True
        elif bound is not None:
            compare, limit = bound
            held = number if isinstance(limit, float) else day_of(text)
            if held is not None and compare(held, limit):
                return True
        elif text == text_of(one) or (number is not None and number == number_of(one)):
            return True
    return False


def values_at(row: Row, name: str) -> list[Any]:
    """Return the single values of a column that are not blank; of a list, of each item.

    >>> values_at({"feedback": {"score": 1}, "marks": [0, 1]}, "marks[]")
    [0, 1]
    >>> values_at({"feedback": {"score": 1}}, "feedback.score"), values_at({"a": " "}, "a")
    ([1], [])
    >>> values_at({"reviews": {"ada": {"flag": "bad"}}}, "reviews[].flag")
    ['bad']
    """
    if "[]" not in name:
        return [value for _, value in leaves_of(name, cell_at(row, name), most=sys.maxsize)]
    if name in row:
        return [value for _, value in leaves_of(name, row[name], most=sys.maxsize)]
    prefix, _, rest = name.partition("[]")
    cell = cell_at(row, prefix)
    if isinstance(cell, Mapping) and items_of(cell) is None:
        # Named as a list: so is an object of too few objects to tell.
        items = turns_in(cell) or []
        return [value for item in items for value in values_at({"": item}, rest)]
    head = prefix.partition(".")[0]
    every = leaves_of(head, row.get(head), most=sys.maxsize)
    return [value for leaf, value in every if leaf == name]


def holds(row: Row, name: str, wanted: Sequence[Any]) -> bool:
    """Return whether a column has one of some values; a blank one is "".

    Of a list one item is enough, but all must be others than what `!=` names.

    >>> holds({"tags": ["a", "b"]}, "tags[]", ["b"]), holds({"tags": ["a", "b"]}, "tags[]", ["!=b"])
    (True, False)
    >>> holds({}, "tags[]", [""]), holds({}, "tags[]", ["!=b"])
    (True, True)
    """
    values = values_at(row, name) or [""]
    others = [one for one in wanted if isinstance(one, str) and one.startswith(OTHER_THAN)]
    named = [one for one in wanted if one not in others]
    return any(is_one_of(value, named) for value in values) or any(
        all(is_one_of(value, [one]) for value in values) for one in others
    )


def fits(row: Row, choice: Condition) -> bool:
    """Return whether each column has one of the values that a choice wants."""
    return all(holds(row, name, wanted) for name, wanted in choice.items())


def keeps(row: Row, choices: Sequence[Condition]) -> bool:
    """Return whether a row fits any of some choices; it does if there are none."""
    return not choices or any(fits(row, choice) for choice in choices)


def deciding(row: Row, choices: Sequence[Condition], drop: Condition) -> tuple[str, str]:
    """Return the column by which a row is left out, and its value there, if it is no number.

    Of several choices it is a column of the first. Numbers outside of a bound are many.

    >>> deciding({"state": "open"}, [{"state": ["done"]}], {})
    ('state', 'open')
    >>> deciding({"a": 2}, [{"a": [">=4"]}], {}), deciding({"a": "2?"}, [{"a": [">=4"]}], {})
    (('a', 'outside the bound'), ('a', '2?'))
    >>> deciding({"tag": ["x", "spam"]}, [], {"tag[]": ["spam"]})
    ('tag[]', 'x, spam')
    """
    unmet = [(name, wanted) for one in choices[:1] for name, wanted in one.items()
             if not holds(row, name, wanted)]  # fmt: skip
    met = [(name, unwanted) for name, unwanted in drop.items() if holds(row, name, unwanted)]
    name, values = (unmet if not keeps(row, choices) else met)[0]
    found = values_at(row, name)
    if found and all(number_of(one) is not None for one in found) and any(map(is_bound, values)):
        return name, "outside the bound" if unmet else "within the bound"
    return name, ", ".join(map(text_of, found))


def drops(row: Row, drop: Condition) -> bool:
    """Return whether any column of `drop` has one of its values."""
    return any(holds(row, name, unwanted) for name, unwanted in drop.items())
