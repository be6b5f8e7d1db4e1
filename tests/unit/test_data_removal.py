"""An audit that would remove more than was agreed asks, and deletes nothing."""

import json

import pytest

from ft_tools.data.request import AuditRequest
from ft_tools.data.tool import audit_dataset


def write(path, num_different, num_copies):
    rows = [
        {"prompt": f"What is the number after {n}?", "completion": f"It is the number {n + 1}."}
        for n in [*range(num_different), *[0] * num_copies]
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.mark.parametrize(("num_copies", "asks"), [(60, False), (61, True)])
def test_more_than_half_gone_is_asked_about_and_half_is_not(workspace, num_copies, asks):
    write(workspace / "data.jsonl", 60, num_copies)
    request = AuditRequest(path="data.jsonl", output_dir="out", near_duplicates="off")
    report = audit_dataset(request)
    assert report.num_usable == 60
    assert (report.outputs is None) == asks
    assert (workspace / "out").exists() != asks
    assert (report.verdict == "not_ready") == asks
