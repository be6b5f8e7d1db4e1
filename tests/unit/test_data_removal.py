"""An audit that would remove more than was agreed asks, and deletes nothing."""

import json

import pytest

from ft_tools.data.request import AuditRequest
from ft_tools.data.tool import audit_dataset, audit_if_small
from ft_tools.data.understand.lengths import estimate_tokens


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


def test_agreeing_is_not_offered_where_too_few_rows_are_left_in_any_case(workspace):
    write(workspace / "data.jsonl", 20, 40)
    report = audit_dataset(AuditRequest(path="data.jsonl", near_duplicates="off"))
    assert {"too_many_removed", "too_few_for_any_goal"} <= {one.id for one in report.reasons}
    assert not any("max_removed_fraction" in step.arguments for step in report.next_steps)


def test_the_next_call_is_a_call_of_its_own_and_not_the_one_that_was_made(workspace):
    """A request id names one call; with another question it would be refused."""
    for num_copies in (2, 80):
        write(workspace / "data.jsonl", 60, num_copies)
        request = AuditRequest(path="data.jsonl", near_duplicates="off", request_id="mine")
        step = next(s for s in audit_dataset(request).next_steps if s.tool == "audit_dataset")
        assert step.arguments["near_duplicates"] == "off"
        assert "request_id" not in step.arguments


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


def test_a_concise_report_stays_small_however_much_is_found_and_says_what_it_leaves_out(workspace):
    """Of many findings the gravest stay: an agent pays for each word of a report."""
    answers = [
        "TODO",
        "",
        "I am {{name}}",
        "<|im_start|>x",
        "\x07bell",
        "ok",
        "As an AI, I cannot.",
    ]
    rows = [
        {"prompt": f"What is the number after {n}?", "completion": f"It is the number {n + 1}."}
        for n in range(40)
    ]
    rows += [{"prompt": f"What comes after {n}?", "completion": text}
             for n, text in enumerate(answers)] * 3  # fmt: skip
    rows += [
        {"text": "hello there"},
        {"prompt": "p", "chosen": "a", "rejected": "a"},
        {"foo": 1},
        {"prompt": "p", "completion": 5},
        {"messages": [{"role": "x", "content": "y"}]},
        {"messages": [{"role": "assistant", "content": "y"}]},
        {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
        {"prompt": "", "completion": "Write to ada@example.com"},
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    for name in ("data", "validation"):
        (workspace / f"{name}.jsonl").write_text(lines + "{\n", encoding="utf-8")
    request = AuditRequest(
        path="data.jsonl",
        validation_path="validation.jsonl",
        benchmark_paths=["data.jsonl"],
        max_removed_fraction=0.1,
        max_length=16,
    )
    report = audit_dataset(request)
    assert estimate_tokens(report.model_dump_json(exclude_none=True)) < 2000
    left_out = report.num_findings - len(report.findings)
    assert len(report.findings) >= 5
    assert f"{left_out} minor findings are not shown" in " ".join(report.assumptions)
    whole = audit_dataset(request.model_copy(update={"response_format": "detailed"}))
    shown = [finding.id for finding in report.findings]
    assert shown == [finding.id for finding in whole.findings[: len(shown)]]
    assert len(audit_if_small(request).findings) == report.num_findings
