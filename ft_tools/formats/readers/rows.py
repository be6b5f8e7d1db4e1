"""A row of a file, as every reader yields it."""

from typing import Any, NamedTuple

ROW_BYTES = 4 * 2**20
"""The longest row that is read. Ours: a row of text is far shorter."""


class Row(NamedTuple):
    """A row of a file: a value, or the finding that stands for it."""

    number: int
    value: Any
    problem: str | None
    notes: tuple[str, ...] = ()
    """Findings that hold for a row that could be read."""
    num_chars: int | None = None
    """As it stands in a file of JSON; of other files it is not known."""
    about: tuple[str, ...] = ()
    """Sentences about the table, with its first row: its sheet, its header."""
    tables: tuple[str, ...] = ()
    """With the first row of one of several sheets or lists that nobody chose: it, the others."""
