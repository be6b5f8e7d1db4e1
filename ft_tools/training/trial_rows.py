"""What a trial of a search did on each held-out row."""

import json
from dataclasses import dataclass
from pathlib import Path

FILE = "held_out.jsonl"
SEARCH = "search"
"""In the lineage of a trial: the search that it belongs to."""


@dataclass(frozen=True)
class RowScores:
    """The rows' values, in the order of the validation file."""

    losses: list[float]
    rights: list[float]
    """1.0 where the greedy answer is the right one."""


def read_rows(run_dir: Path) -> RowScores | None:
    """Return what a run wrote of its held-out rows; None if nothing."""
    try:
        lines = (run_dir / FILE).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return None
    rows = [json.loads(line) for line in lines]
    return RowScores([row["loss"] for row in rows], [float(row["is_right"]) for row in rows])
