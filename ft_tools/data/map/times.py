"""Order the times of a table."""

import re
from collections.abc import Iterable
from datetime import date

from ft_tools.errors import BadInput, brief

DAY = re.compile(r"(\d{1,2})[./](\d{1,2})[./](\d{4}|\d{2})(?!\d)[, ]*")
YEAR_FIRST = re.compile(r"(\d{4})[-/](\d\d?)[-/](\d\d?)(?!\d)")
CLOCK = re.compile(r"(?<![\d:])(\d{1,2})(:\d{2}(?::\d{2}(?:\.\d+)?)?)(?:\s*([ap])\.?m\b\.?)?", re.I)
ISO = re.compile(r"\d{4}[-/]\d\d(?!\d)")
DECIMAL = re.compile(r"(\d+)(\.\d+)?")
DIGITS = 20
"""To which a number is padded, so that it sorts as text."""
MONTHS = 12


def is_month_first(times: Iterable[str]) -> bool | None:
    """Return whether dates are written month/day/year; None if each could be day/month/year, too.

    >>> is_month_first(["1/2/2026", "3/14/2026"]), is_month_first(["14.3.2026"])
    (True, False)
    """
    days = [day for day in map(DAY.match, times) if day]
    if any(int(day[1]) > MONTHS for day in days):
        return False
    if any(int(day[2]) > MONTHS for day in days):
        return True
    return None if days else False


def day_of(time: str) -> date | None:
    """Return the day of a time that begins with a date; None for any other text.

    >>> day_of("2026-04-01T09:00Z") == day_of("1.4.2026, 9:00"), day_of("31.02.2026"), day_of("TT.")
    (True, None, None)

    Raises:
        BadInput: Its day can be read in several ways.
    """
    found, day_first = YEAR_FIRST.match(time), DAY.match(time)
    parts = found.groups() if found else day_first.groups()[::-1] if day_first else ()
    if day_first and ("/" in day_first[0] or len(day_first[3]) == 2):
        raise BadInput(
            f"a bound on dates compares 2026-04-01 and 01.04.2026; {brief(repr(time))} can be "
            'several days: use {"pattern": "REGEX"} for this column'
        )
    try:
        return date(*map(int, parts)) if parts else None
    except ValueError:
        return None


def sortable(time: str, *, month_first: bool = False) -> str:
    """Return a time so that later ones sort behind: ISO as it is, other dates turned around.

    Other numbers are padded, such as those of codes (W01, 2024-Q1).

    >>> sortable("31.12.2025") < sortable("1.1.2026") < sortable("2026-11-01")
    True
    >>> sortable("3/14/2026, 9:05 PM", month_first=True)
    '2026-03-14 21:05'
    >>> sortable("3.5") < sortable("12"), sortable("2024-W5") < sortable("2024-W10")
    (True, True)
    """
    if number := DECIMAL.fullmatch(time):
        return number[1].zfill(DIGITS) + (number[2] or "")
    day = DAY.match(time)
    if day is None:
        text = _with_padded_hour(time)
        if ISO.match(text):
            return text
        return re.sub(r"\d+", lambda digits: digits[0].zfill(DIGITS), text.casefold())
    first, second, year = day.groups()
    month, of_month = (first, second) if month_first else (second, first)
    rest = _with_padded_hour(time[day.end() :])
    return f"{year if len(year) == 4 else '20' + year}-{int(month):02d}-{int(of_month):02d} {rest}"


def _with_padded_hour(text: str) -> str:
    clock = CLOCK.search(text)
    if clock is None:
        return text
    hour = int(clock[1])
    if clock[3]:
        hour = hour % 12 + 12 * (clock[3] in "pP")
    return f"{text[: clock.start()]}{hour:02d}{clock[2]}{text[clock.end() :]}"
