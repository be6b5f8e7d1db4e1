"""The room's table of findings (findings.toml): a row each, filled in with its numbers."""

import tomllib
from functools import cache
from importlib.resources import files
from typing import Any

from ft_tools import anti_patterns
from ft_tools.errors import BadInput, FineTuningError, Missing, NotFound, Refused

ERRORS = {"bad_input": BadInput, "missing": Missing, "not_found": NotFound, "refused": Refused}
"""What a refusal without a rule is."""


def warning(row_id: str, /, **fields: Any) -> str:
    """Return a warning of a plan: its id, the problem, the cure.

    Raises:
        KeyError: There is no such row, or a field of it is missing.
    """
    row = _table()["warnings"][row_id]
    parts = [row["message"], row["cure"]] if "cure" in row else [row["message"]]
    return f"{row_id}: " + "; ".join(part.format(**fields) for part in parts)


def refusal(row_id: str, /, **fields: Any) -> FineTuningError:
    """Return the error by which a plan or a step is refused: by its rule, or for what is wrong.

    Raises:
        KeyError: There is no such row, or a field of it is missing.
    """
    row = _table()["refusals"][row_id]
    message, cure = (row[part].format(**fields) for part in ("message", "cure"))
    if "rule" in row:
        return anti_patterns.refusal(row["rule"], message, cure)
    return ERRORS[row.get("error", "bad_input")](f"{message}; {cure}")


def sentence(row_id: str, /, **fields: Any) -> str:
    """Return what a report says in words.

    Raises:
        KeyError: There is no such row, or a field of it is missing.
    """
    return str(_table()["sentences"][row_id]).format(**fields)


@cache
def _table() -> dict[str, Any]:
    text = files("ft_tools.shipping").joinpath("findings.toml").read_text("utf-8")
    return tomllib.loads(text)
