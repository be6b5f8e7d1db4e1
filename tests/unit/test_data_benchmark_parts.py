"""Benchmarks are compared by their parts: a question without its passage, an answer, a program."""

import json
import time

import pytest

from ft_tools.data.audit import perform
from ft_tools.data.repeats.benchmark_forms import items_of
from ft_tools.data.repeats.code_parts import (
    comments_of,
    is_program,
    shape_of,
    values_of,
    without_comments,
)
from ft_tools.data.request import AuditRequest

PASSAGE = (
    "The harbour of the town was built in a year of storms, and its keeper wrote it down. " * 3
)
ASKED = "Which storm broke the northern wall of the harbour?"
TASK = 'def widest(rows, least):\n    """ Return the widest of the rows that reach the least.\n    >>> widest([[1, 2], [3, 4, 5]], 2)\n    [3, 4, 5]\n    """\n'  # noqa: E501
SOLUTION = (
    "    best = None\n    for row in rows:\n        if len(row) >= least and (best is None or "
    "len(row) > len(best)):\n            best = row\n    return best\n"
)
SAME = (
    "def longest(lists, bound):\n    found = None\n    for one in lists:\n        if len(one) >= "
    "bound and (found is None or len(one) > len(found)):\n            found = one\n    return found"
)
PROBLEM = {
    "task_id": "Own/0",
    "prompt": TASK,
    "entry_point": "widest",
    "canonical_solution": SOLUTION,
    "test": "assert widest([[9, 8, 7]], 1) == [9, 8, 7]",
}
WORKED = "Ann has four nuts and gives two of them to her only brother, so two are left\n#### 2"
FORMS = {
    "HumanEval": PROBLEM,
    "MBPP": {"text": "Write a function that sums up.", "code": SOLUTION, "test_list": []},
    "GSM8K": {"question": "How many nuts are left to Ann now?", "answer": WORKED},
    "MATH": {"problem": "How many nuts are left to Ann?", "solution": "2", "level": "Level 1"},
    "MMLU": {"question": ASKED, "choices": ["a", "b"], "answer": 1, "subject": "x"},
    "IFEval": {"key": 1, "prompt": "Write two lines about a harbour.", "instruction_id_list": []},
    "GPQA": {"Question": ASKED, "Correct Answer": "a", "Incorrect Answer 1": "b"},
}


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def flagged(workspace):
    """Return the lines that an audit takes for a benchmark's, and what it says of its reach."""

    def run(benchmark, rows):
        write(workspace / "b.jsonl", [benchmark])
        others = [{"prompt": f"Where is parcel {at}?", "completion": "x"} for at in range(20)]
        write(workspace / "d.jsonl", [*rows, *others])
        report = perform(AuditRequest(path="d.jsonl", benchmark_paths=["b.jsonl"]))
        found = {f.id: f.lines for f in report.findings}
        return found.get("benchmark_ngram", []), " ".join(report.assumptions)

    return run


@pytest.mark.parametrize("name", FORMS)
def test_a_published_benchmark_is_recognized_by_its_columns(flagged, name):
    _, notes = flagged(FORMS[name], [])
    assert f"recognized by the form of its file: {name} (1 rows)" in notes


def test_the_files_of_mmlu_have_no_header_and_the_first_question_is_read_too(workspace):
    path = workspace / "town_test.csv"
    path.write_text(f'"{ASKED}",one,two,three,four,B\n"Who kept it?",a,b,c,d,A\n', encoding="utf-8")
    assert [(item.question, item.asked, item.benchmark) for item in items_of(path)] == [
        (ASKED, ASKED, "MMLU"),
        ("Who kept it?", "Who kept it?", "MMLU"),
    ]


def test_a_question_is_found_without_the_passage_before_it(flagged):
    rows = [{"prompt": ASKED, "completion": "The first."}]
    found, notes = flagged({"question": f"{PASSAGE}\n{ASKED}"}, rows)
    assert found == [1]
    assert "1 questions without their passage or choices" in notes


def test_a_question_that_fits_every_passage_is_not_looked_for_alone_and_that_is_said(flagged):
    general = "Which of the following best describes the passage above?"
    rows = [{"prompt": general, "completion": "The first."}]
    found, notes = flagged({"question": f"{PASSAGE}\n{general}"}, rows)
    assert found == []
    assert "1 questions fit many passages" in notes


@pytest.mark.parametrize(
    ("benchmark", "answer"),
    [(FORMS["GSM8K"], WORKED), (PROBLEM, TASK), (PROBLEM, SAME)],
    ids=["worked answer", "task", "program with other names"],
)
def test_what_stands_in_an_answer_is_found(flagged, benchmark, answer):
    rows = [{"prompt": "Give an example.", "completion": answer}]
    assert flagged(benchmark, rows)[0] == [1]


def test_another_program_is_not_taken_for_the_benchmarks(flagged):
    other = "def total(rows):\n    count = 0\n    for row in rows:\n        count += len(row)\n"
    other += "    print(count)\n    return {name: count for name in rows if name}"
    assert flagged(PROBLEM, [{"prompt": "Sum up.", "completion": other}])[0] == []


def test_programs_and_answers_that_are_too_short_are_counted(flagged):
    _, notes = flagged({**PROBLEM, "canonical_solution": "    return rows[0]\n"}, [])
    assert "1 programs are too short" in notes
    _, notes = flagged({"question": "How many nuts are left to Ann?", "answer": "#### 2"}, [])
    assert "1 answers are shorter than 13 words" in notes


def test_a_program_says_what_it_does_in_comments_of_any_language():
    script = f"```javascript\n/**\n * {'Return the widest of the rows'}.\n * @param rows\n */\n```"
    assert comments_of(script) == ["Return the widest of the rows."]
    assert comments_of(TASK) == ["Return the widest of the rows that reach the least."]
    assert values_of(TASK) >= {"1,2", "3,4,5"}
    assert "Return the widest" not in without_comments(TASK)
    assert shape_of(SAME)[8:] == shape_of(TASK.split("\n")[0] + "\n" + SOLUTION)[8:]


@pytest.mark.parametrize(
    "text", ['"""' * 7000, "/*" * 10_000, "'" * 20_000, "1, " * 7000, "//\n" * 7000]
)
def test_a_hostile_text_takes_no_longer_than_a_plain_one(text):
    began = time.process_time()
    for function in (comments_of, without_comments, values_of, shape_of, is_program):
        function(text)
    assert time.process_time() - began < 1
