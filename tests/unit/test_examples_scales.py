"""Scales need a threshold, which is declared once and means the same wherever a scale is used."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from ft_tools.contract import complaints
from ft_tools.data.prepare.request import PrepareRequest
from ft_tools.data.prepare.tool import prepare_dataset
from ft_tools.data.request import AuditRequest
from ft_tools.data.tool import audit_dataset
from ft_tools.errors import BadInput
from tests.unit.taken_steps import taken

SCALES = {
    "one to five": ([1, 2, 3, 4, 5], ">=4"),
    "stars as text": (["1 star", "2 stars", "3 stars", "4 stars", "5 stars"], ">=4"),
    "of ten": ([f"{at}/10" for at in range(11)], ">=7"),
    "zero to ten": (list(range(11)), ">=7"),
    "minus one to one": ([-1, 0, 1], ">=1"),
    "fractions": ([at / 20 for at in range(21)], ">=0.6"),
    "percent": ([f"{at} %" for at in range(101)], ">=60"),
}


def number(value):
    return float(str(value).split("/")[0].split()[0])


def write(path, values, count=120):
    """Write every question with two answers, so that good ones can be paired with bad ones."""
    rows = [
        {
            "question": f"Where does number {at // 2} live?",
            "answer": f"It lives in house {at * 7} by the sea.",
            "score": values[at * 13 % len(values)],
        }
        for at in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return {row["answer"]: row["score"] for row in rows}


def prepared(**arguments):
    return prepare_dataset(PrepareRequest(**arguments))


def written(report):
    parts = (report.outputs.train, report.outputs.validation, report.outputs.test)
    texts = [Path(part).read_text(encoding="utf-8") for part in parts]
    return [json.loads(line) for text in texts for line in text.splitlines()]


@pytest.mark.parametrize("name", SCALES)
@pytest.mark.parametrize("use", ["filter", "drop_bad", "pair", "marks"])
def test_a_scale_is_asked_about_and_its_threshold_means_the_same_for_every_use(
    workspace, name, use
):
    values, condition = SCALES[name]
    scores = write(workspace / "d.jsonl", values)
    undecided = prepared(
        path="d.jsonl", mapping={"verdicts": {"score": use}}, contradictions="keep"
    )
    assert condition in undecided.questions[0]
    (step,) = undecided.next_steps
    assert step.arguments["mapping"]["good_values"] == {"score": [condition]}
    with pytest.raises(BadInput, match=r"set mapping\.good_values"):
        prepared(
            path="d.jsonl",
            mapping=undecided.mapping,
            contradictions="keep",
            confirm=undecided.mapping_hash,
            output_dir="no",
        )
    report = taken(undecided)
    limit = float(condition.removeprefix(">="))
    good = {answer for answer, score in scores.items() if number(score) >= limit}
    rows = written(report)
    assert rows
    if use in {"filter", "drop_bad"}:
        assert {row["messages"][-1]["content"] for row in rows} <= good
    if use == "pair":
        assert {row["chosen"][0]["content"] for row in rows} <= good
        assert good.isdisjoint(row["rejected"][0]["content"] for row in rows)
    if use == "marks":
        assert all(row["label"] == (row["completion"][0]["content"] in good) for row in rows)
        assert len(rows) == 120
    assert report.counts == undecided.counts


@pytest.mark.parametrize("name", SCALES)
def test_the_step_that_an_audit_offers_for_a_scale_is_carried_out(workspace, name):
    values, condition = SCALES[name]
    scores = write(workspace / "d.jsonl", values)
    report = audit_dataset(AuditRequest(path="d.jsonl"))
    step = next(s for s in report.next_steps if s.arguments.get("verdicts"))
    assert step.arguments["verdicts"] == {"score": [condition]}
    kept = audit_dataset(AuditRequest(**step.arguments))
    limit = float(condition.removeprefix(">="))
    assert kept.num_usable == sum(number(score) >= limit for score in scores.values())
    assert not any(finding.id == "verdict_column" for finding in kept.findings)


@pytest.mark.parametrize(
    ("good", "kept"),
    [
        ([4, 5], 48),
        (["4", "5"], 48),
        ([4.0, "5 stars"], 48),
        ([">=4"], 48),
        (">= 4", 48),
        (["<=2"], 48),
        ([5], 24),
    ],
)
def test_good_values_are_numbers_texts_or_a_condition(workspace, good, kept):
    write(workspace / "d.jsonl", [1, 2, 3, 4, 5])
    report = audit_dataset(AuditRequest(path="d.jsonl", verdicts={"score": good}))
    assert report.num_usable == kept
    shown = prepared(path="d.jsonl", mapping={"verdicts": {"score": "filter"}, "good_values": good})
    assert shown.questions == []
    assert shown.counts["marked_bad"] == 120 - kept


def test_a_decision_of_another_kind_is_refused_without_names_of_types(workspace):
    with pytest.raises(ValidationError) as refused:
        AuditRequest(path="d.jsonl", verdicts={"score": "fliter"})
    (line,) = complaints(AuditRequest, refused.value)
    assert line.startswith("verdicts.score: must be 'filter', ")
    assert ' or a list, such as ["fliter"]' in line
    assert line.endswith("did you mean 'filter'?")


def test_one_star_is_no_good_mark_where_a_scale_is_mapped_to_the_label(workspace):
    write(workspace / "d.jsonl", [1, 2, 3, 4, 5])
    columns = {"prompt": "question", "completion": "answer", "label": "score"}
    with pytest.raises(BadInput, match=r"pass verdicts={'score': \['>=4'\]}"):
        audit_dataset(AuditRequest(path="d.jsonl", columns=columns))
    report = audit_dataset(
        AuditRequest(path="d.jsonl", columns=columns, verdicts={"score": [">=4"]})
    )
    assert (report.task, report.num_usable, report.shape["num_disliked"]) == ("kto", 120, 72)


def test_two_scales_have_thresholds_of_their_own(workspace):
    rows = [
        {
            "question": f"Where does number {at} live?",
            "answer": f"It lives in house {at * 7} by the sea.",
            "stars": 1 + at % 5,
            "score": at % 11,
        }
        for at in range(110)
    ]
    (workspace / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    shown = prepared(path="d.jsonl")
    report = taken(shown)
    assert report.mapping.good_values == {"stars": [">=4"], "score": [">=7"]}
    both = [row for row in rows if row["stars"] >= 4 and row["score"] >= 7]
    assert len(written(report)) == len(both)
