"""The rows of the tables: findings, reasons, refusals, rungs, rules and thresholds, by id."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ft_tools import facts
from ft_tools.explain.report import Passage
from ft_tools.metrics.table import METRICS

FIRST = ("severity", "title", "value", "units", "message", "rule", "cure", "why")
"""Fields of a row that come first; the others follow as they stand in the table."""
DATA = ("gpus.toml", "models.toml", "apple.toml", "teachers.toml", "general.toml")
"""Tables of things, not of ids that a report names."""
SAYING = {*FIRST[4:], "ask", "change", "override", "stop"}
"""A row without any of them explains nothing."""
LABELLED = ("id", "names", "removes", "trains", "gate", "optional", "tools", "strength")
FIELD = re.compile(r"\{(\w+)(?:![rs])?(?::[^{}]*)?\}")
BETTER = {True: "higher is better", False: "lower is better", None: "neither is better"}


@cache
def row_passages() -> Mapping[str, Passage]:
    """Return a passage for each row of a table of the package that has an id, by that id."""
    found: dict[str, list[str]] = {}
    for path in sorted(Path(__file__).parents[1].rglob("*.toml")):
        if path.name not in DATA and path.name != "thresholds.toml":
            for name, row in rows(tomllib.loads(path.read_text("utf-8"))):
                # Several rooms report some ids: an audit and a launch, each with its own cure.
                found.setdefault(name, []).append(_text(row))
    for name, metric in METRICS.items():
        asked = f" Asked for as {metric.asked_as}." if metric.source != "general" else ""
        better = BETTER[metric.higher_is_better]
        text = f"a metric of evaluate: {metric.doc}; {better}.{asked}"
        found.setdefault(name, []).append(text)
    for key, limit in facts.thresholds().items():
        found[key] = [f"{limit.value} {limit.units}. {limit.why}\nSource: {limit.source}"]
    return {
        name: Passage(id=name, text=f"{name}\n" + "\n\n".join(texts))
        for name, texts in found.items()
    }


def rows(table: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the rows of a table that explain something, with their ids, whatever they stand in."""
    for key, below in table.items():
        for row in below if isinstance(below, list) else [below]:
            if isinstance(row, dict) and any(isinstance(part, dict) for part in row.values()):
                yield from rows(row)
            elif isinstance(row, dict):
                own = [key] if row is below else row.get("names", [])
                names = [row["id"]] if "id" in row else own
                yield from ((name, row) for name in names if SAYING & row.keys())


def _text(row: Mapping[str, Any]) -> str:
    """Return the fields of a row, one a line."""
    names = sorted(row, key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST))
    said = [
        f"{name}: {_filled_in(', '.join(map(str, value)) if isinstance(value, list) else value)}"
        for name in names
        if name not in LABELLED and (value := row[name]) not in ("", [], None, "{source}")
    ]
    return "\n".join(said)


def _filled_in(value: Any) -> str:
    """Return a text with the names of what a message is filled with, without their formats.

    >>> _filled_in("{num} rows, {fraction:.0%}, {name!r}")
    '<num> rows, <fraction>, <name>'
    """
    return FIELD.sub(r"<\1>", str(value))
