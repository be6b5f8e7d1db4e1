"""The rows of metrics.jsonl, as health reads them: values, trends, limits."""

import math
import statistics
from collections.abc import Callable, Sequence

from ft_tools.facts import number

Row = dict[str, float]
Rows = Sequence[Row]
Fields = dict[str, float | str | None]
Check = Callable[[Rows], Fields | None]
"""Metrics, oldest first -> the numbers of the signal, or None."""
RECENT = 10
"""Logged rows that a trend is read from."""


def values(rows: Rows, name: str) -> list[float]:
    """Return the logged values of a metric."""
    return [row[name] for row in rows if name in row]


def finite(rows: Rows, name: str) -> list[float]:
    """Return those that are numbers."""
    return [value for value in values(rows, name) if math.isfinite(value)]


def trend(rows: Rows, metric: str) -> tuple[float, float] | None:
    """Return the means of the first and of the last ten values; None before there are twenty."""
    logged = finite(rows, metric)
    if len(logged) < 2 * RECENT:
        return None
    return statistics.fmean(logged[:RECENT]), statistics.fmean(logged[-RECENT:])


def limit(
    metric: str, threshold: str, last: int, least: int = 1, *, is_above: bool = False
) -> Check:
    """Return the check whether all of the last values are above a threshold, or their mean below.

    Args:
        metric: Its name in metrics.jsonl.
        threshold: Of ft_tools/facts/thresholds.toml.
        last: Values that are looked at.
        least: Values before which nothing is said.
        is_above: Whether too much is the problem.
    """

    def check(rows: Rows) -> Fields | None:
        logged = finite(rows, metric)
        if len(logged) < least:
            return None
        bound = number(threshold)
        now = min(logged[-last:]) if is_above else statistics.fmean(logged[-last:])
        return {"now": now, "limit": bound} if (now > bound if is_above else now < bound) else None

    return check
