"""What systems answered: how an answer is kept in a run, and used again in later ones."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ft_tools import workspace
from ft_tools.publish import append_line
from ft_tools.runs.state import directory

SEARCHED_RUNS = 50
"""Finished evaluations that are searched for the same answers, the newest first."""
GENERAL = "general"
"""The set of the general suite's questions; they are not used again."""


@dataclass(frozen=True)
class Answer:
    """What a system wrote to one question."""

    text: str
    num_tokens: int = 0
    finished: bool = True
    """Whether the system ended the answer, not the limit."""
    seconds: float = 0.0
    prompt_tokens: int = 0
    served_by: str = ""
    """Model and fingerprint that an endpoint reports."""


Batch = list[tuple[int, Answer]]
"""Places of questions with their answers."""
Key = tuple[str, str, int]
"""Set of questions, system, line or number."""
_FIELDS = {field.name for field in fields(Answer)}


def keep(path: Path, key: Key, answer: Answer) -> None:
    """Append an answer to a run's file."""
    row = dict(zip(("set", "side", "line"), key, strict=True)) | asdict(answer)
    append_line(path, json.dumps(row))


def read(path: Path) -> dict[Key, Answer]:
    """Read the answers in a file; a torn line is dropped."""
    saved: dict[Key, Answer] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            row = json.loads(line)
            found = Answer(**{name: row[name] for name in _FIELDS & row.keys()})
            if isinstance(found.text, str):
                saved[row["set"], row["side"], row["line"]] = found
        except (ValueError, LookupError, TypeError, AttributeError):
            continue
    return saved


def find(key: str) -> tuple[str, Mapping[tuple[str, int], Answer]]:
    """Return the run with the most answers of the same system, and these; ("", {}) without one."""
    found = ((run_dir.name, of_system(run_dir, key)) for run_dir in earlier_runs())
    return max(found, key=lambda one: len(one[1]), default=("", {}))


def earlier_runs() -> list[Path]:
    """Return the directories of evaluations, the newest first."""
    found = workspace.runs_dir().glob("evaluate-*/plan.json")
    newest = sorted(found, key=lambda path: -path.stat().st_mtime)
    return [path.parent for path in newest[:SEARCHED_RUNS]]


def of_system(run_dir: Path, answers_key: str) -> Mapping[tuple[str, int], Answer]:
    """Return what a run has of the system with a key: set and line -> answer."""
    systems: Any = directory.whole_json(run_dir / "plan.json").get("systems") or ()
    same = (one for one in systems if isinstance(one, dict))
    names = {one.get("name") for one in same if one.get("answers_key") == answers_key}
    saved = read(run_dir / "outputs.jsonl") if names else {}
    return {
        (kind, line): answer
        for (kind, side, line), answer in saved.items()
        if side in names and kind != GENERAL
    }
