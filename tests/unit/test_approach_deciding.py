"""Which facts decided, which changed nothing, and what is measured before anything is trained."""

import pytest

from ft_tools.approach.conditions import words_of
from ft_tools.approach.facts_that_decide import _NO_FACTS, _OF_CALLS, WHERE
from ft_tools.approach.request import ApproachRequest
from ft_tools.approach.table import TEXT, table
from ft_tools.approach.tool import recommend_approach

MISSING = {"considering": ["sft"], "symptoms": ["knowledge_gap"], "has_documents": True}
LABELS = {"considering": ["small_model_fine_tuning"], "num_demonstrations": 3000}


def ask(**facts):
    return recommend_approach(ApproachRequest(**facts))


def test_facts_of_which_either_would_do_both_decide():
    report = ask(**MISSING, product_use="internal", weights_access="open_weights", gpu="RTX 4090")

    assert report.approach == "rag"
    assert report.decided_by == ["symptoms: knowledge_gap", "has_documents"]
    assert report.unused == ["product_use (for a teacher's terms)"]


def test_what_changes_nothing_reads_the_same_without_it():
    report = ask(**MISSING, product_use="internal")
    without = ask(**MISSING)

    assert (report.summary, report.path) == (without.summary, without.path)
    assert without.unused == []


def test_a_symptom_that_another_comes_before_says_what_it_alone_would_lead_to():
    report = ask(**MISSING | {"symptoms": ["knowledge_gap", "output_format"]})

    assert report.approach == "rag"
    assert "symptoms: output_format (alone: constrained_decoding)" in report.unused


def test_every_fact_says_where_it_weighs():
    assert ApproachRequest.model_fields.keys() - _NO_FACTS - _OF_CALLS == WHERE.keys()


def test_facts_that_change_nothing_stay_named_where_a_report_is_long():
    long = MISSING | {"considering": ["sft", "dpo", "continued_pretraining", "distillation"]}
    long |= {"product_use": "internal", "budget": "low", "runs_on": ["mac"], "target_met": False}
    whole, short = (ask(**long, response_format=each) for each in ("detailed", "concise"))

    assert [each.split(" (")[0] for each in whole.unused] == short.unused
    assert whole.unused != short.unused


def test_a_question_without_facts_is_answered_by_the_usual_order_and_says_so():
    report = ask(considering=["sft", "data_format"], weights_access="open_weights")

    assert (report.decided_by, report.unused) == ([], [])
    assert "No fact decides what comes first" in report.summary
    assert "No fact decides" not in ask(**MISSING).summary


def test_what_is_good_enough_is_kept_although_a_run_beside_it_failed():
    kept = {"target_met": True, "has_retrieval": True, "symptoms": ["knowledge_gap"]}
    report = ask(considering=["sft", "rag", "check_setup"], tried_training=["sft"], **kept)

    assert (report.approach, report.verdicts[0].verdict) == ("rag", "later")
    assert {"target_met", "has_retrieval"} <= set(report.decided_by)
    assert ask(considering=["sft"], target_met=True, has_eval_set=False).row == "eval_first"
    assert ask(symptoms=["export_fault"], target_met=True).approach == "check_setup"


@pytest.mark.parametrize("task", [None, *words_of("task")])
def test_what_is_measured_before_training_is_that_of_the_task(task):
    kinds = table().kinds
    report = ask(considering=["sft"], num_demonstrations=3000, task=task)
    first = [each for step in report.path for each in step.measure_first][:1]

    assert first == [] or kinds[task or TEXT].baseline in first[0]
    assert first != [] or report.approach == "build_eval_first"


def test_training_on_a_prompt_that_nobody_measured_begins_with_the_measurement():
    report = ask(**LABELS, num_classes=5)
    measured = ask(**LABELS, num_classes=5, prompting_tried="optimized", has_eval_set=True)

    assert report.verdicts[0].condition == "if what is measured first misses the target"
    assert "Unless it is done, first measure a linear head on embeddings" in report.summary
    assert report.summary.startswith(
        "Train a small model for this one task, if what is measured first misses the target. "
    )
    assert "first measure" not in measured.summary


def test_a_way_without_training_is_tried_now_where_little_is_known():
    alone = ask(considering=["long_context"], target_met=False).verdicts[0]
    known = ask(considering=["long_context"], symptoms=["style"], prompting_tried="few_shot")

    assert (alone.verdict, alone.condition[:5]) == ("now", "where")
    assert known.verdicts[0].verdict == "later"


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"considering": ["sft", "data_format"]}, "bare answers train them away"),
        ({"considering": ["data_amount"], "symptoms": ["forgetting"]}, "1 to 1"),
        ({"considering": ["data_amount", "sft"]}, "as long as in use"),
        ({"considering": ["hardware"], "symptoms": ["latency"]}, "on the weakest machine"),
    ],
)
def test_a_wide_question_is_answered_for_each_case_that_it_may_mean(facts, words):
    assert words in ask(**facts).summary


def test_generated_rows_wait_until_a_prompt_with_the_same_text_is_measured():
    asked = {"considering": ["sft", "synthetic_data"], "num_demonstrations": 400, "task": "label"}
    measured = ask(**asked, prompting_tried="few_shot")

    assert ask(**asked).verdicts[1].verdict == "later"
    assert measured.verdicts[1].verdict == "now"
