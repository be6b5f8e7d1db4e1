"""What is named without a number exists, and what is asked about says what the task is."""

import pytest

from ft_tools.approach.decision import decide
from ft_tools.approach.questions import questions
from ft_tools.approach.request import ApproachRequest
from ft_tools.approach.situation import situation
from ft_tools.approach.tool import recommend_approach


def first(**said):
    return recommend_approach(ApproachRequest(**said)).approach


def verdict(asked, **said):
    report = recommend_approach(ApproachRequest(considering=[asked], **said))
    return report.verdicts[0]


def test_a_number_that_nobody_gave_is_not_reported_as_observed():
    """`demonstrations = 1000` stood among the reasons of a question that had no number."""
    asked = ApproachRequest(considering=["sft", "small_model_fine_tuning"], symptoms=["style"])
    said = str(recommend_approach(asked).reasons[0].observed)
    assert "demonstrations = not counted, taken as 1,000" in said
    counted = asked.model_copy(update={"num_demonstrations": 1000})
    assert "demonstrations = 1000" in str(recommend_approach(counted).reasons[0].observed)


def test_a_question_about_pairs_and_a_raw_base_presumes_pairs_and_begins_with_sft():
    assert first(considering=["dpo"], checkpoint="base") == "sft_then_dpo"
    assert first(considering=["dpo"], checkpoint="base", num_preference_pairs=0) != "sft_then_dpo"


@pytest.mark.parametrize(("terms", "trains"), [("allowed", True), ("forbidden", False)])
@pytest.mark.parametrize("checkpoint", ["base", "instruct"])
def test_marks_on_answers_whose_terms_forbid_training_are_not_trained_on(terms, trains, checkpoint):
    asked = {"symptoms": ["tone"], "num_marks": 3000, "prompting_tried": "few_shot"}
    asked |= {"data_source": "stronger_model", "has_eval_set": True, "checkpoint": checkpoint}
    assert (first(**asked, teacher_terms=terms) in {"sft", "kto"}) == trains


def test_pairs_are_not_presumed_where_marks_are_given():
    assert first(considering=["dpo", "kto"], num_marks="thousands") == "kto"


@pytest.mark.parametrize(
    "author",
    [{"data_source": "human"}, {"data_source": "production_logs"}, {"teacher": "deepseek"}],
)
def test_a_named_author_of_labels_means_that_there_are_labels(author):
    assert first(symptoms=["classification"], **author) == "small_model_fine_tuning"
    assert first(symptoms=["classification"], num_demonstrations="none", **author) == "prompting"


def test_a_named_author_alone_does_not_make_the_prompt_count_as_tried_where_answers_are_wrong():
    said = {"considering": ["sft"], "data_source": "human"}

    assert first(symptoms=["tone"], **said) == "prompting"
    assert first(symptoms=["cost"], **said) == "small_model_fine_tuning"


def test_the_cheapest_way_that_is_proposed_comes_before_training_on_uncounted_rows():
    said = {"symptoms": ["classification"], "prompting_tried": "zero_shot", "data_source": "human"}

    assert first(considering=["few_shot", "sft"], **said) == "few_shot"
    assert first(considering=["sft"], **said) == "small_model_fine_tuning"
    assert first(considering=["small_model_fine_tuning"], data_source="human") != (
        first(considering=["small_model_fine_tuning", "collect_data_first"], data_source="human")
    )


def test_what_is_presumed_is_said_and_asked_first():
    request = ApproachRequest(considering=["kto"])
    report = recommend_approach(request)

    assert "Not counted, so count it first" in report.assets[0].use
    assert questions(request, decide(request))[0].field == "num_marks"


def test_raw_text_is_never_presumed_and_its_amount_is_asked():
    asked = {"considering": ["continued_pretraining"], "checkpoint": "base"}
    of_language = recommend_approach(ApproachRequest(symptoms=["new_language"], **asked))

    assert [step.approach for step in of_language.path][:2] == [
        "prompting",
        "continued_pretraining",
    ]
    assert "corpus_tokens" in {question.field for question in of_language.questions}
    assert first(symptoms=["new_language"], corpus_tokens=10**9, **asked) == "continued_pretraining"
    assert first(symptoms=["domain_jargon"], **asked) == "rag"


def test_a_language_is_taught_before_sft_even_where_facts_are_missing_too():
    said = {"symptoms": ["new_language", "knowledge_gap"], "corpus_tokens": 10**9}
    path = recommend_approach(ApproachRequest(**said)).path

    assert [step.approach for step in path] == ["continued_pretraining", "sft"]


@pytest.mark.parametrize("source", [{"data_source": "stronger_model"}, {}])
@pytest.mark.parametrize("prompt", ["zero_shot", None])
def test_terms_come_first_where_answers_of_a_closed_model_are_sold_counted_or_not(source, prompt):
    report = recommend_approach(
        ApproachRequest(
            considering=["sft"],
            teacher="openai",
            product_use="sold",
            prompting_tried=prompt,
            **source,
        )
    )

    assert report.row == "terms_before_a_sale"
    assert report.verdicts[0].verdict == "later"


def test_logs_of_a_named_model_are_answers_of_that_model():
    said = {"symptoms": ["cost"], "product_use": "sold", "data_source": "production_logs"}

    assert first(teacher="anthropic", **said) == "collect_data_first"
    assert first(teacher="open_licence", num_demonstrations=5000, **said) != "collect_data_first"


def test_a_number_of_classes_says_that_the_task_is_classification():
    assert first(num_classes=90, num_demonstrations="thousands") == "small_model_fine_tuning"


@pytest.mark.parametrize("met", [True, False, None])
def test_good_but_dear_labels_are_distilled_however_the_target_was_set(met):
    said = {"symptoms": ["cost"], "num_classes": 47, "target_met": met}

    assert first(**said) == "distillation"


def test_a_met_target_that_is_neither_dear_nor_slow_needs_nothing():
    assert first(considering=["sft"], target_met=True) == "do_nothing"


def test_a_question_about_sft_before_dpo_gets_a_verdict_that_depends_on_the_checkpoint():
    asked = {"num_preference_pairs": "more"}

    assert verdict("sft_then_dpo", checkpoint="base", **asked).verdict == "now"
    for_chat = verdict("sft_then_dpo", checkpoint="instruct", response_format="detailed", **asked)
    assert (for_chat.verdict, for_chat.instead) == ("later", "dpo")
    assert "does not replace both" in for_chat.condition


def test_pairs_that_a_stronger_model_wrote_begin_with_sft_even_for_a_chat_model():
    said = {"checkpoint": "sft_run", "num_preference_pairs": 2000}

    assert first(considering=["sft", "dpo"], **said) == "dpo"
    assert first(considering=["sft", "dpo"], data_source="stronger_model", **said) == "sft_then_dpo"


def test_reinforcement_learning_without_the_format_begins_with_sft():
    asked = {"considering": ["rl_verifiable_reward"], "symptoms": ["output_format"]}
    report = recommend_approach(ApproachRequest(has_verifiable_reward=True, **asked))

    assert [step.approach for step in report.path] == ["sft", "rl_verifiable_reward"]
    assert first(success_fraction="half", **asked) != "sft"


def test_examples_of_safe_conduct_are_for_training_and_of_a_tone_for_the_prompt():
    assert first(symptoms=["safety"], num_demonstrations=900) == "sft"
    assert first(symptoms=["tone"], num_demonstrations=900) == "prompting"


def test_labels_that_are_there_are_no_condition_of_a_small_model():
    few, enough = (
        verdict("small_model_fine_tuning", prompting_tried="none", num_demonstrations=number)
        for number in (20, 240)
    )

    assert few.condition == "step 5: if some hundred inputs have right labels"
    assert enough.condition == "step 4: if the best prompt misses the target (labels are there)"


def test_how_answers_fail_is_asked_only_where_something_may_answer():
    def fields(**given):
        request = ApproachRequest(num_demonstrations=240, considering=["sft"], **given)
        return {question.field for question in questions(request, decide(request))}

    assert "symptoms" in fields(prompting_tried="zero_shot")
    assert "symptoms" in fields(prompting_tried="none", tried_training=["dpo"])
    assert "symptoms" not in fields(prompting_tried="none")


def test_a_running_retriever_says_that_knowledge_is_missing():
    assert first(considering=["sft"], has_retrieval=True, retrieval_recall="few") == "rag"


def test_a_prompt_that_is_asked_about_is_the_baseline_of_training():
    asked = verdict("prompting", num_classes=40, data_source="human")

    assert (asked.verdict, "baseline" in asked.condition) == ("now", True)


def test_sft_is_part_of_training_a_small_model_unless_it_chooses_a_label():
    dear = {"symptoms": ["cost"], "num_demonstrations": 9000, "data_source": "human"}

    assert verdict("sft", **dear).verdict == "now"
    assert verdict("sft", num_classes=40, num_demonstrations=9000).verdict == "later"


def test_a_local_model_that_is_worse_is_taught_where_data_must_stay():
    said = {"symptoms": ["privacy"], "small_model": "worse", "num_demonstrations": 900}

    assert first(data_source="production_logs", **said) == "distillation"
    assert first(data_source="human", **said) == "small_model_fine_tuning"


def test_rough_words_stand_for_numbers_of_calls_and_fractions():
    rough = situation(ApproachRequest(batch_calls="millions", success_fraction="half"))
    exact = situation(ApproachRequest(batch_calls=3_000_000, success_fraction=0.5))

    assert rough == exact


@pytest.mark.parametrize("value", ["often", 1.5, True])
def test_a_fraction_that_is_none_is_refused_with_the_words_that_are(value):
    with pytest.raises(ValueError, match="from 0 to 1, or roughly: none, few, half, most, all"):
        ApproachRequest(retrieval_recall=value)


@pytest.mark.parametrize(
    ("examples", "words"), [(2_000, "contrast (SetFit)"), (800_000, "without contrastive pairs")]
)
def test_how_a_classifier_is_trained_depends_on_the_examples_per_class(examples, words):
    report = recommend_approach(
        ApproachRequest(num_classes=130, num_demonstrations=examples, prompting_tried="few_shot")
    )

    assert report.approach == "small_model_fine_tuning"
    assert words in report.path[0].why


def test_pairs_are_not_presumed_where_dpo_is_compared_with_a_prompt_that_was_measured():
    asked = {"considering": ["few_shot", "sft", "dpo"], "symptoms": ["style"]}
    missed = {"prompting_tried": "few_shot", "target_met": False}
    report = recommend_approach(ApproachRequest(**missed, **asked))

    assert report.approach == "prompt_optimization"
    assert [each.verdict for each in report.verdicts] == ["now", "later", "later"]
    assert first(**asked) == "sft_then_dpo"


def test_a_number_that_was_not_given_is_to_be_counted_before_training():
    said = {"symptoms": ["style"], "prompting_tried": "few_shot", "considering": ["sft"]}
    uncounted = recommend_approach(ApproachRequest(data_source="human", **said)).path[0]
    counted = recommend_approach(ApproachRequest(num_demonstrations=900, **said)).path[0]

    assert any("no number was given" in each for each in uncounted.measure_first)
    assert not any("no number was given" in each for each in counted.measure_first)


def test_sft_of_a_thinking_model_is_refused_until_the_examples_contain_reasoning():
    thinks = {"must_keep_thinking": True, "symptoms": ["reasoning"]}
    without = verdict("sft", examples_have_reasoning=False, **thinks)

    assert (without.verdict, without.condition.split()[0]) == ("no", "until")
    assert verdict("sft", **thinks).verdict == "later"


def test_a_closed_teacher_of_unknown_use_is_asked_about_and_stops_nothing():
    said = {"symptoms": ["cost"], "num_demonstrations": "more", "data_source": "stronger_model"}
    report = recommend_approach(ApproachRequest(teacher="anthropic", **said, num_classes=5))

    assert report.approach == "distillation"
    assert {"product_use", "teacher_terms"} <= {question.field for question in report.questions}


def test_text_that_is_known_to_be_little_is_read_whole_where_that_is_asked_about():
    asked = {"considering": ["long_context", "rag"], "has_documents": True}

    assert first(num_demonstrations=25, symptoms=["knowledge_gap", "latency"], **asked) == (
        "long_context"
    )
    assert first(symptoms=["knowledge_gap"], **asked) == "rag"


def test_pretraining_that_broke_a_chat_model_is_undone():
    report = recommend_approach(
        ApproachRequest(
            considering=["continued_pretraining"],
            symptoms=["instruction_following", "knowledge_gap"],
            checkpoint="instruct",
        )
    )

    assert (report.row, report.approach) == ("training_broke_it", "prompting")
