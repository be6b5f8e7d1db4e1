"""Numbers that mark answers: what is a scale, and from which number on an answer is good.

A number says nothing by itself: 1 is the worst of five stars and the best of two marks. So a scale
needs a threshold, which a person declares once as a condition: `>=4`, or `<=2` where low is good.
"""

import math
import re
from collections.abc import Iterable
from typing import Any

MAX_CHARS = 40
"""Longer texts are comments, not marks."""
NUMBER = re.compile(r"[+-]?\d{1,9}(?:[.,]\d{1,6})?\s?%?")
OF_FIVE = re.compile(r"([0-9.]{1,5})\s*(?:/|of|von|sur|de|out of)\s*([0-9]{1,3})(?:\s*stars?)?")
STARS = re.compile(r"([0-9.]{1,4})\s*(?:stars?|sterne?|étoiles?|estrellas?|stelle|points?|pts?)")
CONDITION = re.compile(r"\s*(>=|<=|>|<)\s*(\S.{0,20})")
YES_OR_NO = ({0.0, 1.0}, {-1.0, 1.0})
"""Numbers that are no scale: each says by itself whether it is good or bad."""
GOOD_PLACE = 0.6
"""Share of a scale above which a value is probably good: the upper two of five stars. Ours."""
BAD_PLACE = 0.4
WHOLE_UP_TO = 10
"""Length of a scale of whole numbers up to which the next whole number is proposed. Ours."""
SCALES = ((1.0, 5.0), (0.0, 1.0), (-1.0, 1.0), (0.0, 5.0), (1.0, 10.0), (0.0, 10.0), (0.0, 100.0))
"""Usual scales; the first that holds all numbers of a column is taken for its scale. Ours."""


def number_of(value: Any) -> float | None:
    """Return the number that a value is or spells: `4`, `4/5`, `4 stars`, `80%` or `1!`."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return float(value) if value == value and abs(value) < 1e9 else None
    if not isinstance(value, str) or len(value) > MAX_CHARS:
        return None
    text = value.strip().rstrip("! ").casefold()
    found = OF_FIVE.fullmatch(text) or STARS.fullmatch(text)
    text = found.group(1) if found else text
    if not NUMBER.fullmatch(text):
        return None
    return float(text.rstrip("% ").replace(",", "."))


def is_scale(numbers: Iterable[float]) -> bool:
    """Tell whether the numbers of a column need a threshold.

    >>> is_scale({1, 0}), is_scale({1, -1}), is_scale({-1, 0, 1}), is_scale({1, 2})
    (False, False, True, True)
    """
    found = set(numbers)
    return bool(found) and not any(found <= both for both in YES_OR_NO)


def ends_of(low: float, high: float) -> tuple[float, float]:
    """Return the ends of the scale on which these are the lowest and the highest number.

    >>> ends_of(2, 5), ends_of(0, 9), ends_of(-3, 700)
    ((1.0, 5.0), (0.0, 10.0), (-3, 700))
    """
    return next(
        ((first, last) for first, last in SCALES if first <= low and high <= last), (low, high)
    )


def threshold_of(low: float, high: float, *, whole: bool, high_is_bad: bool = False) -> str:
    """Propose which numbers are good; only a person knows.

    >>> threshold_of(1, 5, whole=True), threshold_of(0, 10, whole=True), threshold_of(0, 1, \
whole=False)
    ('>=4', '>=7', '>=0.6')
    >>> threshold_of(1, 5, whole=True, high_is_bad=True)
    '<=2'
    """
    first, last = ends_of(low, high)
    is_short = whole and last - first <= WHOLE_UP_TO
    bound = first + (BAD_PLACE if high_is_bad else GOOD_PLACE) * (last - first)
    if high_is_bad:
        return f"<={math.ceil(bound - 1e-9) - 1 if is_short else round(bound, 2):g}"
    return f">={math.floor(bound + 1e-9) + 1 if is_short else round(bound, 2):g}"


def meets(number: float | None, condition: str) -> bool | None:
    """Tell whether a number meets a condition such as `>=4`; None: it is no condition.

    >>> meets(4, ">=4"), meets(3, ">= 4"), meets(1.5, "<2"), meets(4, "4"), meets(None, ">=4")
    (True, False, True, None, False)
    """
    found = CONDITION.fullmatch(condition)
    limit = number_of(found[2]) if found else None
    if found is None or limit is None:
        return None
    if number is None:
        return False
    return {
        ">=": number >= limit,
        "<=": number <= limit,
        ">": number > limit,
        "<": number < limit,
    }[found[1]]


def is_condition(value: Any) -> bool:
    """Tell whether a value is a condition such as `>=4`, and no value of a column."""
    return isinstance(value, str) and meets(None, value) is not None
