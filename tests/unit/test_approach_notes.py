"""What was observed and where it will run, said beside the first step; data that are planned."""

from typing import get_args

import pytest

from ft_tools.approach.concise import MOST_TOKENS, tokens
from ft_tools.approach.request import ApproachRequest, Observed, RunsOn
from ft_tools.approach.table import table
from ft_tools.approach.tool import recommend_approach

TRAINED = {"tried_training": ["sft"]}


def ask(**arguments):
    return recommend_approach(ApproachRequest(**arguments))


def conditions(**arguments):
    return {each.approach: each for each in ask(**arguments).verdicts}


@pytest.mark.parametrize("seen", get_args(Observed))
def test_whatever_is_observed_is_answered_first(seen):
    with_it = ask(observed=[seen], **TRAINED)
    without = ask(**TRAINED)

    (first, *_) = (
        at
        for note in table().notes
        if seen in note.when.get("observed", []) and (at := with_it.summary.find(note.says)) >= 0
    )

    assert first < with_it.summary.index(with_it.path[0].why)
    assert with_it.summary != without.summary
    assert not any(each.startswith(f"observed: {seen}") for each in with_it.unused)


@pytest.mark.parametrize(
    "run",
    [
        {"tried_training": ["rl_verifiable_reward"]},
        {"considering": ["rl_verifiable_reward"], "has_verifiable_reward": True},
        {"considering": ["rlhf"]},
    ],
)
def test_a_loss_of_0_is_normal_where_a_reward_trains(run):
    found = ask(observed=["loss_zero"], **run)
    sft = ask(observed=["loss_zero"], **(run | TRAINED))

    assert found.row != "fault_of_precision"
    assert "A loss near 0 is normal in GRPO; watch the reward" in found.summary
    assert "no answer token is trained" not in found.summary
    assert sft.row == "fault_of_precision"
    assert "normal in GRPO" not in sft.summary


def test_of_many_passes_every_kind_chooses_the_checkpoint_and_text_takes_fewer():
    speech = ask(observed=["many_passes"], task="speech", **TRAINED).summary

    assert "choose the checkpoint by the held-out score" in speech
    assert "one to three passes" not in speech
    assert "one to three passes" in ask(observed=["many_passes"], **TRAINED).summary


@pytest.mark.parametrize("seen", ["no_stop", "gibberish"])
@pytest.mark.parametrize("run", [{}, TRAINED])
def test_a_recogniser_that_does_not_end_has_no_stop_token_to_look_for(seen, run):
    said = ask(observed=[seen], task="speech", **run).summary

    assert "cut silence out (VAD)" in said
    assert "end token" not in said
    assert "stop token" not in said


def test_no_template_is_looked_for_where_images_are_classified():
    said = ask(observed=["other_template"], task="image", **TRAINED).summary

    assert "end-of-turn token" not in said


def test_full_training_takes_what_its_precision_takes_wherever_it_is_said():
    said = "8 GB per billion parameters in pure bf16, 16 to 18 in mixed precision"
    short = {"symptoms": ["out_of_memory"], **TRAINED}
    memory, full = ask(considering=["hardware", "full_training"], **short).verdicts
    (later, _) = ask(considering=["full_training", "hardware"], symptoms=["style"]).verdicts
    (usual, _) = ask(considering=["hardware", "sft"], symptoms=["style"]).verdicts

    assert full.verdict == "no"
    assert said in memory.condition
    assert said in full.why
    assert said in later.condition
    assert said in usual.condition


def test_data_parallel_holds_a_copy_on_each_card_and_a_smaller_batch_does_not_shrink_it():
    (found,) = ask(considering=["hardware"], symptoms=["out_of_memory"], **TRAINED).verdicts

    assert "In data parallel each card holds a copy" in found.condition
    assert "device_map auto" in found.condition
    assert found.why == "Weights that do not fit are not helped by a smaller batch."


def test_the_range_of_a_reward_is_free_only_in_grpo_as_it_is_by_default():
    (found,) = ask(considering=["reward_design"], has_verifiable_reward=True).verdicts

    assert "in GRPO with its default scaling sign and range are free" in found.condition
    assert "in PPO the range matters" in found.condition


def test_a_mac_runs_vllm_only_through_its_own_port():
    (found,) = ask(considering=["hardware"], runs_on=["mac"], symptoms=["style"]).verdicts

    assert "vLLM uses its GPU only through vllm-metal" in found.condition


def test_a_file_of_a_few_kilobytes_is_an_empty_adapter_not_a_missing_stop_token():
    found = ask(observed=["tiny_adapter", "no_stop"], symptoms=["training_fault"], **TRAINED)

    assert found.row == "fault_of_the_adapter"
    assert "nothing was saved" in found.summary
    assert "never learned its end token" not in found.summary


def test_rows_in_another_template_are_named_before_layers_or_the_number_of_rows():
    found = conditions(
        considering=["data_format", "full_training", "data_amount"],
        observed=["other_template"],
        task="code",
        **TRAINED,
    )

    assert "end-of-turn token" in found["data_format"].condition
    assert found["full_training"].verdict == found["data_amount"].verdict == "later"


def test_new_rows_are_trained_together_with_the_old_ones():
    found = ask(considering=["retraining", "sft"], checkpoint="sft_run", **TRAINED)

    assert [each.verdict for each in found.verdicts] == ["now", "now"]
    assert "old and new rows together" in found.verdicts[1].condition
    assert found.path[1].approach == "sft"


@pytest.mark.parametrize("wrong", ["knowledge_gap", "hallucination"])
def test_facts_that_a_run_did_not_teach_are_retrieved_whatever_its_settings(wrong):
    found = ask(considering=["hyperparameters"], symptoms=[wrong], **TRAINED)

    assert found.approach == "rag"
    assert found.verdicts[0].verdict == "later"


def test_a_voice_is_no_recogniser():
    voice = ask(task="voice", symptoms=["new_language"], considering=["data_amount"], **TRAINED)
    speech = ask(task="speech", symptoms=["new_language"], considering=["data_amount"], **TRAINED)

    assert "many speakers" in voice.verdicts[0].condition
    assert "cascade" not in voice.summary
    assert "n-gram model" in speech.summary


def test_pairs_for_a_search_tune_an_embedder_and_no_chat_model():
    found = ask(task="search", considering=["continued_pretraining"], num_demonstrations=20_000)

    assert (found.row, found.approach) == ("search_pairs", "small_model_fine_tuning")


def test_ollama_runs_no_classifier_and_says_so_where_one_is_advised():
    labels = {"num_classes": 12, "num_demonstrations": 3000}
    said = ask(runs_on=["ollama"], **labels).summary

    assert "a classifier, a tagger, Marian, NLLB, Whisper or a scikit-learn file runs" in said
    assert "scikit-learn file" not in ask(runs_on=["vllm"], **labels).summary


@pytest.mark.parametrize(
    ("place", "said"),
    [("mac", "shares one memory"), ("phone", "weakest device"), ("cpu", "on a CPU")],
)
def test_hardware_is_that_of_the_place_where_it_runs(place, said):
    (hardware,) = ask(considering=["hardware"], runs_on=[place], symptoms=["style"]).verdicts

    assert said in hardware.condition


def test_a_provider_needs_no_gpu():
    (hardware,) = ask(considering=["hardware"], runs_on=["api"], symptoms=["style"]).verdicts

    assert (hardware.verdict, "no GPU is needed" in hardware.why) == ("no", True)


@pytest.mark.parametrize("place", get_args(RunsOn))
def test_where_it_runs_changes_no_first_step(place):
    asked = {"considering": ["sft"], "num_demonstrations": 500, "symptoms": ["style"]}

    assert ask(runs_on=[place], **asked).approach == ask(**asked).approach


def test_planned_data_do_not_exist_yet():
    planned = ask(considering=["dpo"], data_source="planned", symptoms=["preference"])
    there = ask(considering=["dpo"], data_source="human", symptoms=["preference"])

    assert (planned.verdicts[0].verdict, there.verdicts[0].verdict) == ("later", "now")
    assert "num_preference_pairs" not in {each.asset for each in planned.assets}


def test_what_forbidden_terms_rule_out_is_said_alike_of_everything():
    asked = ["distillation", "synthetic_data", "licence"]
    found = ask(considering=asked, teacher="openai", product_use="sold", num_demonstrations=2000)

    assert [each.verdict for each in found.verdicts] == ["later", "no", "no"]
    assert "not from this one" in found.verdicts[0].condition


def test_what_people_wrote_comes_before_what_a_model_would_write():
    (answer,) = ask(
        considering=["synthetic_data"],
        data_source="human",
        num_demonstrations=300,
        prompting_tried="few_shot",
        symptoms=["style"],
    ).verdicts

    assert answer.verdict == "later"


def test_sft_before_pairs_says_how_each_stage_is_measured():
    step = ask(considering=["sft", "sft_then_dpo"], num_preference_pairs=3000).path[0]

    assert step.approach == "sft_then_dpo"
    assert "held-out prompts" in step.next_step
    assert "half of the comparisons" in step.stop_if


def test_what_is_observed_without_training_is_no_fault_of_a_run():
    asked = ask(considering=["sft"], observed=["no_stop", "not_chat_model"])
    trained = ask(considering=["sft"], observed=["no_stop", "not_chat_model"], **TRAINED)

    assert (asked.approach, trained.approach) == ("prompting", "check_setup")
    assert "Without training, this is how the model is asked" in asked.summary
    assert "never learned its end token" in trained.summary


def test_what_broke_with_an_update_is_not_trained_anew():
    run = {"observed": ["after_update", "gibberish"], "checkpoint": "sft_run"}
    (sft,) = ask(considering=["sft"], **run).verdicts

    assert sft.verdict == "no"


def test_a_question_about_overfitting_is_answered_by_checkpoints_and_passes():
    found = ask(considering=["hyperparameters"], observed=["loss_rises"], **TRAINED)

    assert found.row == "overfitting_seen"
    assert "one to three passes" in found.verdicts[0].condition


def test_where_no_sample_passes_a_short_sft_comes_before_more_rl():
    run = {"tried_training": ["rl_verifiable_reward"], "symptoms": ["training_fault"]}
    sft, settings = ask(
        considering=["sft", "hyperparameters"],
        has_verifiable_reward=True,
        success_fraction="none",
        **run,
    ).verdicts

    assert (sft.verdict, "format" in sft.condition) == ("now", True)
    assert "8 to 16 samples" in settings.condition


def test_what_is_invented_beside_a_given_text_is_counted_before_anything_is_trained():
    found = ask(considering=["sft", "dpo"], symptoms=["hallucination"], prompting_tried="zero_shot")

    assert found.row == "invented_beside_the_text"
    assert {each.verdict for each in found.verdicts} == {"later"}


def test_code_is_no_matter_of_labels():
    asked = {"considering": ["sft", "small_model_fine_tuning"], "symptoms": ["cost"]}
    found = ask(task="code", num_demonstrations=500, target_met=True, **asked)

    assert not any("encoder" in each.condition + each.why for each in found.verdicts)


def test_a_glossary_goes_into_the_prompt_before_a_translator_is_trained():
    found = ask(task="translate", considering=["sft", "rag"], num_demonstrations=20_000)

    assert "terms of a glossary" in found.verdicts[1].condition


@pytest.mark.parametrize("task", ["speech", "search", "label"])
def test_small_models_are_quantized_in_their_own_runtime(task):
    (answer,) = ask(task=task, considering=["quantization"]).verdicts

    assert "OpenVINO" in answer.condition
    assert "QLoRA" not in answer.condition


def test_the_longest_answers_to_three_questions_are_said_once_and_stay_short():
    asked = ["data_format", "hardware", "data_amount"]
    run = {"observed": ["no_stop", "other_template", "recites"], "tried_training": ["sft"]}
    found = ask(considering=asked, personal_data=True, runs_on=["mac", "ollama"], **run)

    assert tokens(found) <= MOST_TOKENS
    for each in found.verdicts:
        assert f"{each.approach}: {each.verdict}" in found.summary
        assert each.condition or f"{each.approach}: {each.verdict}, " in found.summary
