"""What training warns of and refuses, and what curves show: the rows of findings.toml."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from ft_tools.findings import FindingsTable

Severity = Literal["info", "warning", "error"]
TASKS = ("sft", "dpo", "kto", "grpo")
_TABLE = FindingsTable("training")
warning, refusal = _TABLE.warning, _TABLE.refusal
message_and_cure = _TABLE.message_and_cure


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
    metric: str = ""
    above: str = ""
    below: str = ""
    """Threshold of the metric, by its id."""
    of_start: bool = False
    """Whether the threshold is a multiple of the metric's start."""
    last: int = 10
    """Values from which on the metric says something."""

    def texts(self, fields: Mapping[str, Any]) -> tuple[str, str]:
        """Return what was observed, with its numbers, and the advice."""
        return self.observed.format(**fields), self.advice.format(**fields)


@cache
def rows(kind: Literal["signals", "diagnoses"]) -> dict[str, Row]:
    """Return the rows of signals or of diagnoses, by id."""
    return {
        name: Row(**{**row, "id": name, "tasks": tuple(row.get("tasks", TASKS))})
        for name, row in _TABLE.rows(kind).items()
    }
