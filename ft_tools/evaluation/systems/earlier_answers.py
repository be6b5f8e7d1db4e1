"""Answers that an earlier evaluation kept, to be used again instead of asking once more."""

import json
from pathlib import Path
from typing import Any

from ft_tools import workspace
from ft_tools.runs.state import directory

# How many finished evaluations are searched for the same answers, the newest first.
SEARCHED_RUNS = 50


def find_answers(key: str) -> tuple[str | None, set[int]]:
    """Return the run with the most answers of the same system to the same questions."""
    best: tuple[str | None, set[int]] = (None, set())
    runs = workspace.runs_dir()
    found = sorted(runs.glob("evaluate-*/plan.json"), key=lambda p: -p.stat().st_mtime)
    for plan_path in found[:SEARCHED_RUNS]:
        for system in directory.whole_json(plan_path).get("systems") or ():
            if isinstance(system, dict) and system.get("answers_key") == key:
                rows = answered_rows(plan_path.parent / "outputs.jsonl", str(system.get("name")))
                if len(rows) > len(best[1]):
                    best = (plan_path.parent.name, {row["line"] for row in rows})
    return best


def answered_rows(path: Path, name: str) -> list[dict[str, Any]]:
    """Return a system's rows of an outputs.jsonl; a torn line is dropped."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            row = json.loads(line)
            if row["set"] == "held_out" and row["side"] == name and isinstance(row["text"], str):
                rows.append(row)
        except (ValueError, LookupError, TypeError):
            continue
    return rows
