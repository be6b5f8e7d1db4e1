"""What tells chosen from rejected is measured on the pairs that can be trained on."""

import json
import random

import pytest

from ft_tools.data.audit import perform
from ft_tools.data.pipeline import Methods
from ft_tools.data.prepare import prepare_dataset
from ft_tools.data.request import AuditRequest, PrepareRequest
from ft_tools.training.checks.data_quality import require_known

WORDS = [
    "river",
    "stone",
    "cloud",
    "paper",
    "engine",
    "glass",
    "market",
    "garden",
    "window",
    "sailor",
    "copper",
    "silver",
]


@pytest.fixture
def found(workspace):
    def run(sides, *, marked=False):
        rows = [
            {"prompt": asked, "chosen": chosen, "rejected": rejected}
            for asked, (chosen, rejected) in zip(answers(len(sides), 9), sides, strict=True)
        ]
        if marked:
            rows = [
                {"prompt": f"{row['prompt']} {side}", "completion": row[side], "label": is_good}
                for side, is_good in (("chosen", True), ("rejected", False))
                for row in rows
            ]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (workspace / "d.jsonl").write_text(lines, encoding="utf-8")
        report = perform(AuditRequest(path="d.jsonl", near_duplicates="off"))
        return {finding.id: finding.count for finding in report.findings}

    return run


def write_pairs(path, sides):
    rows = [
        {"prompt": asked, "chosen": chosen, "rejected": rejected}
        for asked, (chosen, rejected) in zip(answers(60, 9), sides, strict=True)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def answers(count, num_words=20):
    numbers = random.Random(num_words)
    return [" ".join(numbers.choices(WORDS, k=num_words)) for _ in range(count)]


@pytest.mark.parametrize("marked", [False, True])
def test_marked_answers_are_compared_as_pairs_are(found, marked):
    sides = list(zip(answers(60, 40), answers(60), strict=True))
    assert found(sides, marked=marked)["length_bias"] == 60
    even = list(zip(answers(60), reversed(answers(60)), strict=True))
    assert found(even, marked=marked) == {}


@pytest.mark.parametrize("num_words", [40, 20])
def test_pairs_that_their_length_alone_tells_apart_are_said_and_shown(workspace, num_words):
    others = answers(60)[::-1] if num_words == 20 else answers(60)
    write_pairs(workspace / "d.jsonl", zip(answers(60, num_words), others, strict=True))
    report = perform(AuditRequest(path="d.jsonl", near_duplicates="off"))
    assert (report.verdict, report.reasons) == ("ready", [])
    told = [f.severity for f in report.findings if f.id == "told_apart"]
    shown = [step.arguments for step in report.next_steps if step.tool == "show_examples"]
    if num_words == 20:
        assert (told, shown) == ([], [])
        return
    assert told == ["warning"]
    assert shown == [{"path": "d.jsonl", "lines": [1, 2, 3, 4, 5]}]
    require_known(["told_apart"])
    asked = PrepareRequest(path="d.jsonl", output_dir="out", test_fraction=0.0)
    confirm = prepare_dataset(asked).mapping_hash
    made = prepare_dataset(asked.model_copy(update={"confirm": confirm}))
    first, *rest = made.next_steps
    assert (first.tool, first.arguments["path"]) == ("show_examples", made.outputs.train)
    assert [step.tool for step in rest] == ["audit_dataset", "launch_dpo"]


@pytest.mark.parametrize(
    ("model", "arguments", "said"),
    [
        (None, {}, "run launch_sft first and add its run id as `sft_run`, or an instruct model"),
        ("sft-0123456789abcdef", {"sft_run": "sft-0123456789abcdef"}, "nothing starts yet"),
        ("meta-llama/Llama-3.1-8B", {}, "or meta-llama/Llama-3.1-8B-Instruct as `model`"),
    ],
)
def test_a_run_on_preferences_is_never_offered_on_a_raw_base_model(
    workspace, model, arguments, said
):
    write_pairs(workspace / "d.jsonl", zip(answers(60), answers(60)[::-1], strict=True))
    request = AuditRequest(path="d.jsonl", near_duplicates="off", output_dir="out")
    report = perform(request, Methods(named_model=model))
    (step,) = [step for step in report.next_steps if step.tool == "launch_dpo"]
    assert {k: v for k, v in step.arguments.items() if k in {"model", "sft_run"}} == arguments
    assert said in step.why
