"""The rows of the tables: findings, warnings, refusals, rungs, blocks and thresholds, by id."""

import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ft_tools import facts
from ft_tools.explain.report import Passage
from ft_tools.metrics.table import METRICS

SAYING = (
    "severity", "title", "value", "units", "message", "rule", "cure", "why", "says", "stop",
    "ask", "override", "source",
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
            for each in _rows(tomllib.loads(path.read_text("utf-8"))):
                # Several rooms report some ids: an audit and a launch, each with its own cure.
                earlier = found.get(each.id)
                text = f"{earlier.text}\n\n{each.text}" if earlier else each.text
                found[each.id] = Passage(id=each.id, text=text)
    for name, metric in METRICS.items():
        text = f"{name}: a metric of evaluate, {metric.unit}: {metric.doc}"
        better = {True: "higher is better", False: "lower is better", None: "neither is better"}
        text += f"; {better[metric.higher_is_better]}"
        text += f". Asked for as {metric.asked_as}." if metric.source != "general" else "."
        found.setdefault(name, Passage(id=name, text=text))
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
