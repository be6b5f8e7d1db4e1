"""What the asker's case already holds decides: kind, licence, scores, the source in the input."""

from typing import get_args

import pytest

from ft_tools.approach.concise import MOST_TOKENS, tokens
from ft_tools.approach.request import ApproachRequest, Symptom
from ft_tools.approach.table import table
from ft_tools.approach.tool import recommend_approach

WITHOUT_CONTEXT = ["table", "image", "document", "speech", "voice"]
OF_A_PROMPT = {"rag", "long_context", "tool_lookup", "sft_and_rag", "continued_pretraining"}
TASKS = {"document": {"model": "donut"}}


def ask(**arguments):
    report = recommend_approach(ApproachRequest(**arguments))
    assert tokens(report) <= MOST_TOKENS
    return report


def said(report):
    return {each.approach: each for each in report.verdicts}


@pytest.mark.parametrize("kind", WITHOUT_CONTEXT)
@pytest.mark.parametrize("symptom", get_args(Symptom))
@pytest.mark.parametrize("asked", ["sft", "small_model_fine_tuning", "extend_vocabulary"])
def test_what_takes_no_passages_is_never_given_any(kind, symptom, asked):
    trained = TASKS.get(kind, {"task": kind})
    report = ask(symptoms=[symptom], considering=[asked], has_documents=True, **trained)

    assert OF_A_PROMPT.isdisjoint(step.approach for step in report.path)
    assert "passages in the prompt" not in report.summary


def test_the_kinds_that_take_no_passages_are_marked():
    marked = [kind for kind, facts in table().kinds.items() if facts.is_without_context]

    assert marked == WITHOUT_CONTEXT


def test_retrieval_that_is_named_is_kept_beside_images():
    assert ask(task="image", symptoms=["knowledge_gap"], has_retrieval=True).approach == "rag"


@pytest.mark.parametrize("asked", ["sft", "extend_vocabulary", "other_model"])
@pytest.mark.parametrize("met", [None, False])
def test_terms_of_a_recogniser_are_given_before_it_is_trained(asked, met):
    report = ask(task="speech", symptoms=["domain_jargon"], considering=[asked], target_met=met)

    assert [step.approach for step in report.path] == [
        "build_eval_first",
        "small_model_fine_tuning",
    ]
    for words in ("hotwords", "larger", "lexicon", "reviews"):
        assert words in report.summary


@pytest.mark.parametrize(
    "beside", ["sft", "full_training", "dpo", "distillation", "rag", "serving"]
)
@pytest.mark.parametrize("more", [{}, {"symptoms": ["style"]}, {"task": "speech"}])
def test_the_licence_comes_first_whatever_is_asked_beside_it(beside, more):
    report = ask(considering=["licence", beside], product_use="sold", **more)

    assert report.row.startswith("licence_")
    assert "sft" not in [step.approach for step in report.path]
    assert said(report)[beside].verdict != "now" or beside in ("rag", "serving")


@pytest.mark.parametrize("asked", ["quantization", "serving", "other_model", "hardware"])
def test_who_asks_for_speed_times_a_request_before_prompts_are_written(asked):
    report = ask(symptoms=["latency"], considering=[asked])

    assert report.approach == "check_setup"
    assert "time one request in parts" in report.summary
    assert "bitsandbytes saves memory and not time" in report.summary


def test_quantization_for_speed_needs_a_format_with_kernels():
    fast = said(ask(symptoms=["latency"], considering=["quantization"]))["quantization"]
    small = said(ask(symptoms=["cost"], considering=["quantization"]))["quantization"]

    assert "slower than 16 bits" in fast.condition
    assert "kernels" not in small.condition


@pytest.mark.parametrize("rows", [50, 190])
def test_the_amount_after_sft_is_of_prompts_although_dpo_is_asked_too(rows):
    run = {"tried_training": ["sft"], "num_demonstrations": rows, "symptoms": ["hallucination"]}
    amount = said(ask(considering=["data_amount", "dpo"], **run))["data_amount"]
    pairs = said(ask(considering=["data_amount", "dpo"], symptoms=["tone"]))["data_amount"]

    assert amount.verdict == "later"
    assert "pairs" not in amount.condition
    assert "1,000 pairs" in pairs.condition


@pytest.mark.parametrize("asked", ["data_amount", "data_mix"])
def test_inventions_of_a_run_are_read_beside_their_inputs_before_retrieval(asked):
    run = {"tried_training": ["sft"], "num_demonstrations": 190, "symptoms": ["hallucination"]}
    report = ask(considering=[asked], **run)

    assert [step.approach for step in report.path] == ["check_setup", "rag"]
    assert "Then retrieval adds nothing" in report.summary
    assert "input was cut" in report.summary


OPTIMIZED = {
    "task": "label",
    "num_classes": 10,
    "num_demonstrations": 200,
    "prompting_tried": "optimized",
    "has_eval_set": True,
}


def test_errors_that_an_optimized_prompt_leaves_are_read_before_a_classifier():
    asked = ["prompt_optimization", "sft"]
    report = ask(considering=asked, target_met=False, **OPTIMIZED)

    assert [step.approach for step in report.path] == ["check_setup", "small_model_fine_tuning"]
    assert [each.verdict for each in report.verdicts] == ["no", "later"]
    assert "labels are settled" in said(report)["sft"].condition


def test_a_classifier_that_is_asked_for_is_still_answered():
    asked = {"considering": ["small_model_fine_tuning"], "target_met": False}

    assert ask(**asked, **OPTIMIZED).approach == "small_model_fine_tuning"


def test_two_scores_lead_to_a_larger_test_and_not_to_training():
    scores = {"small_model_score": 0.86, "large_model_score": 0.82}
    report = ask(considering=["sft", "other_model"], **scores, **OPTIMIZED)

    assert report.approach == "build_eval_first"
    assert {each.verdict for each in report.verdicts} == {"later"}
    assert "larger test" in report.verdicts[0].condition


@pytest.mark.parametrize("met", [None, True])
@pytest.mark.parametrize("asked", ["none_of_these", "other_model"])
def test_a_way_that_was_right_on_a_few_cases_is_compared_on_more(asked, met):
    few = {"observed": ["small_test"], "symptoms": ["extraction"], "prompting_tried": "zero_shot"}
    report = ask(task="extract", considering=["prompting", asked], target_met=met, **few)

    assert report.approach == "build_eval_first"
    assert "drop the part that is not needed" in report.summary
    assert said(report)[asked].verdict == "now"
