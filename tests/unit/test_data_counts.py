"""Counts of an audit on rows of well-known sets' shapes, each counted by hand."""

import gc
import json
from pathlib import Path

import pytest

from ft_tools.data.audit import perform
from ft_tools.data.pipeline import Methods
from ft_tools.data.read import scan
from ft_tools.data.request import AuditRequest
from ft_tools.errors import BadData

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
NEEDED = "which needs a signature on delivery before it can leave the depot again"


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


def test_python_looks_for_cycles_again_after_an_audit_also_after_one_that_failed(audit):
    rows = [alpaca(at, f"It is the depot in {city}.") for at, city in enumerate(ANSWERS)]
    seen = []

    def tick(num_rows):
        seen.append(gc.isenabled())
        if num_rows:
            raise BadData(Path("d.json"), "changed", "audit it again")

    audit(rows)
    assert gc.isenabled()
    with pytest.raises(BadData):
        perform(AuditRequest(path="d.json"), Methods(tick=tick))
    assert seen == [False]
    assert gc.isenabled()


def test_the_longer_sides_of_pairs_are_counted_and_no_bias_is_claimed(audit):
    rows = []
    for at, city in enumerate(ANSWERS):
        more, less = f"It is in {city}, {NEEDED}.", f"In {city}."
        sides = (more, less) if at % 2 else (less, more)
        rows.append({"prompt": f"Where is {at}?", "chosen": sides[0], "rejected": sides[1]})
    report = audit(rows)
    assert (report.shape["num_chosen_longer"], report.shape["num_rejected_longer"]) == (6, 6)
    assert "length_bias" not in found(report)
