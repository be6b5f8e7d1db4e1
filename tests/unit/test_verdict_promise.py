"""No run trains on rows that somebody marked bad unless a decision about the marks is recorded."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from ft_tools.data.prepare.request import PrepareRequest
from ft_tools.data.prepare.tool import prepare_dataset
from ft_tools.data.request import AuditRequest
from ft_tools.data.tool import audit_dataset
from ft_tools.errors import BadInput, Refused
from ft_tools.formats import verdict_words
from ft_tools.formats.verdicts import is_reversed
from ft_tools.training.request import DpoRequest, SftRequest
from ft_tools.training.tool import launch_dpo, launch_sft
from tests.unit.test_training_launch import files

__all__ = ["files"]

# Shared by all examples of a test: each writes its files anew.
SHARED = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
GOOD_LINES, BAD_LINES = (
    [line.split() for line in words.split("\n") if line]
    for words in (verdict_words.GOOD, verdict_words.BAD)
)
WORDS = [
    pair
    for good, bad in zip(GOOD_LINES, BAD_LINES, strict=False)
    for pair in zip(good, bad, strict=False)
]
"""A good and a bad word of the same line: of the same language, mostly."""
NUMBERS = [
    (1, 0), (1, -1), (5, 1), (4, 2), (10, 0), (0.9, 0.1), (1.0, -0.5), (100, 3), (True, False),
    ("1", "0"), ("5/5", "1/5"), ("8/10", "3/10"), ("90%", "10 %"), ("4 stars", "1 star"),
    ("4,5", "1,5"), ("+1", "-1"), ("true", "false"),
]  # fmt: skip
spelt = st.sampled_from(WORDS + NUMBERS)
names = st.sampled_from(sorted({*verdict_words.NAMES.split(), "x", "spalte_7", "q.mark"}))
changes = st.sampled_from([None, str.upper, str.title, lambda text: f" {text}! "])


def marked(spelling, change, count=60):
    """Return a mark for each row, every third one bad."""
    good, bad = (change(v) if change and isinstance(v, str) else v for v in spelling)
    return [bad if at % 3 == 0 else good for at in range(count)]


def with_column(row, name, mark):
    """Put a mark into a row, into an object of it if the name has a dot."""
    head, _, inner = name.partition(".")
    return row | ({head: {inner: mark}} if inner else {head: mark})


def rows_of(kind, name, marks):
    said = [f"It lives in house {at * 7} by the sea." for at in range(len(marks))]
    asked = [f"Where does number {at} live?" for at in range(len(marks))]
    turns = [
        ([{"role": "user", "content": q}], [{"role": "assistant", "content": a}])
        for q, a in zip(asked, said, strict=True)
    ]
    made = {
        "messages": [{"messages": q + a} for q, a in turns],
        "texts": [{"prompt": q, "completion": a} for q, a in zip(asked, said, strict=True)],
        "pairs": [
            {"prompt": q, "chosen": a, "rejected": [{"role": "assistant", "content": f"No, {at}"}]}
            for at, (q, a) in enumerate(turns)
        ],
        "marks": [
            {"prompt": q, "completion": a, "label": at % 2 == 0} for at, (q, a) in enumerate(turns)
        ],
    }[kind]
    return [with_column(row, name, mark) for row, mark in zip(made, marks, strict=True)]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def launched(kind, **arguments):
    """Ask for a plan of what the rows are for."""
    if kind in {"messages", "texts"}:
        return launch_sft(SftRequest(model="instruct", dataset="d.jsonl", **arguments))
    return launch_dpo(DpoRequest(model="instruct", dataset="d.jsonl", **arguments))


@SHARED
@given(
    kind=st.sampled_from(["messages", "texts", "pairs", "marks"]),
    spelling=spelt,
    name=names,
    change=changes,
)
def test_no_launch_passes_a_mark_of_any_spelling_unless_the_user_accepts_it(
    files, kind, spelling, name, change
):
    # A marked answer's own label is what KTO reads.
    assume(not (kind == "marks" and name in {"label", "prompt", "completion"}))
    write(files / "d.jsonl", rows_of(kind, name, marked(spelling, change)))
    with pytest.raises(Refused, match=r"^verdict_column: "):
        launched(kind)
    reason = {"accept_findings": ["verdict_column"], "accept_reason": "the user said so"}
    plan = launched(kind, **reason).plan
    assert plan["accepted"] == ["verdict_column"]
    assert plan["accept_reason"] == "the user said so"


@SHARED
@given(spelling=spelt, name=names, change=changes)
def test_what_an_audit_writes_after_the_decision_that_it_offers_has_no_bad_row(
    files, spelling, name, change
):
    # "yes" of what is wrong is bad: the next test.
    assume(not is_reversed(name))
    marks = marked(spelling, change)
    write(files / "d.jsonl", rows_of("messages", name, marks))
    undecided = audit_dataset(AuditRequest(path="d.jsonl", output_dir="no"))
    assert undecided.outputs is None
    steps = [s for s in undecided.next_steps if s.arguments.get("verdicts")]
    assert [list(step.arguments["verdicts"]) for step in steps] == [[name]]
    folder = f"out-{len(list(files.iterdir()))}"
    report = audit_dataset(AuditRequest(**steps[0].arguments | {"output_dir": folder}))
    assert report.removed_by == {"marked_bad": 20}
    written = [Path(report.outputs.train), Path(report.outputs.validation)]
    texts = "".join(path.read_text(encoding="utf-8") for path in written)
    assert not any(f"number {at} live" in texts for at in range(0, 60, 3))
    assert sum(f"number {at} live" in texts for at in range(60)) == 40


@pytest.mark.parametrize("name", ["is_toxic", "flagged", "hallucination", "review.rejected"])
@pytest.mark.parametrize(
    ("bad", "good", "offered"),
    [
        (True, False, [False]),
        ("yes", "no", ["no"]),
        (1, 0, [0]),
        (0.9, 0.1, ["<=0.4"]),
        (5, 1, ["<=2"]),
        ("good", "bad", "filter"),
    ],
)
def test_yes_in_a_column_of_what_is_wrong_is_not_taken_for_good(files, name, bad, good, offered):
    marks = [bad if at % 3 == 0 else good for at in range(60)]
    write(files / "d.jsonl", rows_of("messages", name, marks))
    report = audit_dataset(AuditRequest(path="d.jsonl"))
    (step,) = [s for s in report.next_steps if s.arguments.get("verdicts")]
    assert step.arguments["verdicts"] == {name: offered}
    if offered == "filter":
        return
    assert audit_dataset(AuditRequest(**step.arguments)).num_usable == 40
    with pytest.raises(BadInput, match="nobody said which values are good"):
        audit_dataset(AuditRequest(path="d.jsonl", verdicts={name: "filter"}))
    shown = prepare_dataset(PrepareRequest(path="d.jsonl"))
    assert shown.next_steps[0].arguments["mapping"]["good_values"] == {name: offered}
    made = prepare_dataset(PrepareRequest(**shown.next_steps[0].arguments))
    assert made.counts["marked_bad"] == 20
