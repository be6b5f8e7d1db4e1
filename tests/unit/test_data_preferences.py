"""What tells chosen from rejected is measured on the pairs that can be trained on."""

import random

import pytest

from ft_tools.data.audit import perform
from ft_tools.data.pipeline import Methods
from ft_tools.data.prepare import prepare_dataset
from ft_tools.data.request import AuditRequest, PrepareRequest
from ft_tools.training.checks.data_quality import require_known
from tests.unit.jsonl import write

WORDS = (
    *("river", "stone", "cloud", "paper", "engine", "glass"),
    *("market", "garden", "window", "sailor", "copper", "silver"),
)


def pairs(sides):
    return [
        {"prompt": asked, "chosen": chosen, "rejected": rejected}
        for asked, (chosen, rejected) in zip(answers(60, 9), sides, strict=True)
    ]


def answers(count, num_words=20):
    numbers = random.Random(num_words)
    return [" ".join(numbers.choices(WORDS, k=num_words)) for _ in range(count)]


@pytest.mark.parametrize("marked", [False, True])
def test_marked_answers_are_compared_as_pairs_are(workspace, marked):
    def found(sides):
        rows = pairs(sides)
        if marked:
            rows = [
                {"prompt": f"{row['prompt']} {side}", "completion": row[side], "label": is_good}
                for side, is_good in (("chosen", True), ("rejected", False))
                for row in rows
            ]
        write(workspace / "d.jsonl", rows)
        report = perform(AuditRequest(path="d.jsonl", near_duplicates="off"))
        return {finding.id: finding.count for finding in report.findings}

    assert found(zip(answers(60, 40), answers(60), strict=True))["length_bias"] == 60
    assert found(zip(answers(60), reversed(answers(60)), strict=True)) == {}
    formatted = [(f"- {one}", one) for one in answers(60)]
    assert found(formatted)["format_bias"] == 60
    # What one answer of ten has is no bias.
    few = [(f"- {one}" if at % 10 == 0 else one, one[::-1]) for at, one in enumerate(answers(60))]
    assert "format_bias" not in found(few)


@pytest.mark.parametrize("num_words", [40, 20])
def test_pairs_that_their_length_alone_tells_apart_are_said_and_shown(workspace, num_words):
    others = answers(60)[::-1] if num_words == 20 else answers(60)
    write(workspace / "d.jsonl", pairs(zip(answers(60, num_words), others, strict=True)))
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
    write(workspace / "d.jsonl", pairs(zip(answers(60), answers(60)[::-1], strict=True)))
    request = AuditRequest(path="d.jsonl", near_duplicates="off", output_dir="out")
    report = perform(request, Methods(named_model=model))
    (step,) = [step for step in report.next_steps if step.tool == "launch_dpo"]
    assert {k: v for k, v in step.arguments.items() if k in {"model", "sft_run"}} == arguments
    assert said in step.why
