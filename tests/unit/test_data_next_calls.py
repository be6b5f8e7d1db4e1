"""What the data tools propose next: classes as classes, free names, and what was written."""

import csv
import json
import random

import pytest

from ft_tools.cli.options import as_flags
from ft_tools.data.prepare.request import PrepareRequest
from ft_tools.data.prepare.tool import prepare_dataset
from ft_tools.data.request import AuditRequest
from ft_tools.data.tool import audit_dataset

WORDS = [
    "invoice",
    "parcel",
    "login",
    "refund",
    "printer",
    "charge",
    "account",
    "password",
    "delivery",
    "screen",
]


def mail(at, chance):
    said = " ".join(chance.choices(WORDS, k=12))
    return {
        "text": f"Hello, {said}, number {at}",
        "team": chance.choice(["billing", "shipping", "tech"]),
        "urgent": chance.choice(["yes", "no"]),
        "customer": f"C{at % 40}",
        "created": f"2026-{1 + at // 28:02d}-{1 + at % 28:02d}",
    }


def write_mails(workspace, count=200):
    chance = random.Random(2)
    rows = [mail(at, chance) for at in range(count)]
    with (workspace / "mails.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_yes_and_no_that_do_not_speak_of_quality_are_offered_as_a_class(workspace):
    write_mails(workspace)
    shown = prepare_dataset(PrepareRequest(path="mails.csv"))
    assert "urgent says yes or no and may be a class" in shown.questions[0]
    (step,) = shown.next_steps
    # Another mapping than the one shown is shown before it is confirmed.
    assert "confirm" not in step.arguments
    again = prepare_dataset(PrepareRequest(**step.arguments))
    assert again.questions == []
    assert again.mapping.answer_columns == ["team", "urgent"]
    assert again.mapping.answer_schema["properties"]["urgent"]["enum"] == ["no", "yes"]
    assert again.next_steps[0].arguments["confirm"] == again.mapping_hash


def test_times_and_groups_together_say_what_they_lose(workspace):
    write_mails(workspace)
    mapping = {"verdicts": {"urgent": "ignore"}}
    shown = prepare_dataset(PrepareRequest(path="mails.csv", mapping=mapping))
    (hint,) = [note for note in shown.assumptions if "column created holds times" in note]
    assert "earlier rows of a group with test rows are left out" in hint
    mapping |= {"group_by": [], "time_column": "created"}
    shown = prepare_dataset(PrepareRequest(path="mails.csv", mapping=mapping))
    (hint,) = [note for note in shown.assumptions if "column customer repeats" in note]
    assert "with time_column, too" in hint


def test_a_folder_that_is_there_is_not_proposed(workspace):
    write_mails(workspace)
    (workspace / "prepared").mkdir()
    (workspace / "prepared-2").mkdir()
    mapping = {"verdicts": {"urgent": "ignore"}}
    (step,) = prepare_dataset(PrepareRequest(path="mails.csv", mapping=mapping)).next_steps
    assert step.arguments["output_dir"] == "prepared-3"
    made = prepare_dataset(PrepareRequest(**step.arguments))
    assert made.outputs.num_train > 100


def test_long_answers_that_come_again_and_again_are_a_finding(workspace):
    chance = random.Random(4)
    answers = [" ".join(chance.choices(WORDS, k=25)) for _ in range(10)]
    prompts = [f"{' '.join(chance.choices(WORDS, k=9))} {at}?" for at in range(500)]
    rows = [{"prompt": asked, "completion": answers[at % 10]} for at, asked in enumerate(prompts)]
    write_rows(workspace / "few.jsonl", rows)
    write_rows(workspace / "less.jsonl", rows[:-1])
    write_rows(
        workspace / "labels.jsonl", [row | {"completion": row["completion"][:6]} for row in rows]
    )

    def counted(path):
        report = audit_dataset(AuditRequest(path=path, near_duplicates="off"))
        return [one.count for one in report.findings if one.id == "few_answers"]

    assert counted("few.jsonl") == [500]
    assert counted("less.jsonl") == counted("labels.jsonl") == []


def test_several_values_follow_one_nested_flag(workspace):
    words = [
        "prepare-dataset",
        "t.csv",
        "--mapping.answer-columns",
        "team",
        "urgent",
        "--seed",
        "1",
    ]
    assert as_flags(words, PrepareRequest.model_fields) == [
        *words[:3], '["team", "urgent"]', "--seed", "1"
    ]  # fmt: skip
    one = ["prepare-dataset", "t.csv", "--mapping.group-by", "customer", "-h"]
    assert as_flags(one, PrepareRequest.model_fields) == one


def test_what_an_audit_would_leave_out_of_written_files_is_said_to_be_in_them(workspace):
    write_mails(workspace)
    with (workspace / "mails.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    copies = [row | {"text": f"{row['text']}, thanks"} for row in rows]
    with (workspace / "mails.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows + copies)
    mapping = {"verdicts": {"urgent": "ignore"}, "group_by": []}
    request = PrepareRequest(path="mails.csv", mapping=mapping, near_duplicates="off")
    (step,) = prepare_dataset(request).next_steps
    made = prepare_dataset(PrepareRequest(**step.arguments))
    assert "validation_leak" in {one.id for one in made.findings}
    assert not any(one.removed for one in made.findings)
    assert any("train.jsonl holds" in note for note in made.assumptions)
    cleaning = made.next_steps[0]
    assert (cleaning.tool, cleaning.arguments["output_dir"]) == ("audit_dataset", "cleaned")
    assert audit_dataset(AuditRequest(**cleaning.arguments)).outputs.num_removed > 0


def test_a_model_is_measured_on_the_test_part_where_there_is_one(workspace):
    rows = [{"prompt": f"{word} {at} of {at * at}?", "completion": f"{word} has {at} parts."}
            for at, word in enumerate(WORDS * 12)]  # fmt: skip
    write_rows(workspace / "train.jsonl", rows[:100])
    write_rows(workspace / "held.jsonl", rows[100:])
    request = AuditRequest(path="train.jsonl", validation_path="held.jsonl", near_duplicates="off")
    (measured,) = [step for step in audit_dataset(request).next_steps if step.tool == "evaluate"]
    assert measured.arguments == {"dataset": "held.jsonl"}
    write_rows(workspace / "test.jsonl", rows[100:110])
    (measured,) = [step for step in audit_dataset(request).next_steps if step.tool == "evaluate"]
    assert measured.arguments == {"dataset": "test.jsonl"}


@pytest.mark.parametrize("is_templated", [True, False])
def test_prompts_of_few_templates_are_said_in_the_proposal_already(workspace, is_templated):
    chance = random.Random(3)
    with (workspace / "mails.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "team"])
        for at in range(120):
            own = " ".join(chance.choices(WORDS, k=12))
            said = f"Where is the parcel of my order number {at}?" if is_templated else own
            writer.writerow([said, chance.choice(["billing", "shipping"])])
    shown = prepare_dataset(PrepareRequest(path="mails.csv"))
    assert [finding.id for finding in shown.findings] == ["few_wordings"] * is_templated
    if is_templated:
        assert (shown.findings[0].count, shown.findings[0].fraction) == (120, 1.0)
