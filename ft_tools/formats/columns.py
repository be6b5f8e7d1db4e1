"""Columns inside objects: `ticket.answer` is the column `answer` of the object `ticket`."""

from collections.abc import Mapping
from typing import Any


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
