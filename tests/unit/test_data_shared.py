"""Counts on real public files; they are not shipped, so the tests skip without them."""

import json
import shutil
from pathlib import Path

import pytest

from ft_tools.data.reports import AuditRequest
from ft_tools.data.tool import perform

SHARED = Path(__file__).parents[3] / "shared" / "data"
pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason=f"{SHARED} is not here")


@pytest.fixture
def audit(workspace):
    def run(name, **arguments):
        for file in (name, *arguments.get("benchmark_paths", [])):
            shutil.copyfile(SHARED / file, workspace / file)
        return perform(AuditRequest(path=name, **arguments))

    return run


@pytest.mark.parametrize(
    ("name", "num_exact"),
    [
        ("alpaca_en_demo.json", 14),
        ("alpaca_zh_demo.json", 8),
        ("dpo_en_demo.json", 5),
        ("glaive_toolcall_en_demo.json", 35),
    ],
)
def test_exact_duplicates_are_those_counted_by_hand(audit, name, num_exact):
    assert audit(name, near_duplicates="off").duplicates.num_exact == num_exact


def test_the_one_word_answers_counted_by_hand_are_short_and_information_only(audit):
    report = audit("alpaca_en_demo.json", near_duplicates="off", response_format="detailed")
    rows = json.loads((SHARED / "alpaca_en_demo.json").read_text(encoding="utf-8"))
    one_word = {at for at, row in enumerate(rows, 1) if len(row["output"].split()) == 1}
    assert len(one_word) == 14
    short = next(finding for finding in report.findings if finding.id == "short_answer")
    assert one_word <= set(short.lines)
    assert (short.count, short.severity) == (15, "info")


def test_the_unfilled_placeholders_of_identity_are_found(audit):
    report = audit("identity.json")
    assert report.verdict == "not_ready"
    found = {finding.id: finding.count for finding in report.findings}
    assert found["unfilled_placeholder"] == 85


def test_the_dummy_conversations_have_52_first_prompts(audit):
    assert audit("dummy_conversation.json").shape["num_first_prompts"] == 52


def test_the_pairs_have_the_lengths_counted_by_hand_and_no_bias_is_claimed(audit):
    report = audit("dpo_en_demo.json")
    assert report.shape["num_chosen_longer"] == 131
    assert report.shape["num_rejected_longer"] == 168
    assert "length_bias" not in {finding.id for finding in report.findings}


def test_the_tool_turns_of_glaive_are_read_and_its_first_prompts_repeat(audit):
    report = audit("glaive_toolcall_en_demo.json")
    found = {finding.id: finding.count for finding in report.findings}
    assert found["repeated_prompt"] == 99
    assert report.shape["num_with_tool_turns"] == 153
    assert not {"unknown_role", "role_order", "wrong_type"} & set(found)


def test_kto_marks_are_balanced(audit):
    report = audit("kto_en_demo.json")
    assert (report.shape["num_liked"], report.shape["num_disliked"]) == (150, 150)
    assert report.task == "kto"


def test_n_grams_find_copies_of_a_benchmark_and_raise_few_false_alarms(audit):
    copied = audit("gsm8k_test.jsonl", benchmark_paths=["gsm8k_test.jsonl"])
    assert {f.id: f.count for f in copied.findings}["benchmark_ngram"] == 1319
    rephrased = audit("rephrase_gsm8k.jsonl", benchmark_paths=["gsm8k_test.jsonl"])
    assert sum(f.count for f in rephrased.findings if f.id == "benchmark_ngram") <= 13
