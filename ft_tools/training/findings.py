"""The room's table of findings (findings.toml): a row each, filled in with its numbers."""

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from ft_tools import anti_patterns
from ft_tools.errors import BadInput, FineTuningError, Missing, NotFound, Refused

Severity = Literal["info", "warning", "error"]
ERRORS = {
    "bad_input": BadInput, "missing": Missing, "not_found": NotFound, "refused": Refused,
}  # fmt: skip
"""What a refusal without a rule is."""
TASKS = ("sft", "dpo", "kto")


@dataclass(frozen=True)
class Row:
    """What the metrics of a run, or its curves, may show."""

    id: str
    observed: str
    advice: str
    severity: Severity = "warning"
    tasks: tuple[str, ...] = TASKS
    live: bool = False
    """Of a diagnosis: whether it is worth knowing while the run trains."""


def warning(row_id: str, /, **fields: Any) -> str:
    """Return a warning of a plan: its id, the problem, the cure.

    Raises:
        KeyError: There is no such row, or a field of it is missing.
    """
    text, cure = message_and_cure(row_id, **fields)
    return f"{row_id}: {text}; {cure}" if cure else f"{row_id}: {text}"


def message_and_cure(row_id: str, /, **fields: Any) -> tuple[str, str]:
    """Return the two texts of a warning; the cure may be empty.

    Raises:
        KeyError: There is no such row, or a field of it is missing.
    """
    return _texts(_table()["warnings"][row_id], fields)


def refusal(row_id: str, /, **fields: Any) -> FineTuningError:
    """Return the error by which a launch is refused: by its rule, or for an argument or the data.

    Raises:
        KeyError: There is no such row, or a field of it is missing.
    """
    row = _table()["refusals"][row_id]
    message, cure = _texts(row, fields)
    if "rule" in row:
        return anti_patterns.refusal(row["rule"], message, cure)
    return ERRORS[row.get("error", "bad_input")](f"{message}; {cure}")


def _texts(row: dict[str, Any], fields: dict[str, Any]) -> tuple[str, str]:
    return row["message"].format(**fields), row.get("cure", "").format(**fields)


@cache
def rows(kind: Literal["signals", "diagnoses"]) -> dict[str, Row]:
    """Return the rows of signals or of diagnoses, by id."""
    found = {}
    for name, given in _table()[kind].items():
        tasks = tuple(given.get("tasks", TASKS))
        found[name] = Row(**{**given, "id": name, "tasks": tasks})
    return found


@cache
def _table() -> dict[str, Any]:
    text = files("ft_tools.training").joinpath("findings.toml").read_text("utf-8")
    return tomllib.loads(text)
