"""Benchmark files: which columns are questions, and that none is taken for checked that is not."""

import pytest

from ft_tools.data.audit import perform
from ft_tools.data.request import AuditRequest
from ft_tools.errors import BadData
from tests.unit.jsonl import write

ASKED = "How many apples are left in the basket when Ann has given four of nine to her brother"
ANSWER = {"role": "assistant", "content": "It is at the depot."}
FORMS = {
    "gsm8k": {"question": ASKED, "answer": "5"},
    "math": {"problem": ASKED, "level": "Level 1", "solution": "5"},
    "hellaswag": {"ind": 1, "ctx_a": "How", "ctx": ASKED, "endings": ["4", "5"], "label": 1},
    "winogrande": {"sentence": ASKED, "option1": "4", "option2": "5", "answer": "2"},
    "piqa": {"goal": ASKED, "sol1": "4", "sol2": "5", "label": 1},
    "arc": {"id": "a", "question": {"stem": ASKED, "choices": []}, "answerKey": "B"},
    "mt_bench": {"question_id": 1, "turns": [ASKED, "And now?"]},
    "capitals": {"Problem": ASKED},
}


@pytest.fixture
def audit(workspace):
    rows = [{"prompt": f"Which town has the number {at}?", "completion": "x"} for at in range(12)]
    rows[4]["prompt"] = f"Tell me: {ASKED}?"
    write(workspace / "d.jsonl", rows)

    def run(questions, means=None, **arguments):
        write(workspace / "b.jsonl", questions)
        request = AuditRequest(path="d.jsonl", benchmark_paths=["b.jsonl"], **arguments)
        return perform(request, means)

    return run


@pytest.mark.parametrize("name", FORMS)
def test_the_question_is_found_in_the_usual_columns(audit, name):
    report = audit([FORMS[name]])
    assert {f.id: f.rows for f in report.findings}["benchmark_ngram"] == [5]


def test_a_benchmark_without_a_question_is_refused_with_the_cure(audit):
    with pytest.raises(BadData, match="give the column with the questions the name `question`"):
        audit([{"aufgabe": ASKED, "loesung": "5"}, {"question": " ", "answer": "5"}])


def test_a_validation_file_that_is_the_benchmark_stays_whole(audit):
    """What is tested on may be a benchmark; what is trained on may not hold it."""
    report = audit([FORMS["gsm8k"]], validation_path="b.jsonl", output_dir="out")
    found = {
        f.in_validation: (f.rows, f.removed, f.severity) for f in report.findings if "bench" in f.id
    }
    assert found == {None: ([5], True, "error"), True: ([1], False, "info")}
    assert len({f.cure for f in report.findings if "bench" in f.id}) == 2
    assert (report.outputs.num_train, report.outputs.num_validation) == (11, 1)


@pytest.mark.parametrize("question", [ASKED, "Which planet is the largest of all?"])
@pytest.mark.parametrize("turn", [0, 1])
def test_a_question_is_found_wherever_in_a_conversation_it_is_asked(workspace, question, turn):
    """A short one is no part of 13 words, and the conversation goes on about other things."""
    asked = [f"Where is parcel {at}?" for at in range(24)]
    asked[8 + turn] = question
    rows = [
        [turn for text in pair for turn in ({"role": "user", "content": text}, ANSWER)]
        for pair in zip(asked[::2], asked[1::2], strict=True)
    ]
    write(workspace / "d.jsonl", [{"messages": row} for row in rows])
    write(workspace / "b.jsonl", [{"question": question}])
    report = perform(AuditRequest(path="d.jsonl", benchmark_paths=["b.jsonl"]))
    assert {f.id: f.rows for f in report.findings}["benchmark_ngram"] == [5]
