"""The demo's data: preparation and audit find what was planted, and only that."""

import csv
import json

import pytest

from ft_tools.data.request import AuditRequest
from ft_tools.data.tool import audit_dataset
from tests.demo_tickets import make

PLANTED = json.loads((make.FOLDER / "planted.json").read_text(encoding="utf-8"))
with (make.FOLDER / "tickets.csv").open(encoding="utf-8", newline="") as file:
    TABLE = list(csv.DictReader(file))
DEFECTS = {number for rows in PLANTED.values() for number in rows}


@pytest.fixture
def made(workspace):
    return make.prepared(workspace)


def rows(path):
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def asked(path):
    return [row["messages"][1]["content"] for row in rows(path)]


def messages(*names):
    """Return the messages of planted rows."""
    return {TABLE[number - 1]["message"] for name in names for number in PLANTED[name]}


def audit(made):
    return audit_dataset(
        AuditRequest(path=made.train, validation_path=made.validation, output_dir="clean")
    )


def test_each_planted_defect_is_found_for_its_reason(made):
    apart = {row["row"]: row["reason"] for row in (*rows(made.unlabelled), *rows(made.removed))}
    assert apart == (
        dict.fromkeys(PLANTED["empty_answer"], "no_answer")
        | dict.fromkeys(PLANTED["placeholder_answer"], "dropped")
        | dict.fromkeys(PLANTED["exact_duplicate"], "exact_duplicate")
    )
    parts = asked(made.train), asked(made.validation), asked(made.test)
    similar = messages("near_duplicate")
    # Similar messages stay in one part, with their original: none is on both sides of the split.
    assert similar <= {*parts[0], *parts[1], *parts[2]}
    report = audit(made)
    removed = rows(report.outputs.removed)
    assert {row["reason"] for row in removed} == {"near_duplicate"}
    assert len(removed) == len(similar & {*parts[0], *parts[1]})
    assert report.verdict == "ready_after_cleaning"


def test_no_clean_row_is_left_out_and_none_is_in_two_parts(made):
    clean = {row["message"] for number, row in enumerate(TABLE, 1) if number not in DEFECTS}
    files = audit(made).outputs
    kept = [*asked(files.train), *asked(files.validation), *asked(made.test)]
    assert len(kept) == len(set(kept))
    # Of a message and its near copy either one may be the one that stays.
    originals = clean - set(kept)
    assert len(originals) <= len(PLANTED["near_duplicate"])
    assert (made.num_test, made.num_validation) == (71, 33)


def test_the_leaked_addresses_are_in_no_file_that_is_trained_on_or_shared(made, workspace):
    audit(made)
    assert "lindqvist" in (make.FOLDER / "tickets.csv").read_text(encoding="utf-8")
    for path in (*workspace.glob("data/*"), *workspace.glob("clean/*")):
        assert "lindqvist" not in path.read_text(encoding="utf-8"), path


def test_no_test_message_is_near_a_training_message(made):
    report = audit_dataset(
        AuditRequest(path=made.test, validation_path=made.train, deduplicate_on="prompt")
    )
    leaks = [f for f in report.findings if not f.in_validation and "leak" in f.id]
    assert leaks == []


def test_the_files_are_what_the_generator_makes(tmp_path, monkeypatch):
    shipped = make.FOLDER
    monkeypatch.setattr(make, "FOLDER", tmp_path)
    make.main()
    assert {path.name for path in tmp_path.iterdir()} == {"tickets.csv", "planted.json"}
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (shipped / path.name).read_bytes()
