"""What needs no training, is in use or takes minutes is not put off until a test exists."""

import pytest

from ft_tools.approach.request import ApproachRequest
from ft_tools.approach.tool import recommend_approach

DOCUMENTS = {"symptoms": ["hallucination"], "has_documents": True, "num_demonstrations": "none"}
TRAINED = {"symptoms": ["knowledge_gap"], "target_met": False, "tried_training": ["sft"]}
BILL = {"symptoms": ["cost"], "target_met": True, "weights_access": "api_only"}
RERANKER = {
    "symptoms": ["training_fault"],
    "task": "search",
    "target_met": False,
    "tried_training": ["small_model_fine_tuning"],
}
RECORDS = {"prompting_tried": "zero_shot", "has_documents": False, "has_retrieval": False}
LABELS = {"task": "label", "num_demonstrations": 1000, "num_classes": 5}


def ask(*considering, **facts):
    return recommend_approach(ApproachRequest(considering=list(considering), **facts))


def verdict(*considering, **facts):
    """Return the verdict on what is asked first."""
    return ask(*considering, **facts).verdicts[0]


@pytest.mark.parametrize(
    ("considering", "facts", "says"),
    [
        (["rag", "sft"], DOCUMENTS | {"has_eval_set": False}, "50 real questions"),
        (["rag", "sft"], TRAINED | {"has_eval_set": False}, "50 real questions"),
        (["long_context"], BILL | {"has_eval_set": False}, "50 cases"),
        (["other_model", "small_model_fine_tuning"], BILL, "50 logged cases of each"),
        (["long_context", "sft", "several_adapters"], RECORDS, "keep that"),
        (["small_model_fine_tuning", "build_eval_first"], LABELS, "stratified folds"),
        (["sft"], {"task": "voice", "symptoms": ["new_language"]}, "50 held-out sentences"),
        (["hyperparameters"], RERANKER | {"observed": ["many_passes"]}, "1e-5 or less"),
    ],
)
def test_it_is_now_with_the_test_that_goes_with_it(considering, facts, says):
    given = verdict(*considering, **facts)

    assert given.verdict == "now"
    assert says in given.condition


@pytest.mark.parametrize(
    ("considering", "facts"),
    [
        (["small_model_fine_tuning", "build_eval_first"], LABELS | {"num_demonstrations": 20}),
        (["hyperparameters"], RERANKER),
        (["sft"], DOCUMENTS | {"has_eval_set": False}),
        (["long_context"], {"has_eval_set": False, "corpus_tokens": 10**9} | TRAINED),
    ],
)
def test_what_facts_exclude_stays_put_off(considering, facts):
    assert verdict(*considering, **facts).verdict != "now"


@pytest.mark.parametrize(
    ("considering", "facts", "row"),
    [
        (
            ["serving", "distillation"],
            {"task": "search", "symptoms": ["latency"]},
            "too_slow",
        ),
        (["licence", "other_model"], {"task": "search"}, "licence_of_a_model"),
        (
            ["do_nothing", "small_model_fine_tuning"],
            {
                "task": "extract",
                "observed": ["small_test"],
                "small_model_score": 0.5,
                "large_model_score": 0.8,
            },
            "better_one_in_use",
        ),
        (
            ["retraining", "other_model"],
            {"target_met": False, "has_eval_set": True},
            "runs_and_gets_worse",
        ),
    ],
)
def test_what_runs_is_not_told_to_begin(considering, facts, row):
    report = ask(*considering, **facts)

    assert report.row == row
    assert "Write the best prompt first" not in report.summary


def test_who_asks_about_a_licence_is_not_asked_for_scores_or_authors():
    asked = ask("licence", "sft", "other_model", task="speech", product_use="sold")

    assert {"has_eval_set", "target_met", "data_source", "tried_training"}.isdisjoint(
        question.field for question in asked.questions
    )


def test_texts_that_are_retrieved_for_coding_agents_are_no_files_to_complete():
    packs = {"task": "code", "has_documents": True}

    assert "fill-in-the-middle" in verdict("sft", **packs).condition
    assert "fill-in-the-middle" not in verdict("sft", **packs, has_retrieval=True).condition


def test_only_who_trains_on_a_model_s_answers_is_told_that_its_terms_forbid_it():
    written = {"data_source": "stronger_model", "teacher": "openai", "product_use": "sold"}

    assert verdict("licence", "sft", **written).verdict == "no"
    assert verdict("licence", **written).verdict == "later"
    assert "not settled" in verdict("licence", **written).condition


def test_what_was_tried_is_named_with_what_is_new_before_it_is_proposed_again():
    report = ask(
        "sft", symptoms=["knowledge_gap"], wrong_with_passage=True, prompting_tried="zero_shot"
    )

    assert report.summary.startswith(
        "Write the best prompt first (new this time: print what is really sent"
    )


def test_ways_to_make_rows_are_compared_where_nothing_is_said_to_fail():
    texts = {"has_documents": True, "data_source": "planned"}

    assert "each way of making them" in verdict("synthetic_data", "sft", **texts).condition
    assert verdict("sft", "synthetic_data", **texts).verdict == "later"
    assert verdict("sft", "synthetic_data", **texts, symptoms=["knowledge_gap"]).verdict == "no"


def test_a_model_that_is_behind_replaces_nothing():
    scores = {"small_model_score": 0.5, "large_model_score": 0.8, "observed": ["small_test"]}

    assert verdict("other_model", "do_nothing", **scores, task="extract").verdict == "later"
    assert verdict("other_model", **scores, task="extract").verdict == "now"


def test_a_run_that_broke_at_a_step_is_not_told_of_end_tokens_and_is_not_continued():
    broken = {"observed": ["breaks_midway", "gibberish", "no_stop"], "tried_training": ["sft"]}
    report = ask("continue_run", **broken)

    assert "plot loss, gradient norm and rate around that step" in report.summary
    assert "never learned its end token" not in report.summary
    assert report.verdicts[0].verdict == "no"


def test_records_of_customers_stay_in_the_prompt():
    report = ask("sft", "long_context", "several_adapters", has_documents=False)

    assert report.row == "records_are_sent"
    assert [each.verdict for each in report.verdicts] == ["no", "now", "later"]


def test_a_corrected_answer_is_retrieved_and_not_trained():
    report = ask("sft", "user_feedback", has_documents=True, has_retrieval=True)

    assert (report.row, report.approach) == ("corrections_by_users", "rag")
    assert report.verdicts[0].verdict == "no"


def test_what_is_good_and_dear_is_not_said_to_miss_its_target():
    small = "small_model_fine_tuning"
    logged = {"data_source": "production_logs", "has_eval_set": False}

    asked = ask(small, "long_context", **BILL, **logged)

    assert asked.verdicts[0].condition.endswith("still too dear or too slow")
    assert "still missed" not in ask(small, **BILL, **logged).summary


def test_a_small_model_is_a_classifier_only_where_classes_are_said():
    report = ask("other_model", "small_model_fine_tuning", target_met=False)
    labels = ask("other_model", "small_model_fine_tuning", target_met=False, num_classes=6)

    assert "linear head" not in report.verdicts[0].condition
    assert "linear head" in labels.verdicts[0].condition


def test_who_trained_measures_that_model_too_before_the_next_stage():
    rewards = {"has_verifiable_reward": True}
    again = ask("rl_verifiable_reward", **rewards, checkpoint="sft_run")

    assert any("the model that you trained" in each for each in again.path[0].measure_first)
    assert "that you trained" not in ask("rl_verifiable_reward", **rewards).summary


def test_a_quantized_model_that_writes_rows_is_no_adapter_base():
    made = verdict("quantization", "synthetic_data", "sft", data_source="planned")

    assert "read blind beside 50 of the full-precision one" in made.condition
    assert "QLoRA" in verdict("quantization", "sft").condition


@pytest.mark.parametrize("lever", ["guard", "decoding", "user_feedback", "continue_run"])
def test_one_change_to_what_runs_is_scored_before_and_after_it(lever):
    assert ask(lever).row == "one_change_asked"
    assert ask(lever, "sft").row != "one_change_asked"


def test_what_gets_worse_is_first_looked_at_by_class_of_request():
    assert ask("roll_back", target_met=False).row == "runs_and_gets_worse"
