"""Which conversations are kept: those that the caller's condition on named signs is met by."""

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field

from ft_tools.creation.traces.conversation import Conversation, LogRow, Signs
from ft_tools.creation.traces.messages import text_at
from ft_tools.data.map.conditions import ByColumn, is_bound, is_one_of
from ft_tools.errors import UnknownName
from ft_tools.formats.column_counts import ColumnCounts, number_of, shown

Keep = Literal["not_failed"] | Annotated[ByColumn, Field(min_length=1, max_length=20)]
"""All that did not fail; or sign -> what is wanted of its values, as in a mapping."""


def unmet(one: Conversation, keep: Keep) -> str:
    """Return why a conversation that did not fail is not kept; empty if it is.

    Every value of a sign has to be wanted, of the kind that is asked for: a score may have a
    label, too.
    """
    if keep == "not_failed":
        return ""
    for name, wanted in keep.items():
        values = [sign.value for sign in one.signs if name in {sign.name, sign.label}]
        are_numbers = {is_bound(each) or number_of(each) is not None for each in wanted}
        values = [value for value in values if (number_of(value) is not None) in are_numbers]
        if not values:
            return "unknown"
        if not all(is_one_of(value, wanted) for value in values):
            return "condition_not_met"
    return ""


def require_signs(keep: Keep | None, found: Iterable[Conversation]) -> None:
    """Refuse a condition on a sign that no conversation has.

    Raises:
        UnknownName: With the signs that there are.
    """
    if keep is None or keep == "not_failed":
        return
    known = {name for one in found for sign in one.signs for name in (sign.label, sign.name)}
    if other := next((name for name in keep if name not in known), ""):
        cure = "or keep='not_failed', which needs no sign"
        raise UnknownName("sign", other, sorted(map(shown, known)), cure)


def described_signs(found: Iterable[Conversation]) -> dict[str, str]:
    """Return each sign, by its source, with its values."""
    columns: dict[str, ColumnCounts] = {}
    for at, one in enumerate(found):
        for sign in one.signs:
            columns.setdefault(sign.label, ColumnCounts(sign.label)).add(sign.value, at)
    return {shown(name): column.description for name, column in sorted(columns.items())}


def marks_from(rows: Iterable[LogRow]) -> Signs:
    """Return the signs of a table; its column `session` names a session, trace or call."""
    signs = Signs()
    for row in rows:
        for name, value in row.value.items():
            if name != "session" and value not in (None, ""):
                number = number_of(value)
                signs.add(text_at(row.value, "session"), name, value if number is None else number)
    return signs
