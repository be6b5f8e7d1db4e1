"""create_dataset with real libraries: a local model as the teacher, and test rows by meaning."""

import shutil

import pytest

from tests.creating import planned_here, read, run_here, write
from tests.endpoint import serving
from tests.tiny.evaluating import LIBRARY_WARNINGS, rows

pytestmark = [pytest.mark.tiny, *LIBRARY_WARNINGS]


def test_a_local_model_teaches_and_what_it_said_is_not_asked_again(workspace, taught_model):
    shutil.copytree(taught_model, workspace / "tuned")
    asked = rows(8)
    write(workspace / "prompts.jsonl", asked)
    arguments = {
        "source": "prompts.jsonl",
        "kind": "answers",
        "teacher": {"model": "tuned", "decoding": {"regex": "(Oslo|Bergen|Narvik)"}},
        "checks": [{"kind": "pattern", "pattern": "Oslo|Bergen|Narvik"}],
        "validation_fraction": 0,
        "provider": "cleared",
    }
    launch, report = run_here(workspace, output_dir="made", **arguments)
    assert launch.plan["asking"]["sent_to"] is None
    assert report.num_kept + sum(report.dropped.values()) == 8
    made = read(workspace / "made" / "train.jsonl")
    assert report.num_kept == 8
    assert {row["messages"][1]["content"] for row in made} <= {"Oslo", "Bergen", "Narvik"}
    assert all(row["messages"][0] in [one["messages"][0] for one in asked] for row in made)
    origins = read(workspace / "made" / "origin.jsonl")
    assert {one["teacher"] for one in origins} == {"tuned"}
    again, _ = planned_here(workspace, "create-00000000000000cc", output_dir="more", **arguments)
    assert again.plan["asking"]["num_known"] == 8


def test_a_paraphrase_of_a_test_question_is_in_no_file(workspace):
    held = "How do I return a jacket that is too small?"
    paraphrase = "The jacket is too small, how can I return it?"
    other = "Write a haiku about snow and iron."
    write(workspace / "test.jsonl", [{"prompt": held, "completion": "x"}])
    write(workspace / "prompts.jsonl", [{"prompt": text} for text in (held, paraphrase, other)])
    with serving(lambda question, _: f"An answer of {len(question)}.") as server:
        _, report = run_here(
            workspace,
            source="prompts.jsonl",
            kind="answers",
            teacher={"endpoint": {"url": server.url, "model": "big"}},
            output_dir="made",
            test="test.jsonl",
            validation_fraction=0,
        )
    assert sorted(server.questions) == sorted([paraphrase, other])
    assert report.dropped == {"test_paraphrase": 1}
    (row,) = read(workspace / "made" / "train.jsonl")
    assert row["messages"][0]["content"] == other
