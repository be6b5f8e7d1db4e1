"""Columns inside objects: `ticket.answer` is the column `answer` of the object `ticket`."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

MAX_DEPTH = 4
"""Objects in objects that are looked into."""
_ORDERS = (
    r"\b(?:ignor\w*|disregard|forget|override|bypass|obey)\b.*"
    r"\b(?:all\w*|any|previous|prior|above|your|instructions?|prompts?|rules?|tod[ao]s|toutes)\b"
    r"|\b(?:curl|wget|sudo|execute|invoke|reveal)\b.*\w|rm -|//"
    r"|\b(?:call|run|use)\b.*_(?:sft|dpo|run|dataset|quantize)\b"
    r"|\bwithout (?:asking|confirm|telling)"
    # At the start of a name, or of one inside an object.
    r"|(?<![^.\]])(?:(?:system|assistant|developer|important|attention|instructions?) ?:"
    r"|set\b.* to\b|(?:please|you (?:must|should)|always|never|do not|don't)\b(?: \S+){2}"
    r"|(?:launch|delete|erase|approve|install)\b(?: \S+){2}"
    r"|(?:upload|download|send|confirm|start|train|open|tell)\b.* (?:the|all|any|every|this|it)\b)"
)
_WORD = r"""(?:[0-9A-Za-z\u00c0-\u052f_?!#%&/().,:;+\-'"\[\]]{1,41}|"""
_WORD += r"(?:[^\W\d_]|[\u0900-\u0d7f\u0e30-\u0e4e]|[0-9_./#&()-]){1,12})"
PLAIN_NAME = re.compile(
    rf"(?=.{{1,40}}\Z|\S{{41}}\Z)(?!.*(?:{_ORDERS})){_WORD}(?: {_WORD}){{0,5}}", re.IGNORECASE
)
"""A column's name that a report may repeat: short, of letters, digits and simple punctuation.

A longer one may be a sentence to an agent, as may a short one with an order; in scripts without
spaces more than twelve characters already are one.
"""
COLUMN = re.compile(r"column (\d{1,4})")
"""How a column is named by its number, from 1, if its name is withheld."""


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


def place_of(row: Mapping[str, Any], name: str) -> int:
    """Return the number, from 1, of the column of a row that is named or holds what is; else 0.

    >>> place_of({"id": 1, "talk": {"customer": "Hi"}}, "talk.customer")
    2
    """
    for at, key in enumerate(row, 1):
        if name == key or name.startswith((f"{key}.", f"{key}[")):
            return at
    return 0
