"""The rows of the tables: findings, warnings, refusals, rungs, blocks and thresholds, by id."""

import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ft_tools import facts
from ft_tools.explain.report import Passage

SAYING = (
    "severity", "title", "value", "units", "message", "rule", "cure", "why", "says", "stop",
    "override", "source",
)  # fmt: skip
"""Fields of a row that explain it, in the order in which they are returned."""
DATA = ("gpus.toml", "models.toml", "apple.toml", "gguf.toml", "teachers.toml")
"""Tables of things, not of ids that a report names."""


@cache
def row_passages() -> Mapping[str, Passage]:
    """Return a passage for each row of a table of the package that has an id, by that id."""
    root = Path(__file__).parents[1]
    found: dict[str, Passage] = {}
    for path in sorted(root.rglob("*.toml")):
        if path.name not in DATA and path.name != "thresholds.toml":
            found |= {each.id: each for each in _rows(tomllib.loads(path.read_text("utf-8")))}
    for key, row in facts.thresholds().items():
        text = f"{key}: {row.value} {row.units}. {row.why}\nSource: {row.source}"
        found[key] = Passage(id=key, text=text)
    return found


def _rows(table: Mapping[str, Any]) -> Iterator[Passage]:
    for key, below in table.items():
        rows = below if isinstance(below, list) else [below]
        for row in rows:
            if not isinstance(row, dict):
                continue
            name = str(row.get("id", key))
            said = [f"{field}: {row[field]}" for field in SAYING if row.get(field)]
            if said and ("id" in row or not any(isinstance(part, dict) for part in row.values())):
                yield Passage(id=name, text="\n".join([name, *said]))
            elif isinstance(below, dict):
                yield from _rows(below)
