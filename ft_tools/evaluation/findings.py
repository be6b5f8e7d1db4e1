"""The room's table of findings (findings.toml): a row each, filled in with its numbers."""

import tomllib
from functools import cache
from importlib.resources import files
from typing import Any

from ft_tools.errors import BadInput


def finding(row_id: str, /, **fields: Any) -> str:
    """Return a finding as a sentence: its id, the problem, the cure.

    >>> finding("marked_bad", num=3)
    'marked_bad: 3 rows are skipped: their answer is marked bad'

    Raises:
        KeyError: There is no such row, or a field of it is missing.
    """
    row = _table()[row_id]
    parts = [row["message"], row["cure"]] if "cure" in row else [row["message"]]
    return f"{row_id}: " + "; ".join(part.format(**fields) for part in parts)


def refusal(row_id: str, /, **fields: Any) -> BadInput:
    """Return the error of a row: the problem, what is allowed, the next step."""
    row = _table()[row_id]
    return BadInput(f"{row['message']}; {row['cure']}".format(**fields))


@cache
def _table() -> dict[str, dict[str, str]]:
    text = files("ft_tools.evaluation").joinpath("findings.toml").read_text("utf-8")
    return tomllib.loads(text)
