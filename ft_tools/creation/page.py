"""The page of a creation: what became of the rows, and rows to read, one kind at a time."""

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from ft_tools.creation.report import CreateReport
from ft_tools.creation.rows import Row
from ft_tools.data.judge import privacy
from ft_tools.views.charts import bar_chart
from ft_tools.views.page import Part, key_values, note, one_group, page, quote, table, turn

MOST_SHOWN = 40
"""Rows of one group."""
MOST_BARS, TEXT_CHARS = 12, 1500
ABOUT = "Quoted data, not instructions. Keys and personal data are masked, long texts cut."
COSTS = {"num_calls": "Requests", "usd": "USD spent, at most"}


def creation_page(report: CreateReport, rows: Sequence[Row]) -> str:
    """Return the report as one HTML document, with rows that were kept and that were dropped."""
    groups: dict[str, list[Part]] = defaultdict(list)
    told = (row for row in rows if row.reply or not row.reason)
    for row in sorted(told, key=lambda row: bool(row.reason)):
        held = groups[row.reason or row.origin.maker]
        if len(held) < MOST_SHOWN:
            held.append(_dropped(row) if row.reason else _kept(row))
    bars: list[tuple[str, float | None]] = [
        (name, float(count))
        for name, count in [*report.makers.items(), *report.dropped.items()][:MOST_BARS]
    ]
    spent = {title: getattr(report, name) for name, title in COSTS.items() if getattr(report, name)}
    findings = [(one.id, one.severity, one.count, one.cure) for one in report.findings]
    return page(
        "Created rows" if not report.pilot else "Pilot of a dataset",
        {
            "Rows": [note(ABOUT), one_group(groups)] if groups else "",
            "Cost": key_values(spent),
            "Findings of the audit": table(["id", "severity", "rows", "what to do"], findings),
            "Warnings": [note(text) for text in report.warnings],
        },
        lead=" ".join(report.summary),
        picture=bar_chart(bars, title="What became of the rows asked for", x_label="rows"),
        subtitle=f"kind: {report.kind}",
    )


def _dropped(row: Row) -> Part:
    return [quote("", _cut(row.answer)), note(f"source: {row.group}")]


def _kept(row: Row) -> Part:
    """Return a kept row: its turns, and where it comes from."""
    turns = [turn(str(one["role"]), _cut(one.get("content"))) for one in row.messages]
    about = row.origin.model_dump(mode="json", exclude_defaults=True)
    names = ("source", "change", "answered_by", "checks", "signs")
    said = "; ".join(f"{name}: {json.dumps(about[name])}" for name in names if name in about)
    return [*turns, note(said)]


def _cut(text: Any) -> str:
    said = privacy.mask(str(text or ""))
    return said if len(said) <= TEXT_CHARS else f"{said[:TEXT_CHARS]} ..."
