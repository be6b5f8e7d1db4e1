"""The demo's data: the audit finds what was planted, and only that."""

import json
from importlib.resources import files

import pytest

from ft_tools.data.request import AuditRequest
from ft_tools.data.tool import audit_dataset
from tests.demo_tickets import make

NAMES = ("tickets.jsonl", "tickets_validation.jsonl", "tickets_heldout.jsonl")


@pytest.fixture
def demo(workspace):
    for name in (*NAMES, "planted.json"):
        (workspace / name).write_bytes(files("ft_tools.demo.data").joinpath(name).read_bytes())
    return workspace


def rows(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_each_planted_defect_is_removed_for_its_reason_and_no_clean_example_is(demo):
    request = AuditRequest(
        path=NAMES[0], validation_path=NAMES[1], output_dir="clean", response_format="detailed"
    )
    report = audit_dataset(request)
    removed = rows(demo / "clean" / "removed.jsonl")
    found = {}
    for row in removed:
        found.setdefault(row["reason"], []).append(row["line"])
    assert found == json.loads((demo / "planted.json").read_text(encoding="utf-8"))
    assert report.verdict == "ready_after_cleaning"
    assert report.outputs.num_train == 309 - 29
    # What is counted is the training file; the validation file is only compared with it.
    assert (report.num_examples, report.format_fraction) == (309, 1.0)
    assert report.shape["num_with_system"] == 309
    assert [one.trained for one in report.trainer_survival] == [303] * 4


def test_the_validation_example_stays_and_its_training_twin_goes(demo):
    request = AuditRequest(path=NAMES[0], validation_path=NAMES[1], output_dir="clean")
    report = audit_dataset(request)
    assert report.outputs.num_validation == 32
    validation = {row["messages"][1]["content"] for row in rows(demo / "clean/validation.jsonl")}
    train = {row["messages"][1]["content"] for row in rows(demo / "clean/train.jsonl")}
    assert len(validation) == 32
    assert not validation & train


def test_the_leaked_address_is_in_no_output(demo):
    audit_dataset(AuditRequest(path=NAMES[0], output_dir="clean"))
    assert "lindqvist" in (demo / NAMES[0]).read_text(encoding="utf-8")
    for path in (demo / "clean").iterdir():
        assert "lindqvist" not in path.read_text(encoding="utf-8")


def test_the_held_out_file_is_clean(demo):
    report = audit_dataset(AuditRequest(path="tickets_heldout.jsonl"))
    assert {reason.id for reason in report.reasons} <= {"too_few_for_any_goal"}
    assert report.findings == []


def test_no_held_out_message_is_near_a_training_message(demo):
    report = audit_dataset(
        AuditRequest(path=NAMES[2], validation_path=NAMES[0], deduplicate_on="prompt")
    )
    assert [f.id for f in report.findings if not f.in_validation] == []


def test_the_files_are_what_the_generator_makes(demo, tmp_path, monkeypatch):
    again = tmp_path / "again"
    again.mkdir()
    monkeypatch.setattr(make, "FOLDER", again)
    make.main()
    assert {path.name for path in again.iterdir()} == {path.name for path in demo.glob("*.json*")}
    for path in again.iterdir():
        assert path.read_bytes() == (demo / path.name).read_bytes()
