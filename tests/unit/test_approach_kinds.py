"""What recommend_approach checks, measures and counts as data, by kind of what is trained."""

import pytest

from ft_tools.approach.concise import MOST_TOKENS, tokens
from ft_tools.approach.request import ApproachRequest
from ft_tools.approach.table import Table, table
from ft_tools.approach.tool import recommend_approach

OF_CHAT_MODELS = ("Modelfile", "stop token", "suggest_lora_config")
FAULTS = {
    "speech": ({"task": "speech", "tried_training": ["sft"]}, "word error rate"),
    "image": ({"task": "image", "tried_training": ["sft"]}, "vision part"),
    "document": ({"task": "extract", "model": "Donut", "tried_training": ["sft"]}, "layouts"),
    "search": ({"task": "search", "tried_training": ["sft"]}, "recall at k"),
    "label": ({"task": "label", "tried_training": ["small_model_fine_tuning"]}, "macro F1"),
    "extract": ({"task": "extract", "tried_training": ["small_model_fine_tuning"]}, "spans"),
    "table": ({"task": "table", "tried_training": ["small_model_fine_tuning"]}, "boosted"),
    "translate": ({"task": "translate", "tried_training": ["small_model_fine_tuning"]}, "chrF"),
    "reward_model": ({"considering": ["rlhf"]}, "held-out pairs"),
    "rl": ({"tried_training": ["rl_verifiable_reward"]}, "samples of one prompt"),
}


def ask(**arguments):
    return recommend_approach(ApproachRequest(**arguments))


def conditions(**arguments):
    return {each.approach: each.condition for each in ask(**arguments).verdicts}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_run_that_disappoints_is_checked_for_the_faults_of_its_kind(kind):
    arguments, said = FAULTS[kind]
    report = ask(symptoms=["training_fault"], **arguments)

    assert (report.approach, report.row) == ("check_setup", f"setup_of_{kind}")
    assert said in report.summary
    assert not any(words in report.summary for words in OF_CHAT_MODELS)
    assert tokens(report) <= MOST_TOKENS


def test_a_chat_model_keeps_the_checks_of_chat_models():
    report = ask(symptoms=["training_fault"], tried_training=["sft"], model="Qwen/Qwen3-4B")

    assert report.row == "setup_is_wrong"
    assert "Modelfile" in report.summary


@pytest.mark.parametrize(
    ("model", "row"),
    [
        ("openai/whisper-small", "setup_of_speech"),
        ("GOT-OCR 2.0", "setup_of_document"),
        ("BAAI/bge-m3", "setup_of_search"),
        ("eclipse-7b", "setup_is_wrong"),
        ("mediocre-7b", "setup_is_wrong"),
    ],
)
def test_the_name_of_a_model_says_its_kind(model, row):
    assert ask(model=model, symptoms=["training_fault"], tried_training=["sft"]).row == row


def test_the_name_of_a_model_is_among_what_decides_where_it_says_the_kind():
    run = {"task": "extract", "tried_training": ["sft"], "symptoms": ["training_fault"]}

    assert "model" in ask(model="Donut", **run).decided_by
    other = ask(model="Qwen/Qwen3-4B", **run)
    assert "model" not in [*other.decided_by, *other.unused]


def test_an_embedder_under_a_classifier_is_a_classifier():
    run = {"symptoms": ["training_fault"], "tried_training": ["small_model_fine_tuning"]}

    assert ask(model="all-MiniLM-L6-v2", num_classes=5, **run).row == "setup_of_label"
    assert ask(model="all-MiniLM-L6-v2", task="label", **run).row == "setup_of_label"
    assert ask(model="all-MiniLM-L6-v2", **run).row == "setup_of_search"


def test_a_reward_model_is_trained_from_the_sft_model_and_probed_before_any_rl():
    said = conditions(considering=["rlhf", "build_eval_first"], symptoms=["training_fault"])

    assert "started from the SFT model" in said["rlhf"]
    assert "correlation of score and length" in said["build_eval_first"]


@pytest.mark.parametrize("asked", ["sft", "small_model_fine_tuning"])
def test_speech_of_a_language_that_is_hardly_known_is_trained_in_stages(asked):
    run = {"task": "speech", "symptoms": ["new_language"], "tried_training": [asked]}
    (verdict,) = ask(considering=[asked], **run).verdicts

    assert verdict.verdict == "now"
    assert "transcription on the larger set first" in verdict.condition


@pytest.mark.parametrize(
    ("asked", "arguments", "said"),
    [
        ("data_format", {"task": "code"}, "fill-in-the-middle"),
        ("data_amount", {"task": "code", "symptoms": ["knowledge_gap"]}, "compile"),
        ("hyperparameters", {"tried_training": ["rl_verifiable_reward"]}, "8 to 16 samples"),
        ("data_format", {"model": "Donut", "task": "extract"}, "layouts held out"),
        ("full_training", {"task": "image"}, "vision part"),
        ("data_amount", {"considering": ["rlhf", "data_amount"]}, "500 of other prompts"),
    ],
)
def test_settings_rows_and_amounts_are_those_of_the_kind(asked, arguments, said):
    assert said in conditions(**({"considering": [asked]} | arguments))[asked]


def test_each_kind_is_there_and_each_task_has_a_baseline():
    file = table().model_dump(exclude_defaults=True)
    less = {kind: facts for kind, facts in file["kinds"].items() if kind != "speech"}
    bare = file["kinds"] | {"image": {"evidence": ["order"]}}

    assert Table.model_validate(file)
    with pytest.raises(ValueError, match="kinds are"):
        Table.model_validate(file | {"kinds": less})
    with pytest.raises(ValueError, match="tasks without a baseline"):
        Table.model_validate(file | {"kinds": bare})


ASKED = {
    "synthetic": "synthetic_data",
    "teacher": "distillation",
    "vocabulary": "extend_vocabulary",
    "whole": "full_training",
    "pretraining": "continued_pretraining",
    "hardware": "hardware",
}
FIRST_STEPS = {("translate", "distillation")}
MODELS = {"document": {"model": "donut"}}
SAID = [
    (kind, asked, getattr(facts, field))
    for kind, facts in table().kinds.items()
    for field, asked in ASKED.items()
    if getattr(facts, field)
]


@pytest.mark.parametrize(("kind", "asked", "said"), SAID)
def test_what_is_asked_beside_a_model_that_is_no_chat_model_is_answered_for_its_kind(
    kind, asked, said
):
    trained = MODELS.get(kind, {"task": kind})
    report = ask(considering=[asked], **trained)

    # The first step's own row answers, not that of what is asked about.
    assert (report.approach == asked) == ((kind, asked) in FIRST_STEPS)
    assert (said in report.verdicts[0].condition) != ((kind, asked) in FIRST_STEPS)


@pytest.mark.parametrize(
    "trained",
    [
        {"task": "voice"},
        {"task": "speech"},
        {"task": "image"},
        {"task": "translate"},
        {"model": "naver-clova-ix/donut-base"},
    ],
)
def test_pretraining_of_another_kind_than_text_is_no_sign_of_missing_facts(trained):
    report = ask(considering=["continued_pretraining"], **trained)
    kind = trained.get("task", "document")

    assert report.row == ("nothing_known" if kind == "translate" else f"{kind}_untested")
    assert report.approach == "build_eval_first"
    assert "lacks facts" not in report.summary
    assert "glossary" not in report.summary


@pytest.mark.parametrize("kind", ["document", "speech", "voice"])
def test_new_tokens_of_a_kind_come_only_where_something_is_missing(kind):
    (verdict,) = ask(considering=["extend_vocabulary"], **MODELS.get(kind, {"task": kind})).verdicts

    assert verdict.verdict == "later"
    assert ": only if " in verdict.condition


def test_a_classifier_gets_no_new_tokens():
    (verdict,) = ask(considering=["extend_vocabulary"], task="label").verdicts

    assert verdict.verdict == "no"
    assert "new tokens need far more rows" in verdict.why


@pytest.mark.parametrize("kind", ["label", "extract", "search"])
def test_how_fast_an_encoder_answers_is_said_for_its_whole_range_with_its_own_source(kind):
    (verdict,) = ask(considering=["hardware"], task=kind).verdicts

    assert "the largest in tenths of a second" in verdict.condition
    assert verdict.source == table().evidence["encoder_on_cpu"].source


def test_training_another_kind_is_judged_by_what_decides_there():
    run = {"tried_training": ["sft"], "target_met": False, "response_format": "detailed"}
    (verdict,) = ask(considering=["sft"], task="speech", **run).verdicts

    assert "word error rate" in verdict.why
    assert "conversation" not in verdict.why
