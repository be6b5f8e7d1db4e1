"""Recognise columns in which people or programs marked how good a row is, and what they marked.

Training on answers that somebody marked as bad teaches them, so a column that may hold such marks
and that no format reads is asked about, not dropped.
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from functools import lru_cache
from typing import Any

from ft_tools.formats import verdict_words
from ft_tools.formats.scales import (
    BAD_PLACE,
    GOOD_PLACE,
    MAX_CHARS,
    ends_of,
    is_condition,
    meets,
    number_of,
)

MAX_PARTS = 200
"""Values looked at in one row."""
MAX_DEPTH = 3
IGNORED = re.compile("[\\s_\\-.!,;:'\"()\\[\\]{}\ufe0f\U0001f3fb-\U0001f3ff]+")
"""What makes no difference, the colours of skin of a thumb among it."""
NAME_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^\W\d_A-Z]+|[^\W\d_]+")


class Mark(Enum):
    """What a value says of an answer."""

    GOOD = "good"
    BAD = "bad"
    NEUTRAL = "neutral"


JUDGED = frozenset({Mark.GOOD, Mark.BAD})


def _words(text: str) -> frozenset[str]:
    return frozenset(filter(None, map(_squash, text.split()))) | (
        frozenset(text.split()) & frozenset("+-")
    )


def _squash(text: str) -> str:
    """Return a spelling without case, blanks and punctuation, and one i for Turkish's two.

    >>> _squash("Thumbs-Up!"), _squash(" Nicht_hilfreich "), _squash("HAYIR")
    ('thumbsup', 'nichthilfreich', 'hayir')
    """
    text = unicodedata.normalize("NFKC", text).casefold()
    # The small letter of I is i or, in Turkish, dotless; that of its dotted capital has two signs.
    return IGNORED.sub("", text.replace("\u0131", "i").replace("i\u0307", "i"))


_GOOD, _BAD = _words(verdict_words.GOOD), _words(verdict_words.BAD)
_NEUTRAL, _AMBIGUOUS = _words(verdict_words.NEUTRAL), _words(verdict_words.AMBIGUOUS)
_REVERSED = _words(verdict_words.REVERSED)
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
    text = value.strip().rstrip("! ")
    number = number_of(text)
    if number is not None:
        return mark_of(number)
    word = text if text in {"+", "-"} else _squash(text)
    if word in _BAD:
        return Mark.BAD
    if word in _GOOD:
        return Mark.GOOD
    return Mark.NEUTRAL if word in _NEUTRAL else None


ALL_OTHERS = "*"
"""Among the values that mean bad: everything that is not good."""


def judged(value: Any, good: Sequence[Any], bad: Sequence[Any] = ()) -> Mark | None:
    """Return what a value says, by the values or conditions that mean good or bad, if any do.

    A number that meets neither is on the side that was not declared. A word that is not declared
    says what it says by itself, turned round if the declared ones are; what nobody knows is None.

    >>> judged(4, [">=4"]), judged("4 stars", ["4", 5]), judged("Up!", ["up"]), judged("up", [])
    (<Mark.GOOD: 'good'>, <Mark.GOOD: 'good'>, <Mark.GOOD: 'good'>, <Mark.GOOD: 'good'>)
    >>> judged(1, [">=4"]), judged("no", ["ok"]), judged("yes", ["no"]), judged("?", ["ok"], ["*"])
    (<Mark.BAD: 'bad'>, <Mark.BAD: 'bad'>, <Mark.BAD: 'bad'>, <Mark.BAD: 'bad'>)
    >>> judged("?", ["ok"]), judged(3, [">=4"], ["<=2"])
    (None, None)
    """
    if not good and not bad:
        return mark_of(value)
    if any(_is_one_of(value, one) for one in good):
        return Mark.GOOD
    if any(one == ALL_OTHERS or _is_one_of(value, one) for one in bad):
        return Mark.BAD
    sides = [_has_number(good), _has_number(bad)]
    if number_of(value) is not None and any(sides):
        return None if all(sides) else Mark.BAD if sides[0] else Mark.GOOD
    return _by_itself(value, good, bad)


def _has_number(declared: Sequence[Any]) -> bool:
    """Tell whether numbers are among the declared values, or a condition for them."""
    return any(number_of(one) is not None or is_condition(one) for one in declared)


def _by_itself(value: Any, good: Sequence[Any], bad: Sequence[Any]) -> Mark | None:
    """Return what a value says that is not declared, beside those that are."""
    is_turned = any(mark_of(one) is Mark.BAD for one in good)
    is_turned = is_turned or any(mark_of(one) is Mark.GOOD for one in bad)
    mark = mark_of(value)
    if mark is Mark.GOOD:
        # Good is what was declared as good, if anything was.
        return Mark.BAD if is_turned else None if good else mark
    if mark is Mark.BAD:
        return Mark.GOOD if is_turned and not good else mark
    return mark


def _is_one_of(value: Any, good: Any) -> bool:
    met = meets(number_of(value), good) if isinstance(good, str) else None
    return _spelling(value) == _spelling(good) if met is None else met


def says_verdict(name: str) -> bool:
    """Tell whether a column's name speaks of how good something is, in any of some languages.

    >>> [says_verdict(n) for n in ("user_rating", "isCorrect", "Bewertung", "用户评分", "answer")]
    [True, True, True, True, False]
    """
    return not parts_of(name).isdisjoint(_NAMES) or any(w in name for w in _UNSPACED)


def is_reversed(name: str) -> bool:
    """Tell whether a column's name says how bad something is, so that yes and 1 mean bad.

    >>> is_reversed("is_toxic"), is_reversed("helpful")
    (True, False)
    """
    return not parts_of(name).isdisjoint(_REVERSED)


def is_benign(name: str) -> bool:
    """Tell whether a name says where a row comes from or what it is about."""
    return not parts_of(name).isdisjoint(_BENIGN)


@lru_cache(maxsize=1024)
def parts_of(name: str) -> frozenset[str]:
    """Return the words of a name, without the objects around it."""
    last = name.replace("[]", "").rpartition(".")[2]
    parts = {_squash(part) for part in NAME_PARTS.findall(last[:200])}
    return frozenset(parts | {_squash(last[:200])})


def is_telling(value: str) -> bool:
    """Tell whether a word says how good something is, and does not only answer a question."""
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


def scalars_in(name: str, value: Any, depth: int) -> Iterator[tuple[str, Any]]:
    """Yield the scalars of a value with their paths."""
    if isinstance(value, str | bool | int | float):
        if value != "" and value == value:
            yield name, value
    elif depth > MAX_DEPTH:
        return
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from scalars_in(f"{name}.{key}", inner, depth + 1)
    elif isinstance(value, list):
        for inner in value[:MAX_PARTS]:
            yield from scalars_in(f"{name}[]", inner, depth + 1)


def values_at(row: Any, path: str) -> list[Any]:
    """Return the values of a row at a column's path.

    >>> values_at({"feedback": {"score": 1}, "marks": [0, 1]}, "marks[]")
    [0, 1]
    """
    if not isinstance(row, Mapping):
        return []
    if path in row:
        return [v for _, v in scalars_in(path, row[path], 1)]
    head = path.replace("[]", "").partition(".")[0]
    return [v for name, v in scalars_in(head, row.get(head), 1) if name == path]


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
