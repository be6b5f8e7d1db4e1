"""Counts of an audit on rows of well-known sets' shapes, each counted by hand."""

import json

import pytest

from ft_tools.data.audit import perform
from ft_tools.data.read import scan
from ft_tools.data.request import AuditRequest

ANSWERS = [
    "Oslo",
    "Bergen",
    "Trondheim",
    "Tromso",
    "Hamar",
    "Molde",
    "Bodo",
    "Alta",
    "Narvik",
    "Voss",
    "Horten",
    "Moss",
]


@pytest.fixture
def audit(workspace):
    def run(rows, name="d.json", **arguments):
        (workspace / name).write_text(json.dumps(rows), encoding="utf-8")
        return perform(AuditRequest(path=name, response_format="detailed", **arguments))

    return run


def found(report):
    return {finding.id: finding for finding in report.findings}


def alpaca(number, answer):
    return {"instruction": f"Name the depot of parcel {number}.", "input": "", "output": answer}


def test_a_report_is_the_same_however_many_rows_are_checked_together(audit, monkeypatch):
    rows = [alpaca(at, f"It is the depot in {city}.") for at, city in enumerate(ANSWERS * 3)]
    rows[5:5] = [{"note": "no example"}, {"text": "Write to ada.king@mail.internal."}, rows[0]]
    rows[20:20] = [{"instruction": "Why?", "output": "", "stars": at % 3} for at in range(5)]
    together = audit(rows)
    monkeypatch.setattr(scan, "BATCH_ROWS", 1)
    assert audit(rows) == together
    assert {"unknown_format", "empty_answer", "exact_duplicate"} < set(found(together))
