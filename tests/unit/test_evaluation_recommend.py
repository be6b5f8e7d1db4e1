"""What a comparison of systems concludes: target first, the cheapest that meets it, what to try."""

import json
from dataclasses import replace

import pytest

from ft_tools.evaluation.conclude import concluded, without_details
from ft_tools.evaluation.intervals.comparing import compare
from ft_tools.evaluation.metrics.scoring import Settings, assemble
from ft_tools.evaluation.page import document
from ft_tools.evaluation.recommend_system import Asked
from ft_tools.evaluation.report import Contamination, EvaluationReport, Ranked, Score, SystemResult
from ft_tools.evaluation.systems.ranking import rank, with_fresh

GIVEN = {"dataset": "held_out.jsonl", "max_new_tokens": 40, "systems": ["evaluate-0"]}
ASKED = Asked("evaluate-0", GIVEN, "train.jsonl")


def system(name, value, verdict, low=None, high=None, kind="model", **more):
    score = Score(value=value, ci_low=low or value - 0.05, ci_high=high or value + 0.05)
    return SystemResult(name=name, kind=kind, scores={"exact_match": score}, target=verdict, **more)


def report(systems, ranking, target=0.9, asked=ASKED):
    answers = {one.name: [float(i < one.scores["exact_match"].value * 60) for i in range(60)]
               for one in systems}  # fmt: skip
    reference, *others = answers
    found = {(n, "exact_match"): compare(answers[reference], answers[n]) for n in others}
    means = {key: (sum(answers[reference]) / 60, sum(answers[key[0]]) / 60) for key in found}
    return concluded(
        EvaluationReport(
            tuned=", ".join(others), baseline=reference, compares_systems=True, summary=[],
            target={"exact_match": target} if target else {}, main_metric="exact_match",
            systems=systems, ranking=ranking, comparisons=assemble(found, means, Settings(0, 0.1)),
        ), "", 0.1, asked,
    )  # fmt: skip


def test_the_cheapest_system_that_meets_the_target_is_named_with_what_a_better_one_gains():
    made = report(
        [system("most", 0.3, "not_met", kind="majority"),
         system("tfidf", 0.95, "met", usd_per_1000_calls=0.0, kind="tf_idf"),
         system("tuned", 1.0, "met", usd_per_1000_calls=1.0, is_trained=True)],
        [Ranked(name="tfidf", versus_best="not_distinguishable", difference=-0.05, ci_low=-0.14,
                ci_high=0.01), Ranked(name="tuned", versus_best="best")],
    )  # fmt: skip
    first, second, third = made.summary
    assert first.startswith("Target exact_match >= 0.9: met by tfidf (0.95 [0.9, 1]), tuned (1 [")
    assert "; not met by most (0.3 [" in first
    assert "tfidf improved (0.3 -> 0.95" in second
    assert third == (
        "Use tfidf: the cheapest that meets the target; it cannot be distinguished from the best, "
        "tuned (-0.05, 95% interval [-0.14, +0.01]). Training is not needed for questions "
        "like these."
    )
    assert made.next_steps[0].tool == "recommend_approach"
    # What was measured is read from the run: nobody has to claim it.
    assert made.next_steps[0].arguments == {"evaluations": ["evaluate-0"]}
    assert "classifier.py, in the run's folder" in made.next_steps[0].why
    assert "new wordings" in made.next_steps[0].why


def test_a_classifier_is_offered_where_the_answers_are_classes_and_none_was_measured():
    systems = [system("base", 0.3, "not_met"), system("tuned", 0.95, "met", is_trained=True)]
    ranking = [Ranked(name="tuned", versus_best="best")]
    classes = replace(ASKED, has_classes=True)
    shipped, simple = report(systems, ranking, asked=classes).next_steps
    assert shipped.tool == "merge_and_quantize"
    learned = {"path": "train.jsonl"}
    assert simple.arguments == {
        "dataset": "held_out.jsonl",
        "systems": [
            {"name": "majority", "baseline": "majority", "examples": learned},
            {"name": "tf_idf", "baseline": "tf_idf", "examples": learned},
        ],
    }
    measured = [*systems, system("tf_idf", 0.5, "not_met", kind="tf_idf")]
    assert len(report(measured, ranking, asked=classes).next_steps) == 1
    assert len(report(systems, ranking).next_steps) == 1


TFIDF = (Ranked(name="tfidf", versus_best="best"),)


def seen(num_twins, num_fresh, systems, ranking=TFIDF, num_same_wording=0):
    found = Contamination(
        checked_against=[], learned_from=["train.jsonl"], not_checked=[], num_exact=0, num_near=0,
        num_twins=num_twins, num_same_wording=num_same_wording, lines=[1],
    )  # fmt: skip
    made = report(systems, list(ranking))
    made = made.model_copy(update={"contamination": found, "num_fresh": num_fresh})
    return concluded(made, "", 0.1, ASKED)


def test_scores_are_repeated_without_questions_that_were_nearly_learned():
    """52 of 54 test questions were templates that the classifier knew, and nothing said so."""
    values = {"tfidf": [1.0] * 52 + [0.0] * 8, "prompt": [0.0] * 52 + [1.0] * 8}
    systems = [system("tfidf", 0.87, "not_shown"), system("prompt", 0.13, "not_met")]
    settings = Settings(0, 0.1)
    systems = with_fresh(systems, "exact_match", values, range(52, 60), settings)
    assert seen(52, 8, systems).summary[1] == (
        "52 of 60 held-out questions resemble a training row; on the other 8, exact_match is tfidf "
        "0 [0, 0.324], prompt 1 [0.676, 1]."
    )
    assert with_fresh(systems, "exact_match", values, [], settings) == systems
    nothing = seen(60, 0, systems).summary[1]
    assert "training row: no score here says how new questions are answered" in nothing
    worded = seen(0, 8, systems, num_same_wording=52).summary[1]
    assert "resemble a training row, 52 of them as one template filled with other" in worded


def test_what_may_have_remembered_every_question_is_not_shown_to_meet_a_target():
    """Word counts were said to meet it, beside a sentence that no score is of new questions."""
    systems = [
        system("plain", 0.95, "met"),
        system("shown", 0.95, "met", has_examples=True),
        system("tuned", 0.95, "met", is_trained=True),
        system("tf_idf", 0.95, "met", kind="tf_idf"),
        system("most", 0.3, "not_met", kind="majority"),
    ]
    values = {one.name: [float(i < 57) for i in range(60)] for one in systems}
    settings = Settings(0, 0.1)
    some = with_fresh(systems, "exact_match", values, range(30, 60), settings)
    assert [one.target for one in some] == [one.target for one in systems]
    none = with_fresh(systems, "exact_match", values, [], settings)
    verdicts = ["met", *["not_shown"] * 3, "not_met"]
    assert [one.target for one in none] == verdicts
    ranked = rank(none, "exact_match", values, settings, has_target=True)
    assert [one.name for one in ranked] == ["plain"]

    made = seen(60, 0, none[1:], ranking=())
    assert made.summary[0].startswith("Target exact_match >= 0.9: not shown for shown (0.95")
    assert made.summary[1].endswith("so no target is shown to be met by what learned.")
    assert made.summary[3].startswith("No system is shown to meet the target. Name a dataset")
    assert made.next_steps[0].tool == "evaluate"
    page = document(made, [])
    assert page.count(">not shown</span>") == 3
    assert ">met</span>" not in page


def test_a_few_questions_keep_their_groups():
    values = {"tfidf": [1.0, 1.0, 1.0, 1.0, 0.0, 0.0]}
    grouped = Settings(0, 0.1, clusters=["a", "a", "b", "b", "c", "c"])
    one = [system("tfidf", 0.6, "not_met")]
    (alone,) = with_fresh(one, "exact_match", values, range(2, 6), Settings(0, 0.1))
    (held_together,) = with_fresh(one, "exact_match", values, range(2, 6), grouped)
    assert alone.fresh.value == held_together.fresh.value == 0.5
    assert held_together.fresh.ci_low < alone.fresh.ci_low


def test_an_improvement_below_the_target_is_no_success():
    """61% after 30% was called a success once, with the merge as the next step."""
    made = report(
        [system("base", 0.3, "not_met"), system("tuned", 0.61, "not_met", is_trained=True)], []
    )
    assert made.summary[0] == (
        "Target exact_match >= 0.9: not met by base (0.3 [0.25, 0.35]), tuned (0.61 [0.56, 0.66])."
    )
    assert "tuned improved" in made.summary[1]
    assert made.summary[2] == (
        "No system is shown to meet the target. The trained model misses the target: check its "
        "training data."
    )
    assert made.next_steps[0].tool == "audit_dataset"


@pytest.mark.parametrize(
    ("verdict", "more", "tool", "why"),
    [
        ("not_shown", {}, "evaluate", "Add held-out examples to dataset"),
        ("not_met", {}, "evaluate", "Few-shot examples are cheaper"),
        ("not_met", {"has_examples": True}, "recommend_approach", "Prompting with examples"),
    ],
)
def test_what_to_try_next_follows_what_was_tried(verdict, more, tool, why):
    made = report([system("most", 0.3, "not_met"), system("prompt", 0.8, verdict, **more)], [])
    assert made.next_steps[0].tool == tool
    assert made.next_steps[0].why.startswith(why)
    if tool == "evaluate":
        assert made.next_steps[0].arguments == ASKED.arguments


def test_whether_training_would_reach_the_target_is_asked_with_all_that_was_measured():
    """The call named the run alone, and its answer was to write the prompt that had missed."""
    systems = [
        system("most", 0.3, "not_met", kind="majority"),
        system("prompt", 0.4, "not_met", model="org/small"),
        system("shots", 0.5, "not_met", model="org/small", has_examples=True),
    ]
    (made,) = report(systems, []).next_steps
    assert made.arguments == {
        "evaluations": ["evaluate-0"],
        "considering": ["sft"],
        "model": "org/small",
        "dataset": "train.jsonl",
    }
    classes = replace(ASKED, has_classes=True, learned_from="")
    made = report(systems, [], asked=classes).next_steps[0]
    assert made.arguments["considering"] == ["sft", "small_model_fine_tuning"]
    assert made.arguments["symptoms"] == ["classification"]
    assert "dataset" not in made.arguments


def test_a_trained_model_that_was_still_learning_is_trained_further_before_its_data_is_doubted(
    workspace,
):
    run = workspace / "runs" / "sft-0123456789abcdef"
    run.mkdir(parents=True)
    (run / "run.json").write_text("{}")
    systems = [
        system("base", 0.1, "not_met"),
        system("tuned", 0.5, "not_met", is_trained=True, model=run.name),
    ]
    assert report(systems, []).next_steps[0].tool == "audit_dataset"
    found = {"id": "still_learning", "observed": "it fell", "advice": "train the result further"}
    arguments = {"from_run": run.name, "training": {"num_train_epochs": 1}}
    step = {"tool": "launch_sft", "arguments": arguments, "why": "still_learning: train further"}
    (run / "report.json").write_text(json.dumps({"diagnosis": [found], "next_steps": [step]}))
    (made,) = report(systems, []).next_steps
    assert (made.tool, made.arguments) == ("launch_sft", arguments)
    assert made.why.endswith("its run says: still_learning: train further")


def test_without_a_target_the_cheapest_as_good_as_the_best_is_named_and_a_target_asked_for():
    worse = Ranked(name="most", versus_best="worse", difference=-0.5, ci_low=-0.6, ci_high=-0.4)
    ranking = [worse, Ranked(name="prompt", versus_best="best")]
    made = report([system("most", 0.3, None), system("prompt", 0.8, None)], ranking, target=None)
    assert made.summary[-1] == "prompt has the best exact_match."
    # As it stands the call can be made: the run id stands for its systems.
    assert made.next_steps[0].arguments == GIVEN | {"target": {"exact_match": 0.9}}
    # A prompt of 0.2 was recommended once where the best had 0.35, and a constant answer too.
    near = Ranked(name="most", versus_best="not_distinguishable", difference=-0.1, ci_low=-0.3,
                  ci_high=0.1)  # fmt: skip
    made = report([system("most", 0.3, None), system("prompt", 0.4, None)],
                  [near, ranking[1]], target=None)  # fmt: skip
    made = concluded(made.model_copy(update={"majority_fraction": 0.36}), "", 0.1, ASKED)
    assert made.summary[-1] == (
        "prompt has the best exact_match (0.4 [0.35, 0.45]), which is not shown to beat always "
        "answering the most frequent class (0.36); the fastest (set price to rank by cost) that is "
        "not shown to be worse is most (-0.1, 95% interval [-0.3, +0.1])."
    )


def test_the_page_shows_the_verdict_first_and_each_system_with_its_cost():
    made = report(
        [system("most", 0.3, "not_met", usd_per_1000_calls=0.0),
         system("api", 0.97, "met", usd_per_1000_calls=0.4)],
        [Ranked(name="api", versus_best="best")],
    )  # fmt: skip
    html = document(made, [])
    assert html.index("Target exact_match") < html.index("api, 0.4 USD per 1,000 calls")
    assert "worst regressions" not in html


def test_a_remote_model_that_changed_and_answers_that_were_cut_off_are_noted():
    changed = system("api", 0.9, "not_shown", served_by=["m-1", "m-2"], cut_off_fraction=0.2)
    made = report([system("most", 0.3, "not_met"), changed], [])
    assert any("the remote model changed while it was measured" in note for note in made.notes)
    assert any("20% of its answers were cut off" in note for note in made.notes)


def test_the_returned_report_keeps_the_main_metric_only():
    made = report([system("most", 0.3, "not_met"), system("prompt", 0.8, "not_met")], [])
    assert [row.metric for row in without_details(made).comparisons] == ["exact_match"]
    assert without_details(made).samples == []


def test_a_tuned_system_that_meets_the_target_is_shipped_by_its_run():
    made = report(
        [system("base", 0.3, "not_met", model="org/base"),
         system("tuned", 0.95, "met", is_trained=True, model="sft-0123456789abcdef")],
        [Ranked(name="tuned", versus_best="best")],
    )  # fmt: skip
    assert made.next_steps[0].arguments == {"source": "sft-0123456789abcdef"}


def test_where_questions_follow_templates_no_system_is_taken_to_answer_others():
    systems = [system("base", 0.95, "met"), system("tuned", 0.95, "met", is_trained=True)]
    templated = replace(ASKED, has_few_wordings=True)
    for chosen in ("base", "tuned"):
        ranking = [Ranked(name=chosen, versus_best="best")]
        made = report(systems, ranking, asked=templated)
        assert "ask it questions in new wordings" in made.next_steps[0].why
    made = report(systems, [Ranked(name="base", versus_best="best")], asked=templated)
    assert made.summary[-1].endswith("Training is not needed for questions like these.")
    made = report(systems, [Ranked(name="base", versus_best="best")])
    assert made.summary[-1].endswith("Training is not needed.")
