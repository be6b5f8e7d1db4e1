"""Answers that evaluations keep, to be used again instead of asking once more."""

import json
from pathlib import Path
from typing import Any

from ft_tools import workspace
from ft_tools.runs.state import directory

Saved = dict[tuple[str, str, int], dict[str, Any]]
"""(set of questions, system, line or number) -> a line of outputs.jsonl."""
# How many finished evaluations are searched for the same answers, the newest first.
SEARCHED_RUNS = 50


def read_outputs(path: Path) -> Saved:
    """Read the answers in a file; a torn line is dropped."""
    saved: Saved = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            row = json.loads(line)
            if isinstance(row["text"], str):
                saved[row["set"], row["side"], row["line"]] = row
        except (ValueError, LookupError, TypeError):
            continue
    return saved


def find_answers(key: str) -> tuple[str | None, set[tuple[str, int]]]:
    """Return the run with the most answers of the same system, and their sets and lines."""
    best: tuple[str | None, set[tuple[str, int]]] = (None, set())
    for run_dir in earlier_runs():
        answers = {(kind, line) for kind, line, _ in answers_of(run_dir, key)}
        if len(answers) > len(best[1]):
            best = (run_dir.name, answers)
    return best


def earlier_runs() -> list[Path]:
    """Return the directories of evaluations, the newest first."""
    found = workspace.runs_dir().glob("evaluate-*/plan.json")
    newest = sorted(found, key=lambda path: -path.stat().st_mtime)
    return [path.parent for path in newest[:SEARCHED_RUNS]]


def answers_of(run_dir: Path, key: str) -> list[tuple[str, int, dict[str, Any]]]:
    """Return what a run has of the system with a key: set, line, and the answer's fields."""
    systems = directory.whole_json(run_dir / "plan.json").get("systems") or ()
    same = (one for one in systems if isinstance(one, dict) and one.get("answers_key") == key)
    names = {str(one.get("name")) for one in same}
    if not names:
        return []
    return [
        (kind, line, {k: v for k, v in row.items() if k not in {"set", "side", "line"}})
        for (kind, side, line), row in read_outputs(run_dir / "outputs.jsonl").items()
        if side in names and kind != "general"
    ]
