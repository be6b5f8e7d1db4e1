"""An audit that would remove more than was agreed asks, and deletes nothing."""

import json

import pytest

from ft_tools.data.audit import audit_dataset
from ft_tools.data.reports import AuditRequest


def write(path, num_different, num_copies):
    rows = [
        {"prompt": f"What is the number after {n}?", "completion": f"It is the number {n + 1}."}
        for n in [*range(num_different), *[0] * num_copies]
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.mark.parametrize(("num_copies", "asks"), [(20, False), (21, True)])
def test_more_than_half_gone_is_asked_about_and_half_is_not(workspace, num_copies, asks):
    write(workspace / "data.jsonl", 20, num_copies)
    request = AuditRequest(path="data.jsonl", output_dir="out", near_duplicates="off")
    report = audit_dataset(request)
    assert report.num_usable == 20
    assert (report.outputs is None) == asks
    assert (workspace / "out").exists() != asks
    assert (report.verdict == "not_ready") == asks


def test_the_answer_yes_is_a_call_that_writes(workspace):
    write(workspace / "data.jsonl", 20, 40)
    request = AuditRequest(path="data.jsonl", output_dir="out", near_duplicates="off")
    step = next(s for s in audit_dataset(request).next_steps if s.tool == "audit_dataset")
    assert step.arguments["max_removed_fraction"] == 1.0
    report = audit_dataset(AuditRequest(**step.arguments))
    assert report.outputs.num_removed == 40
    assert (workspace / "out" / "train.jsonl").exists()


def test_the_next_call_is_a_call_of_its_own_and_not_the_one_that_was_made(workspace):
    """A request id names one call; with another question it would be refused."""
    for num_copies in (2, 40):
        write(workspace / "data.jsonl", 20, num_copies)
        request = AuditRequest(path="data.jsonl", near_duplicates="off", request_id="mine")
        step = next(s for s in audit_dataset(request).next_steps if s.tool == "audit_dataset")
        assert step.arguments["near_duplicates"] == "off"
        assert "request_id" not in step.arguments


def test_nobody_is_asked_to_agree_to_lose_everything(workspace):
    rows = [{"history": f"Row {n}", "reply": "x"} for n in range(20)]
    (workspace / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = audit_dataset(AuditRequest(path="data.jsonl", output_dir="out"))
    assert report.removed_by == {"unknown_format": 20}
    assert [step.tool for step in report.next_steps] == ["show_examples"]


def test_a_row_that_goes_for_another_reason_is_not_said_to_be_kept(workspace):
    rows = [
        {"prompt": f"How is {n} spelt?", "completion": f"It is {n} in words."} for n in range(20)
    ]
    secret = {"prompt": "Who?", "completion": f"ada.king@mail.internal, hf_{'Ab3' * 10}"}
    lines = "".join(json.dumps(row) + "\n" for row in [*rows, secret])
    (workspace / "data.jsonl").write_text(lines)
    report = audit_dataset(AuditRequest(path="data.jsonl", near_duplicates="off"))
    assert report.removed_by == {"secret": 1}
    removed = {finding.id: finding.removed for finding in report.findings}
    assert removed == {"secret": True, "personal_data_in_answer": True}
