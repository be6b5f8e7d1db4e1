"""Benchmark files: which columns are questions, and that none is taken for checked that is not."""

import json

import pytest

from ft_tools.data.audit import perform
from ft_tools.data.reports import AuditRequest
from ft_tools.errors import BadData

ASKED = "How many apples are left in the basket when Ann has given four of nine to her brother"
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


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture
def audit(workspace):
    rows = [{"prompt": f"Which town has the number {at}?", "completion": "x"} for at in range(12)]
    rows[4]["prompt"] = f"Tell me: {ASKED}?"
    write(workspace / "d.jsonl", rows)

    def run(questions):
        write(workspace / "b.jsonl", questions)
        return perform(AuditRequest(path="d.jsonl", benchmark_paths=["b.jsonl"]))

    return run


@pytest.mark.parametrize("name", FORMS)
def test_the_question_is_found_in_the_usual_columns(audit, name):
    report = audit([FORMS[name]])
    assert {f.id: f.lines for f in report.findings}["benchmark_ngram"] == [5]


def test_a_benchmark_without_a_question_is_refused_with_the_cure(audit):
    with pytest.raises(BadData, match="give the column with the questions the name `question`"):
        audit([{"aufgabe": ASKED, "loesung": "5"}, {"question": " ", "answer": "5"}])


def test_rows_without_a_question_and_short_questions_are_counted_and_not_as_checked(audit):
    report = audit([FORMS["gsm8k"], {"other": "x"}, {"question": "", "answer": "5"}])
    notes = " ".join(report.assumptions)
    assert "1 benchmark questions were looked for" in notes
    assert "2 benchmark rows hold no question" in notes
    assert "fewer than" not in notes
    short = audit([FORMS["gsm8k"], {"question": "What is it?", "answer": "5"}])
    assert "1 benchmark questions have fewer than 5 words" in " ".join(short.assumptions)
