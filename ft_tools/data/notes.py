"""What the reports of the data tools say beside their numbers: the rows of notes.toml."""

from typing import Any

from ft_tools import facts


def note(name: str, /, **fields: Any) -> str:
    """Return a sentence of the table, with its numbers filled in.

    >>> note("several_files", count=3)
    'rows are numbered through all 3 files, in order of their names'
    """
    return str(facts.table_of("notes.toml", "data")[name]).format(**fields)
