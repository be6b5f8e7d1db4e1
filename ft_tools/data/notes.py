"""What the reports of the data tools say beside their numbers: the rows of notes.toml."""

import tomllib
from functools import cache
from importlib.resources import files
from typing import Any


def note(name: str, /, **fields: Any) -> str:
    """Return a sentence of the table, with its numbers filled in.

    >>> note("several_files", count=3)
    'line numbers continue through all 3 files in order of their names'
    """
    return _table()[name].format(**fields)


@cache
def _table() -> dict[str, str]:
    text = (files("ft_tools.data") / "notes.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)
