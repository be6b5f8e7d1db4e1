"""What an audit can find, the rows of findings.toml, and what reports say, those of notes.toml.

A finding that `removes` takes the example out of the files that are written. An error that does not
remove needs a decision, so a file that has one is not ready.
"""

from dataclasses import dataclass
from typing import Any, Literal, get_args

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
    cure_if_kept: str = ""
    """The cure where the examples are kept all the same, which makes the finding an info."""
    source: str | None = None


RULES = {name: Rule(**row) for name, row in facts.table_of("findings.toml", "data").items()}


def note(name: str, /, **fields: Any) -> str:
    """Return a sentence of notes.toml, with its numbers filled in.

    >>> note("several_files", count=3)
    'rows are numbered through all 3 files, in order of their names'
    """
    return str(facts.table_of("notes.toml", "data")[name]).format(**fields)
