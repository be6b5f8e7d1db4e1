"""What an audit can find: the rows of findings.toml.

A finding that `removes` takes the example out of the files that are written. An error that does not
remove needs a decision, so a file that has one is not ready.
"""

import tomllib
from dataclasses import dataclass
from importlib.resources import files
from typing import Literal, get_args

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)
"""The gravest first."""
UNDECIDED = "undecided_columns"


@dataclass(frozen=True)
class Rule:
    """What one finding means."""

    severity: Severity
    removes: bool
    message: str
    cure: str
    source: str | None = None


def _read() -> dict[str, Rule]:
    text = (files("ft_tools.data") / "findings.toml").read_text(encoding="utf-8")
    return {name: Rule(**row) for name, row in tomllib.loads(text).items()}


RULES = _read()
