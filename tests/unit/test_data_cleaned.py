"""What an audit writes, and the call that it proposes next, are what the launch tools take."""

import json
from pathlib import Path

import pytest

from ft_tools.data.request import AuditRequest
from ft_tools.data.tool import audit_dataset
from ft_tools.errors import BadData
from ft_tools.formats.training_rows import survey, task_of

FIRST = ("Ada", "Bo", "Cy", "Dee", "Ed", "Flo", "Gus", "Hal", "Ina", "Jo", "Kim", "Lou")
NAMES = [f"{first}{last}" for first in FIRST for last in "klmnr"]


def user(name):
    return {"role": "user", "content": f"Where does {name} live?"}


def assistant(name):
    return {"role": "assistant", "content": f"{name} lives in the house by the lake."}


def rows_of(make):
    return [make(name) for name in NAMES]


def chat(name):
    return {"messages": [user(name), assistant(name)]}


def text(name):
    return {"text": f"It is told of {name} that the lake was once a field of barley."}


def pair(name):
    chosen, rejected = sides(name)
    return {"prompt": user(name)["content"], "chosen": chosen, "rejected": rejected}


def sides(name):
    """Return two answers of which either kind is now the better and now the worse one."""
    answers = [assistant(name)["content"], f"No idea about {name}."]
    return answers if len(name) % 2 else answers[::-1]


def mark(name):
    return {"prompt": user(name)["content"], "completion": f"By the lake, {name}.", "label": True}


def write(workspace, rows, name="d.jsonl"):
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (workspace / name).write_text(lines, encoding="utf-8")


def audit(**arguments):
    arguments = {"path": "d.jsonl", "output_dir": "out"} | arguments
    return audit_dataset(AuditRequest(near_duplicates="off", **arguments))


def written(workspace, part):
    lines = (workspace / "out" / f"{part}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def found(report):
    return {finding.id: finding for finding in report.findings}


def tools_called(report):
    return [step.tool for step in report.next_steps]


TRAILING = [
    [user("Zoe")],
    [{"role": "tool", "content": "lake"}],
    [{"role": "tool", "content": "lake"}, user("Zoe")],
]


@pytest.mark.parametrize("trailing", TRAILING)
def test_what_stands_behind_the_last_answer_is_cut_and_the_file_can_be_trained_on(
    workspace, trailing
):
    write(workspace, rows_of(lambda name: {"messages": [*chat(name)["messages"], *trailing]}))
    report = audit()
    assert found(report)["ends_with_user"].count == 60
    assert tools_called(report) == ["launch_sft", "evaluate"]
    rows = [*written(workspace, "train"), *written(workspace, "validation")]
    assert sorted(map(json.dumps, rows)) == sorted(map(json.dumps, rows_of(chat)))
    assert survey(workspace / "out" / "train.jsonl", "sft").num_examples == 54
    assert tools_called(audit(output_dir=None)) == ["audit_dataset"]


@pytest.mark.parametrize(("many", "few"), [(chat, text), (text, chat)])
def test_plain_texts_and_conversations_are_never_in_one_cleaned_file(workspace, many, few):
    write(workspace, [*rows_of(many), *rows_of(few)[:3]])
    report = audit()
    assert report.verdict == "ready_after_cleaning"
    assert found(report)["other_task"].rows == [61, 62, 63]
    assert report.removed_by == {"other_task": 3}
    assert survey(workspace / "out" / "train.jsonl", "sft").num_examples == 54
    with pytest.raises(BadData, match="the lines before are"):
        survey(workspace / "d.jsonl", "sft")


def test_cleaned_marked_answers_go_to_launch_dpo_and_never_to_launch_sft(workspace):
    write(workspace, rows_of(mark))
    for report in (audit(), audit(output_dir=None)):
        assert report.task == "kto"
        assert "launch_sft" not in tools_called(report)
    written = audit(output_dir="again")
    (step,) = [step for step in written.next_steps if step.tool == "launch_dpo"]
    assert task_of(Path(step.arguments["dataset"])) == "kto"
    assert survey(Path(step.arguments["dataset"]), "kto").num_good > 0


def sharegpt(name):
    turns = [("human", user(name)["content"]), ("gpt", assistant(name)["content"])]
    return {"conversations": [{"from": who, "value": what} for who, what in turns]}


NOT_READ = {
    "alpaca": lambda n: {"instruction": user(n)["content"], "output": assistant(n)["content"]},
    "sharegpt": sharegpt,
    "content as parts": lambda n: {
        "messages": [user(n), assistant(n) | {"content": [{"type": "text", "text": n * 3}]}]
    },
    "a context": lambda n: {"prompt": "Where?", "context": n, "completion": f"{n} is here."},
    "a bare list": lambda n: chat(n)["messages"],
    "nulls": lambda n: text(n) | {"prompt": None, "completion": None},
}  # fmt: skip
READ = {
    "messages": chat,
    "more columns": lambda n: chat(n) | {"id": n, "tools": [{"name": "look_up"}]},
    "prompt and completion": lambda n: {
        "prompt": user(n)["content"], "completion": assistant(n)["content"]
    },
    "pairs": pair,
    "pairs of turns": lambda n: {
        "prompt": [user(n)], "chosen": [assistant(n) | {"content": sides(n)[0]}],
        "rejected": [assistant(n) | {"content": sides(n)[1]}]
    },
}  # fmt: skip


@pytest.mark.parametrize("form", NOT_READ)
def test_a_clean_file_that_no_launch_reads_as_it_is_leads_to_a_cleaned_one(workspace, form):
    write(workspace, rows_of(NOT_READ[form]))
    report = audit(output_dir=None)
    assert report.verdict == "ready"
    assert tools_called(report) == ["audit_dataset"]
    cleaned = audit_dataset(AuditRequest(**report.next_steps[0].arguments))
    assert tools_called(cleaned)[0].startswith("launch_")
    assert survey(workspace / "cleaned" / "train.jsonl", report.task).num_examples == 54


@pytest.mark.parametrize("form", READ)
def test_a_clean_file_in_a_trainers_form_is_launched_as_it_is(workspace, form):
    write(workspace, rows_of(READ[form]))
    write(workspace, [READ[form](f"{name}son") for name in NAMES[:3]], "v.jsonl")
    report = audit(output_dir=None, validation_path="v.jsonl")
    assert report.verdict == "ready"
    launch, *before = [(step.tool, step.arguments) for step in report.next_steps]
    assert launch == (f"launch_{report.task}", {"dataset": "d.jsonl", "validation": "v.jsonl"})
    # A model is measured before it is trained.
    assert before == ([("evaluate", {"dataset": "v.jsonl"})] if report.task == "sft" else [])
    assert survey(workspace / "d.jsonl", report.task).num_examples == 60
