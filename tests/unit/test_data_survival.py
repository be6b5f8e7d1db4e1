"""trainer_survival: every row is counted once, and a row that stops a trainer stops it."""

import json

import pytest

from ft_tools.data.audit import perform
from ft_tools.data.request import AuditRequest


@pytest.fixture
def survived(workspace):
    def run(*lines):
        (workspace / "d.jsonl").write_text("".join(f"{line}\n" for line in lines))
        report = perform(AuditRequest(path="d.jsonl", near_duplicates="off"))
        for one in report.trainer_survival:
            assert one.trained + sum(one.not_trained.values()) == report.num_examples == len(lines)
        return {s.trainer.split()[0]: (s.trained, s.not_trained) for s in report.trainer_survival}

    return run


def say(role, content):
    return {"role": role, "content": content}


def turns(role):
    return {"conversations": [{"from": role, "value": "{}?"}, {"from": "gpt", "value": "It is."}]}


def test_a_line_that_ends_the_loading_of_the_file_stops_every_trainer(survived):
    """`datasets.load_dataset`, with which both read, raises DatasetGenerationError."""
    lines = [json.dumps(turns("human")).replace("{}", str(at)) for at in range(12)]
    found = survived(*lines, '{"conversations": [')
    assert found["Axolotl"] == (0, {"unreadable_line": 1, "stopped_by_the_other_rows": 12})
    assert found["TRL"] == (0, {"unreadable_line": 1, "role_names_not_mapped": 12})
    assert survived(*lines)["Axolotl"] == (12, {})


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"prompt": "Where?", "completion": "Here, {}.", "label": True}, None),
        ({"messages": [say("user", "?"), say("assistant", "{}")], "label": True}, "columns"),
        ({"prompt": [say("user", "{}")], "completion": [say("assistant", "1")]}, "columns"),
        ({"prompt": "{}", "chosen": [say("assistant", "1")], "rejected": [say("assistant", "2")]},
         None),
        ({"prompt": "{}", "chosen": [say("gpt", "1")], "rejected": [say("gpt", "2")]}, "role"),
        (turns("customer"), "role"),
        ({"prompt": "{}?" + " and so on" * 2000, "completion": "It is."}, "longer"),
    ],
)  # fmt: skip
def test_axolotl_reads_marked_answers_of_text_and_knows_few_roles(survived, row, why):
    rows = [json.dumps(row).replace("{}", f"Parcel {at}") for at in range(12)]
    trained, lost = survived(*rows)["Axolotl"]
    assert trained == (0 if why else 12)
    assert [reason.startswith(why or "") for reason in lost] == ([True] if why else [])
