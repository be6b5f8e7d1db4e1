"""Which conversations are kept: those that the caller's condition on named signs is met by."""

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field

from ft_tools.creation.traces.log import Conversation
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


def require_signs(keep: Keep | None, found: Iterable[Conversation]) -> dict[str, str]:
    """Return each sign, by its source, with its values.

    Raises:
        UnknownName: The condition is on a sign that no conversation has.
    """
    columns: dict[str, ColumnCounts] = {}
    known = set[str]()
    for at, one in enumerate(found):
        for sign in one.signs:
            columns.setdefault(sign.label, ColumnCounts(sign.label)).add(sign.value, at)
            known |= {sign.name, sign.label}
    names = keep if keep and keep != "not_failed" else {}
    if other := next((name for name in names if name not in known), ""):
        cure = "or keep='not_failed', which needs no sign"
        raise UnknownName("sign", other, sorted(map(shown, known)), cure)
    return {shown(name): column.description for name, column in sorted(columns.items())}
