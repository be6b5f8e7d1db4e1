"""Which row of the decision table holds."""

from collections.abc import Mapping

from ft_tools.approach.request import ApproachRequest
from ft_tools.approach.situation import Situation, situation
from ft_tools.approach.table import Condition, Decision, Range, table


def decide(request: ApproachRequest) -> Decision:
    """Return the first row of the table whose conditions all hold; the last row has none."""
    return first_row(situation(request, table().needs))


def holds(when: Mapping[str, Condition], now: Situation) -> bool:
    """Tell whether every condition of a row holds."""
    return all(_holds(field, condition, now) for field, condition in when.items())


def first_row(now: Situation) -> Decision:
    """Return the first row whose conditions all hold; the last row has none."""
    return next(row for row in table().rows if holds(row.when, now))


def _holds(field: str, condition: Condition, now: Situation) -> bool:
    if isinstance(condition, Range):
        return _within(condition, now.numbers[field])
    if field == "all":
        return now.needs.issuperset(condition)
    if field == "any":
        return not now.needs.isdisjoint(condition)
    if field == "none":
        return now.needs.isdisjoint(condition)
    return now.choices[field] in condition


def _within(bounds: Range, value: float | None) -> bool:
    if value is None:
        return bounds.unknown
    if bounds.at_least is not None and value < table().thresholds[bounds.at_least].value:
        return False
    return bounds.below is None or value < table().thresholds[bounds.below].value
