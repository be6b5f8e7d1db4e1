"""The advice that a launch carries: its verdict in the plan, and in the way if it says no."""

import json

import pytest
from pydantic import ValidationError

from ft_tools.advice.ladder import table
from ft_tools.anti_patterns import rules
from ft_tools.errors import Refused
from ft_tools.training.request import DpoRequest, SftRequest
from ft_tools.training.tool import launch_dpo, launch_sft
from tests.unit.test_rules_fire import REASON, files, write  # noqa: F401

READY = {"tried": ["prompting", "few_shot"], "num_eval_rows": 60}
SFT_ROWS = {"num_examples": 800}
PAIRS = {"num_pairs": 5000}
MARKS = {"num_marks": 5000}
BASE = "meta-llama/Llama-3.1-8B"


def sft(advice, **changed):
    given = {"model": "instruct", "dataset": "train.jsonl", "advice": advice}
    return launch_sft(SftRequest(**given | changed))


def dpo(advice, **changed):
    given = {"model": "instruct", "dataset": "pairs.jsonl", "advice": advice}
    return launch_dpo(DpoRequest(**given | changed))


def mark(number):
    answer = f"Parcel {number} is in Oslo since day {number * 7}."
    return {"prompt": f"Where is {number}?", "completion": answer, "label": number % 2 == 0}


def kto(advice, **changed):
    return dpo(advice, **{"dataset": "marks.jsonl"} | changed)


@pytest.fixture
def rows(files):  # noqa: F811
    write(files / "marks.jsonl", map(mark, range(30)))
    return files


ADVISED = [(sft, SFT_ROWS), (dpo, PAIRS), (kto, MARKS)]


@pytest.mark.parametrize(("launch", "count"), ADVISED)
def test_training_that_no_fact_excludes_goes_on_with_the_verdict(rows, launch, count):
    plan = launch(READY | count).plan

    assert plan["advice"]["verdict"] == "now"
    assert plan["advice"]["rules"] == []


BLOCKS = {
    "knowledge_injection": (sft, SFT_ROWS | {"purpose": "facts"}),
    "same_family_data": (sft, SFT_ROWS | {"teacher": "same_family"}),
    "teacher_terms": (sft, SFT_ROWS | {"teacher": "anthropic"}),
    "moving_target": (
        sft,
        SFT_ROWS
        | {"considering": ["small_model_fine_tuning"], "num_classes": 3, "num_examples": 900}
        | {"knowledge_changes": "daily", "purpose": "facts"},
    ),
    "prompt_shortening": (sft, SFT_ROWS | {"purpose": "shorter_prompt", "prompt_tokens": 2000}),
    "dpo_before_sft": (dpo, PAIRS | {"model": BASE}),
    "dpo_new_skill": (kto, MARKS | {"purpose": "skill"}),
    "pretraining_on_instruct": (
        sft,
        {"considering": ["continued_pretraining"], "corpus_tokens": 10**6},
    ),
    "no_eval_set": (sft, SFT_ROWS | {"num_eval_rows": 0}),
    "prompt_not_tried": (sft, SFT_ROWS | {"tried": []}),
    "too_few_examples": (sft, {"num_examples": 8}),
}
NO_LAUNCH = {"rl_zero_reward"}  # nothing here launches what it blocks
BY_THE_AUDIT = {"no_quality_filter"}  # tests/unit/test_rules_fire.py


def test_every_block_of_the_ladder_is_tried_on_a_launch():
    named = {rule for row in table().rungs for rule in (*row.blocked_by, row.refused_as) if rule}

    assert named | {"too_few_examples"} == BLOCKS.keys() | NO_LAUNCH | BY_THE_AUDIT
    assert named <= rules().keys()


@pytest.mark.parametrize("rule_id", BLOCKS)
def test_a_block_is_refused_until_a_person_accepts_it_with_a_reason(rows, rule_id):
    launch, change = BLOCKS[rule_id]
    advice = READY | change
    with pytest.raises(
        Refused, match=rf"^advised_against: .*{rule_id}.*accept_findings"
    ) as refused:
        launch(advice)
    assert "First: " in str(refused.value)
    with pytest.raises(ValidationError, match="accept_reason"):
        launch(advice, accept_findings=[rule_id])
    with pytest.raises(Refused, match=r"^advised_against"):
        launch(advice, accept_findings=["undecided_columns"], accept_reason=REASON)

    # dpo_before_sft blocks the launch itself, too; what is accepted is accepted there as well.
    ids = sorted({rule_id, *(["teacher_terms"] if rule_id == "teacher_terms" else [])})
    plan = launch(advice, accept_findings=ids, accept_reason=REASON).plan

    assert plan["advice"]["verdict"] != "now"
    assert rule_id in plan["advice"]["rules"]
    assert (plan["accepted"], plan["accept_reason"]) == (ids, REASON)


def test_advice_that_no_rule_is_behind_is_accepted_by_its_own_name(rows):
    advice = READY | {"considering": ["check_setup"]} | SFT_ROWS
    with pytest.raises(Refused, match=r"after check_setup.*\['advised_against'\]"):
        sft(advice)
    plan = sft(advice, accept_findings=["advised_against"], accept_reason=REASON).plan

    assert plan["advice"]["verdict"] == "later"
    assert plan["advice"]["first_step"] == "check_setup"


def test_the_launch_counts_its_rows_where_the_advice_leaves_them_out(rows):
    said = [{"prompt": f"Repeat: item {n}", "completion": f"item {n}"} for n in range(60)]
    write(rows / "many.jsonl", said)
    write(rows / "few.jsonl", said[:30])

    assert sft(READY, dataset="many.jsonl").plan["advice"]["verdict"] == "now"
    with pytest.raises(Refused, match=r"examples is 30, needs examples >= 50.*'too_few_examples'"):
        sft(READY, dataset="few.jsonl")


def test_training_a_run_further_that_was_still_learning_is_now_although_it_missed(rows):
    run = rows / "runs" / "sft-0123456789abcdef"
    advice = READY | SFT_ROWS | {"tried": [*READY["tried"], "sft"]}
    with pytest.raises(Refused, match=r"sft: later .tried, misses the target"):
        sft(advice, model=run.name)
    found = {"id": "still_learning", "advice": "train further", "continues": True}
    step = {"tool": "launch_sft", "arguments": {"from_run": run.name}, "why": ""}
    (run / "report.json").write_text(json.dumps({"diagnosis": [found], "next_steps": [step]}))

    assert sft(advice, model=run.name).plan["advice"]["verdict"] == "now"


def test_without_advice_nothing_is_refused_and_a_warning_says_so(rows):
    launched = sft(None)

    assert launched.plan["advice"] is None
    assert sum(each.startswith("no_advice") for each in launched.warnings) == 1
