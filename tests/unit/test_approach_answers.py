"""What was asked is answered: questions that the tool once answered with another one."""

from typing import get_args

import pytest

from ft_tools.approach.request import ApproachRequest, Aside
from ft_tools.approach.situation import situation
from ft_tools.approach.tool import recommend_approach
from ft_tools.views.terminal import show


def ask(**arguments):
    return recommend_approach(ApproachRequest(**arguments))


def conditions_of(**arguments):
    return {each.approach: each.condition for each in ask(**arguments).verdicts}


PAIRS = {"num_preference_pairs": 60_000}
LOGS = {"symptoms": ["cost"], "num_demonstrations": "thousands", "data_source": "production_logs"}
SOLD = {"data_source": "stronger_model", "product_use": "sold", "num_demonstrations": 20_000}
NO_SUCCESS = {"has_verifiable_reward": True, "success_fraction": 0.0, "symptoms": ["reasoning"]}


@pytest.mark.parametrize(
    ("arguments", "first"),
    [
        (PAIRS | {"checkpoint": "base", "considering": ["dpo"]}, "sft_then_dpo"),
        (PAIRS | {"checkpoint": "instruct", "considering": ["dpo"]}, "dpo"),
        ({"num_marks": "more", "considering": ["dpo"]}, "kto"),
        ({"symptoms": ["classification"], "num_demonstrations": "more"}, "small_model_fine_tuning"),
        (
            {"symptoms": ["classification"], "num_classes": 220, "num_demonstrations": 2200},
            "small_model_fine_tuning",
        ),
        (SOLD, "collect_data_first"),
        ({"symptoms": ["output_format"], "schema_enforced": False}, "constrained_decoding"),
        ({"symptoms": ["new_language"], "corpus_tokens": 10**9}, "continued_pretraining"),
        (NO_SUCCESS | {"num_demonstrations": "hundreds"}, "sft"),
        (
            {"symptoms": ["knowledge_gap"], "has_retrieval": True, "retrieval_recall": 0.95},
            "prompting",
        ),
        ({"symptoms": ["knowledge_gap"], "has_retrieval": True, "retrieval_recall": 0.3}, "rag"),
    ],
)
def test_the_first_step_answers_the_question_that_was_asked(arguments, first):
    assert ask(**arguments).approach == first


def test_a_smaller_prompt_and_the_training_after_it_are_both_named():
    assert [step.approach for step in ask(**LOGS).path] == ["prompting", "distillation"]


def test_reinforcement_comes_after_the_first_successes():
    report = ask(**NO_SUCCESS, considering=["rl_verifiable_reward"])

    assert report.path[-1].approach == "rl_verifiable_reward"
    assert report.verdicts[0].verdict == "later"
    assert "rl_zero_reward" in report.verdicts[0].rules


def test_the_best_prompt_is_measured_first_where_none_was_mentioned():
    report = ask(**PAIRS, checkpoint="instruct", considering=["dpo"])
    told = ask(**PAIRS, checkpoint="instruct", considering=["dpo"], prompting_tried="optimized")

    assert "best prompt" in report.path[0].measure_first[0]
    assert not any("best prompt" in each for each in told.path[0].measure_first)


def test_the_summary_says_what_to_do_and_what_decides_it_before_the_answers():
    report = ask(symptoms=["knowledge_gap"], has_documents=True, considering=["sft", "rag"])

    assert report.summary.startswith(
        "Retrieve the facts into the prompt. Decided by symptoms: knowledge_gap, has_documents. "
        "sft: no ("
    )
    assert "rag: now. How: The model lacks facts" in report.summary


@pytest.mark.parametrize("considering", [["sft"], ["small_model_fine_tuning"], ["dpo"]])
def test_a_summary_begins_with_at_most_three_sentences_on_what_to_do_why_and_what_to_measure(
    considering,
):
    report = ask(considering=considering, num_demonstrations="thousands", num_preference_pairs=9000)
    lead = report.summary[: report.summary.index(f"{considering[0]}: now")]
    what, why, measure = lead.split(". ", 2)

    assert what.endswith(", if what is measured first misses the target")
    assert why.startswith(("Decided by ", "No fact decides"))
    assert measure.startswith("Unless it is done, first measure ")
    assert measure.count(". ") == 1  # its end


@pytest.mark.parametrize(
    ("use", "labels", "first"),
    [
        ("internal", {"num_classes": 12}, "distillation"),
        ("sold", {"num_classes": 12}, "collect_data_first"),
    ],
)
def test_the_terms_of_a_teacher_depend_on_the_use(use, labels, first):
    report = ask(
        symptoms=["cost"],
        num_demonstrations="thousands",
        data_source="stronger_model",
        teacher="openai",
        product_use=use,
        prompting_tried="few_shot",
        **labels,
    )

    assert report.approach == first


def test_terms_are_not_asked_of_what_people_wrote():
    fields = {
        data: {
            question.field
            for question in ask(
                symptoms=["style"],
                considering=["sft"],
                num_demonstrations=900,
                data_source=data,
            ).questions
        }
        for data in ("human", "stronger_model")
    }

    assert "product_use" in fields["stronger_model"]
    assert not {"product_use", "teacher_terms"} & fields["human"]


def test_every_asset_gets_one_line():
    report = ask(
        symptoms=["knowledge_gap"],
        has_documents=True,
        num_demonstrations="tens",
        num_marks="hundreds",
        budget_usd=200,
        response_format="detailed",
    )

    assert [each.asset for each in report.assets] == [
        "num_demonstrations",
        "num_marks",
        "has_documents",
        "budget_usd",
    ]


def test_a_person_sees_a_ladder_with_the_point_to_stop_at_each_step(capsys):
    report = ask(symptoms=["style"], considering=["sft"])
    show(report, "human")
    said = capsys.readouterr().out

    assert said.index("1. prompting") < said.index("2. few_shot")
    assert said.count("stop if") == len(report.path)
    assert "stop_if" not in said


@pytest.mark.parametrize("asked", get_args(Aside))
def test_what_is_asked_beside_an_approach_gets_a_sourced_verdict_with_its_condition(asked):
    report = ask(considering=[asked])
    answer = report.verdicts[0]

    assert answer.approach == asked
    assert f" {asked}: {answer.verdict}" in report.summary
    assert answer.condition
    assert answer.source.startswith(("https://", "ft_tools/facts/"))


SFT_RUN = {"considering": ["sft"], "checkpoint": "sft_run"}
STYLE_MISSED = {"symptoms": ["style"], "tried_training": ["sft"]}
NO_PREFERENCES = {"num_preference_pairs": "none", "num_marks": "none"}


@pytest.mark.parametrize(
    ("arguments", "first", "verdict"),
    [
        (SFT_RUN, "sft", "now"),
        (
            SFT_RUN | {"symptoms": ["style"], "tried_training": ["sft"]},
            "collect_data_first",
            "later",
        ),
        ({"considering": ["sft", "dpo"]} | NO_PREFERENCES, "sft", "now"),
        ({"considering": ["rl_verifiable_reward"]}, "build_eval_first", "later"),
        ({"considering": ["build_eval_first"], "checkpoint": "sft_run"}, "build_eval_first", "now"),
        ({"considering": ["sft"], "symptoms": ["forgetting"]}, "collect_data_first", "now"),
        (
            {"considering": ["sft"], "symptoms": ["latency"], "weights_access": "open_weights"},
            "prompting",
            "no",
        ),
        (
            {"considering": ["sft"], "symptoms": ["cost"], "calls_per_day": "millions"},
            "sft",
            "now",
        ),
    ],
)
def test_who_trains_already_is_answered_as_such(arguments, first, verdict):
    report = ask(**arguments)

    assert (report.approach, report.verdicts[0].verdict) == (first, verdict)


def test_a_model_that_was_trained_and_fails_is_diagnosed_before_it_is_prompted():
    for said in ({"checkpoint": "sft_run"}, {"tried_training": ["sft"]}):
        path = [step.approach for step in ask(symptoms=["instruction_following"], **said).path]
        assert path[0] == "collect_data_first"


def test_no_answer_allows_what_a_block_speaks_against():
    report = ask(
        considering=["sft"],
        symptoms=["forgetting"],
        data_source="stronger_model",
        teacher_terms="forbidden",
    )

    assert report.verdicts[0].verdict != "now"


def test_data_about_people_are_bound_by_law_in_the_summary_and_the_reasons():
    said = {"considering": ["sft"], "symptoms": ["forgetting"], "tried_training": ["sft"]}
    bound = ask(personal_data=True, **said)
    free = ask(personal_data=False, **said)

    assert "legal ground" in bound.summary
    assert any("Article 9" in str(reason.rule) for reason in bound.reasons)
    assert "legal ground" not in free.summary


@pytest.mark.parametrize(
    ("asked", "row", "said"),
    [
        ("rl_verifiable_reward", "setup_of_rl", "rewards"),
        ("dpo", "setup_of_preferences", "margin"),
        ("sft", "setup_is_wrong", "quantized"),
    ],
)
def test_a_fault_of_training_is_looked_for_where_that_training_has_its_faults(asked, row, said):
    report = ask(considering=[asked], symptoms=["training_fault", "hallucination"])

    assert (report.approach, report.row) == ("check_setup", row)
    assert said in report.summary
    assert report.verdicts[0].verdict == "later"
    assert "once the fault is found" in report.verdicts[0].condition


@pytest.mark.parametrize(
    ("fault", "first", "said"),
    [
        ("nan_loss", "check_setup", "bf16"),
        ("out_of_memory", "check_setup", "accumulation"),
        ("no_effect", "check_setup", "adapter"),
        ("export_fault", "check_setup", "Modelfile"),
        ("bad_rows", "collect_data_first", "no run on them"),
    ],
)
def test_a_fault_that_is_named_is_looked_for_where_it_shows(fault, first, said):
    report = ask(considering=["sft", "hyperparameters"], symptoms=[fault], tried_training=["sft"])
    run, settings = report.verdicts

    assert report.approach == first
    assert said in report.summary
    assert run.verdict == "later"
    assert settings.verdict == ("now" if fault in ("out_of_memory", "nan_loss") else "later")


def test_what_was_never_run_is_not_said_to_be_run_again():
    trained = {"symptoms": ["training_fault"], "tried_training": ["rl_verifiable_reward"]}
    said = conditions_of(considering=["sft"], **trained)

    assert "again" not in said["sft"]


def test_a_question_about_memory_is_no_fault_of_a_run():
    asked = ["sft", "small_model_fine_tuning", "hardware"]
    found = ask(task="label", considering=asked, gpu="RTX 4080 16GB").verdicts
    assert not any("fault" in one.condition or "again" in one.condition for one in found)
    (fault, *_) = ask(considering=["sft"], symptoms=["training_fault"]).verdicts
    assert "fault" in fault.condition


def test_a_teacher_is_tuned_and_plain_sft_is_measured_where_distillation_disappoints():
    report = ask(considering=["sft"], symptoms=["training_fault"], tried_training=["distillation"])

    assert report.verdicts[0].verdict == "now"
    assert "of the teacher" in report.verdicts[0].condition


def test_data_about_people_go_to_a_model_behind_an_api_only_with_permission():
    remote = {"considering": ["sft"], "symptoms": ["extraction"], "num_demonstrations": 3_000}
    report = ask(**remote, personal_data=True, weights_access="api_only")

    assert "permitted in writing" in report.verdicts[0].condition
    assert "permitted" in report.summary
    assert "permitted" not in ask(**remote, personal_data=True).verdicts[0].condition


def test_logs_are_cleaned_before_training_however_many_there_are():
    logs = {"considering": ["sft"], "symptoms": ["style"], "num_demonstrations": 50_000}

    assert ask(**logs, data_source="production_logs").approach == "collect_data_first"
    assert ask(**logs, data_source="human").approach == "sft"


def test_thousands_of_classes_are_searched():
    report = ask(
        considering=["small_model_fine_tuning", "rag"], num_classes=20_000, num_demonstrations=10**6
    )

    assert report.row == "classes_are_matched"
    assert "not with one output per class" in report.verdicts[0].condition


def test_how_one_trains_waits_until_training_is_due():
    facts = {"symptoms": ["knowledge_gap"], "has_documents": True}
    report = ask(**facts, considering=["several_adapters", "hyperparameters", "data_format"])

    assert {each.verdict for each in report.verdicts} == {"later"}


def test_a_run_that_gains_nothing_is_dropped_and_one_that_is_not_loaded_is_named():
    report = ask(considering=["do_nothing", "sft"], tried_training=["sft"], has_eval_set=True)

    assert report.approach == "do_nothing"
    assert "Choose check_setup instead if" in report.summary


def test_little_text_is_enough_to_pretrain_an_encoder_but_no_language_model():
    encoder = ask(considering=["continued_pretraining", "small_model_fine_tuning"])
    model = ask(considering=["continued_pretraining", "sft"])

    assert {each.approach: each.verdict for each in encoder.verdicts} == {
        "continued_pretraining": "now",
        "small_model_fine_tuning": "now",
    }
    assert model.verdicts[0].verdict == "later"


def test_what_waits_for_training_is_answered_all_the_same():
    report = ask(considering=["hardware", "sft"], has_documents=True)

    assert report.verdicts[0].verdict == "later"
    assert "QLoRA about 8 to 12" in report.summary


def test_the_usual_order_is_called_so_where_no_fact_decides():
    assert "usual order" in ask(considering=["sft"]).summary
    assert "usual order" not in ask(considering=["sft"], symptoms=["style"]).summary


def test_advice_on_other_tasks_says_that_it_is_about_text():
    report = ask(considering=["small_model_fine_tuning"], task="image")

    assert report.approach == "build_eval_first"
    assert "about models of text" in report.summary


@pytest.mark.parametrize(
    ("arguments", "first", "words"),
    [
        ({"task": "table", "considering": ["sft"]}, "small_model_fine_tuning", "boosted trees"),
        ({"task": "table", "has_eval_set": False}, "build_eval_first", "boosted trees"),
        (
            {"task": "search", "considering": ["small_model_fine_tuning", "sft"]},
            "build_eval_first",
            "BM25",
        ),
        ({"task": "search", "has_eval_set": True, "considering": ["sft"]}, "rag", "BM25"),
        (
            {"task": "code", "symptoms": ["output_format"], "considering": ["sft"]},
            "few_shot",
            "return the error",
        ),
        (
            {"task": "code", "symptoms": ["output_format"], "prompting_tried": "few_shot"},
            "prompting",
            "stronger model",
        ),
        ({"symptoms": ["input_cut"]}, "long_context", "parts that overlap"),
        ({"symptoms": ["missing_refusals"]}, "prompting", "wrong refusals"),
    ],
)
def test_a_kind_of_task_gets_what_applies_to_it(arguments, first, words):
    report = ask(**arguments)

    assert report.approach == first
    assert words in report.summary


DEAR = {"symptoms": ["classification", "cost"], "prompting_tried": "zero_shot", "target_met": False}
TRAINED = {"tried_training": ["sft"], "target_met": False}


@pytest.mark.parametrize(
    ("arguments", "row"),
    [
        (DEAR | {"considering": ["sft"], "task": "label"}, "dear_prompt_misses"),
        (
            {"symptoms": ["style", "cost"], "prompting_tried": "zero_shot", "small_model": "worse"},
            "dear_prompt_of_a_large_model",
        ),
        (TRAINED | {"symptoms": ["hallucination", "extraction"]}, "trained_to_invent"),
        (TRAINED | {"symptoms": ["later_turns"]}, "trained_on_single_turns"),
        (TRAINED | {"must_keep_thinking": True}, "thinking_was_trained_away"),
        (
            TRAINED | {"symptoms": ["forgetting"], "considering": ["sft", "prompting"]},
            "retraining_or_rebuilding",
        ),
        (
            {"considering": ["rl_verifiable_reward"], "has_verifiable_reward": False},
            "reward_is_no_check",
        ),
    ],
)
def test_what_was_done_and_what_is_dear_decides(arguments, row):
    assert ask(**arguments).row == row


def test_dpo_starts_from_a_model_whose_name_says_that_it_is_a_chat_model():
    asked = {"considering": ["sft", "dpo", "sft_then_dpo"], "num_preference_pairs": 5000}

    assert ask(**asked).approach == "sft_then_dpo"
    assert ask(**asked, model="Llama-2-7b-chat-hf").approach == "dpo"


@pytest.mark.parametrize(
    ("model", "checkpoint"),
    [
        ("Qwen/Qwen2.5-7B-Instruct", "instruct"),
        ("google/gemma-3-27b-it", "instruct"),
        ("google/medgemma-27b-text-it", "instruct"),
        ("Qwen1.5-72B-Chat-GPTQ-Int4", "instruct"),
        ("Helsinki-NLP/opus-mt-en-it", "unknown"),
        ("models/chat/Llama-3.1-8B", "unknown"),
        ("Qwen/Qwen3-0.6B-Base", "unknown"),
    ],
)
def test_the_checkpoint_is_what_the_name_of_a_model_says(model, checkpoint):
    assert situation(ApproachRequest(model=model)).choices["checkpoint"] == checkpoint


def test_another_first_step_is_named_before_its_condition():
    """The condition may be longer than a clause, so that nothing can follow it."""
    summary = ask(**TRAINED, must_keep_thinking=True).summary

    assert "Choose check_setup instead if the rows do hold thoughts and turns: then" in summary


@pytest.mark.parametrize("given", [{}, {"num_demonstrations": 400}, {"task": "label"}])
def test_a_prompt_that_was_measured_and_misses_is_not_asked_for_once_more(given):
    said = conditions_of(**DEAR | given, considering=["sft", "prompting"])

    assert "prompt was measured and misses" not in said["sft"]
    assert "an encoder or a head on embeddings misses" in said["sft"]


def test_to_train_on_a_named_gpu_is_no_question_about_small_devices():
    asked = {"considering": ["hardware", "quantization", "sft"], "gpu": "RTX 4090"}
    said = conditions_of(**asked, model="Qwen1.5-72B-Chat")

    assert "QLoRA" in said["hardware"]
    assert "QLoRA" in said["quantization"]
    assert "weakest device" in conditions_of(**asked, has_documents=True)["hardware"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"task": "label"}, "per class"),
        ({"task": "extract"}, "documents"),
        ({"task": "speech"}, "hours"),
        ({"task": "image"}, "images"),
        ({"task": "translate"}, "sentence pairs"),
        ({"task": "search"}, "queries"),
        ({"symptoms": ["tool_use"]}, "traces"),
        ({"symptoms": ["knowledge_gap"]}, "none for facts"),
        ({"considering": ["continued_pretraining"]}, "100 million tokens"),
        ({"tried_training": ["sft"], "num_demonstrations": 20_000}, "not more of the same"),
        ({}, "50 well-made rows"),
    ],
)
def test_the_number_of_examples_is_that_of_the_task(arguments, words):
    asked = [*arguments.get("considering", []), "data_amount"]

    assert words in ask(**arguments | {"considering": asked}).summary


@pytest.mark.parametrize("task", ["label", "search", "speech", "image"])
def test_settings_of_what_is_no_language_model_are_not_those_of_lora(task):
    asked = ["small_model_fine_tuning", "hyperparameters"]
    verdicts = ask(task=task, considering=asked, num_demonstrations=600).verdicts

    assert "start from suggest_lora_config" not in verdicts[1].condition


def test_facts_that_change_hourly_are_looked_up():
    report = ask(considering=["rag", "retraining"], knowledge_changes="hourly")

    assert report.approach == "tool_lookup"
    assert report.verdicts[1].verdict == "no"
