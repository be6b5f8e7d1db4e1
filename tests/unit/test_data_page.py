"""The audit's page: what it shows, how much of it, and that data is only ever text in it."""

import json
import re

from ft_tools.data import page
from ft_tools.data.audit import perform
from ft_tools.data.request import AuditRequest


def audited(workspace, rows, means=None, **arguments):
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (workspace / "d.jsonl").write_text(lines, encoding="utf-8")
    request = AuditRequest(path="d.jsonl", output_dir="out", max_removed_fraction=1.0, **arguments)
    report = perform(request, means)
    return report, (workspace / "out" / "report.html").read_text(encoding="utf-8")


def row(number, answer=None):
    return {"prompt": f"Where is parcel {number}?", "completion": answer or f"At depot {number}."}


def quoted(html):
    """Return the quoted lines by the finding that they stand with; of sound ones by ""."""
    found = {}
    for part in re.split(r"(?=<article|<h2>)", html):
        name = re.search(r"</span> (\w+)</h3>", part)
        lines = re.findall(r"<summary>(?:Validation r|R)ow (\d+) ", part)
        if lines:
            found[name[1] if name else ""] = lines
    return found


def test_findings_quote_their_examples_each_with_its_gravest_one(workspace):
    rows = [row(at) for at in range(30)]
    rows[3] = row(3, "TODO")
    rows[7] = row(6, rows[6]["completion"])
    rows[9] = row(9, "I am {{name}}, and here to help with all of your parcels.")
    report, html = audited(workspace, rows)
    shown = quoted(html)
    assert shown["placeholder_answer"] == ["4"]
    assert shown["exact_duplicate"] == ["8"]
    assert "like row 7, which is kept" in html
    assert 0 < len(shown[""]) <= page.NUM_SOUND
    assert shown.keys() - {""} <= {finding.id for finding in report.findings}


def test_the_page_stays_small_whatever_the_data(workspace):
    rows = [row(at, f"word{at} " * 4000) for at in range(200)]
    rows += [{"messages": [{"role": "user", "content": "x"}] * 500} for _ in range(5)]
    _, html = audited(workspace, rows)
    assert html.count('<details class="example">') <= page.MOST
    assert len(html) < 400_000
