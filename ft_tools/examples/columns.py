"""Columns inside objects: `ticket.answer` is the column `answer` of the object `ticket`."""

from collections.abc import Iterator, Mapping
from typing import Any

MAX_DEPTH = 4
"""Objects in objects that are looked into."""


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


def cells_of(row: Mapping[str, Any], before: str = "", depth: int = 1) -> Iterator[tuple[str, Any]]:
    """Yield the columns of a row, those inside objects in the place of the objects.

    >>> list(cells_of({"talk": {"customer": "Hi", "marks": [1]}, "stars": 4}))
    [('talk.customer', 'Hi'), ('talk.marks', [1]), ('stars', 4)]
    """
    for key, value in row.items():
        name = f"{before}{key}"
        if isinstance(value, Mapping) and value and depth <= MAX_DEPTH:
            yield from cells_of(value, f"{name}.", depth + 1)
        else:
            yield name, value
