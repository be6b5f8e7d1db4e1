"""Which row of the decision table holds."""

from collections.abc import Mapping, Sequence
from functools import lru_cache

from ft_tools.approach.conditions import (
    CONSIDERS,
    CONSIDERS_NONE,
    LISTS,
    SETS,
    TRIED,
    Condition,
    Range,
)
from ft_tools.approach.request import Approach, ApproachRequest
from ft_tools.approach.situation import Situation, situation
from ft_tools.approach.table import table
from ft_tools.approach.table_rows import Alternative, BlockRow, Decision


def decide(request: ApproachRequest) -> Decision:
    """Return the first row of the table whose conditions all hold; the last row has none."""
    return first_row(situation(request))


def holds(when: Mapping[str, Condition], now: Situation) -> bool:
    """Tell whether every condition of a row holds."""
    for field, condition in when.items():  # noqa: SIM110 - thousands of times a call
        if not _holds(field, condition, now):
            return False
    return True


def first_row(now: Situation) -> Decision:
    """Return the first row whose conditions all hold; the last row has none.

    Training that was done and missed is not what comes next.
    """
    rows = (row for row in _rows_of(now.needs) if row.approach not in now.tried)
    return next(row for row in rows if holds(row.when, now))


@lru_cache(maxsize=256)
def _rows_of(needs: frozenset[str]) -> Sequence[Decision]:
    """Return the rows that needs do not rule out: a call decides a hundred times with the same."""
    return [
        row
        for row in table().rows
        if all(_is_met(name, row.when[name], needs) for name in SETS if name in row.when)
    ]


def is_done(approach: Approach, now: Situation) -> bool:
    """Tell whether an approach was done already although answers are still wrong."""
    if approach in now.tried:
        return True
    when = table().done.get(approach)
    is_short = now.choices["failing"] == "yes" and now.choices["target_met"] != "yes"
    return when is not None and is_short and holds(when, now)


def others(row: Decision, now: Situation) -> list[Alternative]:
    """Return the alternatives of a row that what is known does not rule out: not what was tried."""
    shows_examples = holds(table().done["few_shot"], now)
    return [
        other
        for other in row.alternatives
        if holds(other.where, now) and not (shows_examples and other.approach == "few_shot")
    ]


def stages(approach: Approach, now: Situation) -> tuple[Sequence[Approach], Sequence[Approach]]:
    """Return the approaches that an approach contains here: its first stage, and what follows."""
    parts = table().approaches[approach].parts
    return ((), ()) if now.needs & set(parts.unless) else (parts.now, parts.later)


def _holds(field: str, condition: Condition, now: Situation) -> bool:
    if field in now.choices:
        return now.choices[field] in condition
    if isinstance(condition, Range):
        return _within(condition, now.numbers[field])
    if field == CONSIDERS:
        return not now.considers.isdisjoint(condition)
    if field == CONSIDERS_NONE:
        return now.considers.isdisjoint(condition)
    if field == TRIED:
        return not now.tried.isdisjoint(condition)
    if field in LISTS:
        return not now.lists[field].isdisjoint(condition)
    return _is_met(field, condition, now.needs)


def _is_met(field: str, condition: Condition, needs: frozenset[str]) -> bool:
    """Tell whether one of the conditions on needs holds."""
    if field == "all":
        return needs.issuperset(condition)
    return needs.isdisjoint(condition) == (field == "none")


def _within(bounds: Range, value: float | None) -> bool:
    if value is None:
        return bounds.unknown
    if bounds.at_least is not None and value < table().thresholds[bounds.at_least].value:
        return False
    return bounds.below is None or value < table().thresholds[bounds.below].value


def blocks_of(approach: Approach, now: Situation) -> list[BlockRow]:
    """Return what speaks against an approach here, one row for each rule."""
    found = {
        block.rule: block
        for block in reversed(table().blocks)
        if block.approach == approach and holds(block.when, now)
    }
    return list(reversed(found.values()))
