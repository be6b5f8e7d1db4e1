"""Rows that a launch holds out by itself are chosen as an audit chooses its validation part."""

import json
import random
from pathlib import Path

import pytest

from ft_tools.data.request import AuditRequest
from ft_tools.data.tool import audit_dataset
from ft_tools.formats.training_rows import survey
from ft_tools.training.validation_split import hold_out, num_held_out

WORDS = random.Random(5).sample(
    [a + b + c for a in ("ka", "lo", "mi", "ren", "su") for b in ("da", "fe", "gor", "pi")
     for c in ("x", "na", "tol", "wen", "by")], 100)  # fmt: skip


def templates(number):
    chance = random.Random(number)
    return [" ".join(chance.choices(WORDS, k=9)) for _ in range(number)]


def write(path, number, count=240):
    """Write prompts of so many templates; each says its own, and answers differ."""
    said, chance = templates(number), random.Random(1)
    rows = [
        {"prompt": f"{said[at % number]} {chance.choice(WORDS)} {at}", "completion": f"Case {at}."}
        for at in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def rows_of(path):
    return map(json.loads, Path(path).read_text("utf-8").splitlines())


def templates_in(path, number):
    text = Path(path).read_text("utf-8")
    return {one for one in templates(number) if one in text}


def test_whole_wordings_are_held_out(workspace):
    write(workspace / "t.jsonl", 24)
    asked = survey(workspace / "t.jsonl", "sft")
    train, validation = hold_out(asked, "sft", {})
    held = templates_in(validation.path, 24)
    assert len(held) >= 2
    assert not held & templates_in(train.path, 24)
    assert train.num_examples + validation.num_examples == 240
    assert num_held_out(asked, "sft") == validation.num_examples


def test_a_launch_and_an_audit_hold_out_the_same_rows_of_the_same_file(workspace):
    write(workspace / "t.jsonl", 24)
    _, validation = hold_out(survey(workspace / "t.jsonl", "sft"), "sft", {})
    audited = audit_dataset(
        AuditRequest(path="t.jsonl", output_dir="out", max_removed_fraction=1)
    ).outputs
    assert audited.num_train + audited.num_validation == 240
    held = sorted(row["prompt"] for row in rows_of(validation.path))
    assert sorted(row["messages"][0]["content"] for row in rows_of(audited.validation)) == held


@pytest.mark.parametrize("number", [4, 240])
def test_where_no_two_wordings_fit_rows_are_held_out_at_random(workspace, number):
    write(workspace / "t.jsonl", number)
    asked = survey(workspace / "t.jsonl", "sft")
    _, validation = hold_out(asked, "sft", {})
    assert validation.num_examples == num_held_out(asked, "sft") == 24
