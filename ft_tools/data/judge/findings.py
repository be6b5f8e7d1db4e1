"""What an audit can find: the rows of findings.toml.

A finding that `removes` takes the example out of the files that are written. An error that does not
remove needs a decision, so a file that has one is not ready.
"""

from dataclasses import dataclass
from typing import Literal, get_args

from ft_tools import facts

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


RULES = {name: Rule(**row) for name, row in facts.table_of("findings.toml", "data").items()}
