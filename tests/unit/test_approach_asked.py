"""What is asked is answered with words for its case, with a number, and by who decides it."""

import pytest

from ft_tools.approach.concise import MOST_TOKENS, tokens
from ft_tools.approach.request import ApproachRequest
from ft_tools.approach.tool import recommend_approach
from ft_tools.approach.verdicts import UNRUN

TRACES = {
    "considering": ["distillation", "synthetic_data"],
    "tried_training": ["distillation"],
    "data_source": "stronger_model",
    "teacher": "deepseek",
    "target_met": False,
    "has_verifiable_reward": True,
    "prompting_tried": "zero_shot",
}
CASES = {
    "a reward's sign": (
        {"considering": ["reward_design"], "has_verifiable_reward": True},
        ("reward_design", "negative values are fine"),
    ),
    "rejected answers": (
        {"considering": ["negatives", "dpo"], "num_preference_pairs": "none"},
        ("negatives", "four or more answers per prompt"),
    ),
    "hard negatives": (
        {"considering": ["negatives", "small_model_fine_tuning"], "task": "search"},
        ("negatives", "10th to 100th"),
    ),
    "which way to load": (
        {
            "considering": ["rag", "sft"],
            "has_retrieval": True,
            "checkpoint": "sft_run",
            "has_eval_set": False,
        },
        ("rag", "Four cases on one test"),
    ),
    "memory of adapters": (
        {"considering": ["several_adapters", "hardware"], "runs_on": ["vllm"]},
        ("hardware", "max_cpu_loras"),
    ),
    "more cards of a size that is too small": (
        {"considering": ["hardware"], "symptoms": ["out_of_memory"], "gpu": "4 x A10G"},
        ("hardware", "In data parallel each card holds a copy"),
    ),
    "examples per new word": (
        {"considering": ["data_amount"], "task": "translate", "symptoms": ["domain_jargon"]},
        ("data_amount", "20 or more varied whole sentences"),
    ),
    "one box of a form": (
        {"considering": ["data_format"], "task": "extract", "model": "Donut"},
        ("data_format", "one box is a task of its own"),
    ),
    "completion of own code": (
        {
            "considering": ["sft", "data_format"],
            "task": "code",
            "symptoms": ["knowledge_gap"],
            "has_documents": True,
        },
        ("sft", "fill-in-the-middle"),
    ),
    "chat after raw text": (
        {
            "considering": ["continued_pretraining", "sft"],
            "checkpoint": "base",
            "has_documents": True,
        },
        ("sft", "chat ability comes from SFT"),
    ),
    "sampling of a teacher": (TRACES, ("synthetic_data", "temperature 0.6")),
    "a rate that is too high": (
        {"considering": ["hyperparameters"], "task": "speech", "symptoms": ["nan_loss"]},
        ("hyperparameters", "1e-5"),
    ),
    "rate of a recogniser": (
        {
            "considering": ["hyperparameters"],
            "task": "speech",
            "symptoms": ["training_fault"],
            "tried_training": ["sft"],
        },
        ("hyperparameters", "about 1e-5 for all weights"),
    ),
    "labels that nobody looked for": (
        {"considering": ["data_format", "small_model_fine_tuning"], "task": "label"},
        ("data_format", "is unknown: left out of the loss"),
    ),
    "passes and rate": (
        {"considering": ["hyperparameters"], "num_demonstrations": 2000},
        ("hyperparameters", "two or three passes"),
    ),
    "a cheaper model for some requests": (
        {"considering": ["routing"], "symptoms": ["cost"], "target_met": True},
        ("routing", "hands on what it is unsure of"),
    ),
    "a small model in front": (
        {"considering": ["routing", "do_nothing"], "task": "extract"},
        ("routing", "must miss next to nothing"),
    ),
    "a router under which outcomes fell": (
        {"considering": ["routing", "roll_back"], "target_met": False, "has_eval_set": True},
        ("routing", "a class that loses goes back"),
    ),
    "the version before": (
        {"considering": ["roll_back"], "target_met": False},
        ("roll_back", "for the classes of requests that got worse"),
    ),
    "the checkpoint before": (
        {"considering": ["roll_back"], "observed": ["breaks_midway"], "tried_training": ["sft"]},
        ("roll_back", "the last checkpoint or version that was good"),
    ),
    "more steps while the score rises": (
        {"considering": ["continue_run"], "tried_training": ["sft"]},
        ("continue_run", "only while the score on held-out cases still rises"),
    ),
    "a run that was good until a step": (
        {
            "considering": ["hyperparameters"],
            "observed": ["breaks_midway", "gibberish"],
            "tried_training": ["sft"],
        },
        ("hyperparameters", "a decay at every step"),
    ),
    "questions out of scope": (
        {"considering": ["guard", "rag"], "symptoms": ["missing_refusals"]},
        ("guard", "a score of retrieval below which nothing is answered"),
    ),
    "outputs that are checked": (
        {"considering": ["guard"], "task": "extract"},
        ("guard", "goes to a person"),
    ),
    "prompts of which the model knows the answer": (
        {"considering": ["dpo", "data_mix"]},
        ("data_mix", "always right or always wrong gives no signal"),
    ),
    "the old language beside the new": (
        {"considering": ["continued_pretraining", "data_mix"], "symptoms": ["new_language"]},
        ("data_mix", "half is a safe start"),
    ),
    "sampling after a run": (
        {"considering": ["decoding"], "observed": ["no_stop"], "tried_training": ["sft"]},
        ("decoding", "is a stopgap"),
    ),
    "what a tool answers": (
        {"considering": ["tool_design", "sft"], "symptoms": ["tool_use"]},
        ("tool_design", "names the field and what is allowed"),
    ),
    "corrections of a bot that retrieves": (
        {"considering": ["user_feedback", "sft"], "has_documents": True, "has_retrieval": True},
        ("user_feedback", "entries of the index"),
    ),
    "corrections of outputs": (
        {"considering": ["user_feedback"], "task": "extract"},
        ("user_feedback", "cases of the test first"),
    ),
    "what is no question of this tool": (
        {"considering": ["none_of_these"]},
        ("none_of_these", "from who decides it"),
    ),
}


def ask(**arguments):
    return recommend_approach(ApproachRequest(**arguments))


@pytest.mark.parametrize("case", CASES)
def test_what_is_asked_is_answered(case):
    arguments, (asked, said) = CASES[case]
    report = ask(**arguments)

    assert f"{asked}: " in report.summary
    assert said in report.summary
    assert tokens(report) <= MOST_TOKENS


def test_rows_of_a_teacher_that_train_badly_are_compared_before_any_rl():
    thinking = TRACES | {"symptoms": ["reasoning"], "must_keep_thinking": True}

    assert ask(**TRACES).row == "traces_that_train_badly"
    assert ask(**thinking, examples_have_reasoning=True).row == "traces_that_train_badly"


def test_a_run_whose_chosen_reward_falls_is_compared_and_not_begun_again():
    report = ask(considering=["dpo", "check_setup"], observed=["chosen_falls"])

    assert (report.row, report.verdicts[0].verdict) == ("chosen_reward_falls", "now")
    assert "sft" not in [step.approach for step in report.path]


def test_an_example_that_is_repeated_is_no_failed_run():
    report = ask(
        considering=["few_shot", "sft"], prompting_tried="few_shot", observed=["one_answer"]
    )

    assert (report.approach, report.row) == ("few_shot", "examples_are_repeated")
    assert "that run" not in report.summary


def test_tools_are_chosen_for_each_request_before_a_prompt_with_all_of_them_is_optimized():
    many = {"considering": ["sft"], "symptoms": ["tool_use"], "prompting_tried": "few_shot"}

    assert ask(**many).row == "tools_chosen_per_request"
    assert ask(**many, budget="high").row != "tools_chosen_per_request"


def test_no_run_is_repeated_where_only_memory_or_another_kind_of_run_failed():
    memory = ask(considering=["sft", "full_training"], symptoms=["out_of_memory"])
    ppo = ask(considering=["rlhf", "sft", "dpo"], symptoms=["training_fault"])

    assert [each.verdict for each in memory.verdicts] == ["later", "no"]
    assert ppo.verdicts[1].verdict == "now"
    assert ppo.verdicts[2].condition.endswith(UNRUN)
    assert "that run anew" not in memory.summary + ppo.summary


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"considering": ["sft"]}, "symptoms"),
        ({"considering": ["sft"], "task": "speech"}, "checkpoint"),
        ({"considering": ["rl_verifiable_reward"]}, "prompting_tried"),
        ({"considering": ["small_model_fine_tuning"], "task": "image"}, "prompting_tried"),
    ],
)
def test_what_cannot_be_answered_is_not_asked(arguments, field):
    assert field not in [each.field for each in ask(**arguments).questions]


def test_how_answers_fail_is_asked_where_something_answers():
    running = {"considering": ["sft"], "prompting_tried": "zero_shot", "has_eval_set": True}

    assert "symptoms" in [each.field for each in ask(**running).questions]


@pytest.mark.parametrize(
    ("arguments", "row"),
    [
        ({"considering": ["reward_design"], "has_verifiable_reward": True}, "reward_to_design"),
        ({"considering": ["serving"], "checkpoint": "sft_run"}, "serving_asked"),
        ({"considering": ["none_of_these"]}, "asked_elsewhere"),
        (
            {
                "considering": ["licence", "synthetic_data"],
                "teacher": "llama_2_or_3",
                "symptoms": ["hallucination"],
            },
            "licence_of_a_teacher",
        ),
    ],
)
def test_what_is_no_training_does_not_begin_with_a_prompt(arguments, row):
    report = ask(**arguments)

    assert report.row == row
    assert report.approach not in ("prompting", "sft")


def test_what_else_is_asked_beside_a_way_leaves_the_first_step_alone():
    way = {"considering": ["sft"], "num_demonstrations": 500, "has_eval_set": True}
    beside = way | {"considering": ["sft", "none_of_these"]}

    assert ask(**beside).row == ask(**way).row
