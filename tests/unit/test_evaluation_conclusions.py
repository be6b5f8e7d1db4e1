"""What an evaluation concludes: target, verdicts, the cheapest system, next steps, gate, page."""

import re
from dataclasses import replace

import pytest

from ft_tools.errors import BadInput
from ft_tools.evaluation.conclude import Call, concluded, without_details
from ft_tools.evaluation.page import Sample, document, marked
from ft_tools.evaluation.report import (
    Contamination,
    EvaluationReport,
    OutputHealth,
    RankedSystem,
    Score,
    SystemResult,
)
from ft_tools.evaluation.requirements import read_requirement, unmet
from ft_tools.evaluation.results import Settings, compare_scores, rank, with_fresh
from tests.unit.held_out_files import ids

SETTINGS = Settings(seed=0, smallest_effect=0.1)
PAIR = Call("evaluate-0", {"model": "sft-1", "dataset": "held_out.jsonl"})
GIVEN = {"dataset": "held_out.jsonl", "max_new_tokens": 40, "systems": ["evaluate-0"]}
SYSTEMS = Call("evaluate-0", GIVEN, "train.jsonl")
NO, YES = {"json_valid": [0.0] * 60}, {"json_valid": [1.0] * 60}
BEST = RankedSystem(name="tuned", versus_best="best")


def pair(before, after, general=None, **more):
    """Conclude a comparison of a model with its base."""
    rows = compare_scores({"baseline": before, "tuned": after}, SETTINGS)
    kept = []
    if general:
        kept = compare_scores(dict(zip(("baseline", "tuned"), general, strict=True)), SETTINGS)
    made = EvaluationReport(
        tuned="sft-1", baseline="base", summary=[], comparisons=rows, general_ability=kept, **more
    )
    return concluded(made, "few_held_out_examples: 60", 0.1, PAIR)


def system(name, value, target=None, low=None, high=None, kind="model", **more):
    score = Score(value=value, ci_low=low or value - 0.05, ci_high=high or value + 0.05)
    return SystemResult(name=name, kind=kind, scores={"exact_match": score}, target=target, **more)


def several(systems, ranking, target=0.9, call=SYSTEMS, **more):
    """Conclude a comparison of systems whose answers are right as often as they score."""
    scores = {
        one.name: {
            "exact_match": [float(i < one.scores["exact_match"].value * 60) for i in range(60)]
        }
        for one in systems
    }
    made = EvaluationReport(
        tuned="x", baseline=systems[0].name, compares_systems=True, summary=[],
        target={"exact_match": target} if target else {}, main_metric="exact_match",
        systems=systems, ranking=ranking, comparisons=compare_scores(scores, SETTINGS), **more,
    )  # fmt: skip
    return concluded(made, "", 0.1, call)


def passes(report, *requirements):
    return unmet(report, [read_requirement(text) for text in requirements])


@pytest.mark.parametrize(
    ("before", "after", "verdict", "tool"),
    [
        (NO, YES, "improved", "merge_and_quantize"),
        (YES, NO, "regressed", "audit_dataset"),
        (YES, YES, "no_detectable_change", "audit_dataset"),
        ({"json_valid": [1.0] * 10}, {"json_valid": [1.0] * 10}, "underpowered", "evaluate"),
    ],
)
def test_the_verdict_decides_the_next_step(before, after, verdict, tool):
    made = pair(before, after)
    assert made.comparisons[0].verdict == verdict
    assert len(made.summary) == 3
    assert [step.tool for step in made.next_steps] == [tool]
    assert ("few_held_out_examples" in ids(made.notes)) == (verdict == "underpowered")
    assert [one.id for one in made.reasons] == ["json_valid"]


def test_a_gain_that_the_correction_takes_back_is_not_confirmed_and_not_underpowered():
    before = {"exact_match": [0.0] * 60, "json_valid": [1.0] * 60}
    made = pair(before, before | {"exact_match": [1.0] * 6 + [0.0] * 54})
    row = made.comparisons[0]
    assert row.ci_low > 0
    assert row.p_value < 0.05 < row.p_adjusted
    assert row.verdict == "not_confirmed"
    assert made.next_steps[0].tool == "evaluate"


def test_lost_general_ability_stops_unless_the_user_accepts_it():
    general = ({"general_questions": [1.0] * 60}, {"general_questions": [0.0] * 60})
    lost = pair(NO, YES, general)
    assert lost.lost_abilities == ["general_questions"]
    assert lost.next_steps[0].tool == "audit_dataset"
    met = {"target": {"json_valid": 0.9}, "main_metric": "json_valid", "ranking": [BEST]}
    score = {"json_valid": Score(value=1.0, ci_low=0.95, ci_high=1.0)}
    tuned = SystemResult(
        name="tuned", kind="model", model="sft-1", is_trained=True, scores=score, target="met"
    )
    assert pair(NO, YES, general, systems=[tuned], **met).next_steps[0].tool == "audit_dataset"
    assert pair(NO, YES, systems=[tuned], **met).next_steps[0].tool == "merge_and_quantize"
    accepted = pair(NO, YES, general, accepted=["general_ability_loss"])
    assert accepted.next_steps[0].tool == "merge_and_quantize"
    assert passes(accepted, "not_regressed") == []
    assert len(passes(accepted, "not_regressed:general_questions")) == 1
    assert "general_questions" in accepted.summary[2]


def test_perplexity_that_falls_is_an_improvement():
    chance = [0.01 * i for i in range(40)]
    before, after = [2 + c for c in chance], [1.5 + c / 2 for c in chance]
    row = pair({"log_perplexity": before}, {"log_perplexity": after}).comparisons[0]
    assert row.difference < 0
    assert (row.verdict, row.num_better, row.num_worse) == ("improved", 40, 0)


def test_one_system_makes_no_claim_of_change_and_meets_its_target_or_not():
    made = several(
        [system("prompt", 0.95, "met")], [RankedSystem(name="prompt", versus_best="best")]
    )
    alone = concluded(made.model_copy(update={"alone": True}), "", 0.1, SYSTEMS)
    assert alone.comparisons == []
    short = without_details(alone.model_copy(update={"confusion": {"prompt": {"0": {"0": 60}}}}))
    assert (short.confusion, short.systems) == ({}, alone.systems)
    assert alone.next_steps[0].arguments == {"evaluations": ["evaluate-0"]}
    assert "prompt (0.95 [0.9, 1])" in alone.summary[0]
    assert passes(alone, "at_least:exact_match:0.9") == []
    assert len(passes(alone, "at_least:exact_match:0.99", "at_most:exact_match:0.1")) == 2
    for requirement in ("not_regressed", "improved:exact_match", "at_least:json_valid:0.5"):
        with pytest.raises(BadInput):
            passes(alone, requirement)
    without = alone.model_copy(update={"target": {}, "ranking": []})
    step = concluded(without, "", 0.1, SYSTEMS).next_steps[0]
    assert (step.tool, step.arguments["dataset"]) == ("recommend_approach", "train.jsonl")


def test_the_gate_opens_for_what_is_shown_and_only_that():
    better, worse = pair(NO, YES), pair(YES, NO)
    few = pair({"json_valid": [1.0] * 10}, {"json_valid": [1.0] * 10})
    assert passes(better, "improved:json_valid", "not_regressed", "at_least:json_valid:0.9") == []
    assert len(passes(worse, "improved:json_valid", "not_regressed")) == 2
    assert len(passes(few, "improved:json_valid")) == 1
    assert passes(few, "not_regressed:json_valid", "at_most:json_valid:1") == []
    assert passes(worse, "at_least:json_valid:0.5")[0].startswith("at_least:json_valid:0.5: ")
    with pytest.raises(BadInput, match="'rougeL' was not measured; measured: json_valid"):
        passes(better, "improved:rouge")


@pytest.mark.parametrize(
    "requirement",
    ["better:json_valid", "at_least:json_valid:x", "at_least:json_valid", "at_most:0.3",
     "at_least:json_valid:nan", "improved", ""],
)  # fmt: skip
def test_a_requirement_that_cannot_be_read_names_what_is_allowed(requirement):
    with pytest.raises(BadInput, match="allowed: improved:METRIC"):
        read_requirement(requirement)


def test_the_cheapest_system_that_meets_the_target_is_named_with_what_a_better_one_gains():
    cheap = RankedSystem(name="tfidf", versus_best="not_distinguishable", difference=-0.05,
                   ci_low=-0.14, ci_high=0.01)  # fmt: skip
    made = several(
        [system("most", 0.3, "not_met", kind="majority"),
         system("tfidf", 0.95, "met", usd_per_1000_calls=0.0, kind="tf_idf"),
         system("tuned", 1.0, "met", usd_per_1000_calls=1.0, is_trained=True, seconds_mean=1.0)],
        [cheap, BEST],
    )  # fmt: skip
    first, _, third = made.summary
    assert re.findall(r"(\w+) \(", first) == ["tfidf", "tuned", "most"]
    assert third.startswith("Use tfidf: the cheapest that meets the target")
    assert "tuned (-0.05, 95% interval [-0.14, +0.01])" in third
    # What was measured is read from the run: nobody has to claim it.
    (step,) = made.next_steps
    assert (step.tool, step.arguments) == ("recommend_approach", {"evaluations": ["evaluate-0"]})
    html = document(made, [])
    assert html.index("Target exact_match") < html.index("tuned, 1 s per answer")
    assert html.count(">met</span>") == 2


def test_a_tuned_system_that_meets_the_target_is_shipped_by_its_run():
    run = "sft-0123456789abcdef"
    systems = [
        system("base", 0.3, "not_met"),
        system("tuned", 0.95, "met", is_trained=True, model=run),
    ]
    assert several(systems, [BEST]).next_steps[0].arguments == {"source": run}


def test_a_classifier_is_offered_where_the_answers_are_classes_and_none_was_measured():
    systems = [system("base", 0.3, "not_met"), system("tuned", 0.95, "met", is_trained=True)]
    classes = replace(SYSTEMS, has_classes=True)
    _, simple = several(systems, [BEST], call=classes).next_steps
    assert [one["baseline"] for one in simple.arguments["systems"]] == ["majority", "tf_idf"]
    measured = [*systems, system("tf_idf", 0.5, "not_met", kind="tf_idf")]
    assert len(several(measured, [BEST], call=classes).next_steps) == 1
    assert len(several(systems, [BEST]).next_steps) == 1


@pytest.mark.parametrize(
    ("verdict", "more", "tool"),
    [
        ("not_shown", {}, "evaluate"),
        ("not_met", {}, "evaluate"),
        ("not_met", {"has_examples": True}, "recommend_approach"),
        ("not_met", {"is_trained": True}, "recommend_approach"),
    ],
)
def test_what_to_try_next_follows_what_was_tried(verdict, more, tool):
    made = several([system("most", 0.3, "not_met"), system("prompt", 0.8, verdict, **more)], [])
    assert made.next_steps[0].tool == tool
    if tool == "evaluate":
        assert made.next_steps[0].arguments == GIVEN


def test_whether_training_would_reach_the_target_is_asked_with_all_that_was_measured():
    systems = [
        system("most", 0.3, "not_met", kind="majority"),
        system("prompt", 0.4, "not_met", model="org/small"),
        system("shots", 0.5, "not_met", model="org/small", has_examples=True),
    ]
    known = {"evaluations": ["evaluate-0"], "considering": ["sft"], "model": "org/small"}
    assert several(systems, []).next_steps[0].arguments == known | {"dataset": "train.jsonl"}
    classes = replace(SYSTEMS, has_classes=True, learned_from="")
    (made,) = several(systems, [], call=classes).next_steps
    assert made.arguments == known | {"considering": ["sft", "small_model_fine_tuning"]}


def test_without_a_target_the_cheapest_as_good_as_the_best_is_named_and_a_target_asked_for():
    best = RankedSystem(name="prompt", versus_best="best")
    worse = RankedSystem(
        name="most", versus_best="worse", difference=-0.5, ci_low=-0.6, ci_high=-0.4
    )
    systems = [system("most", 0.3), system("prompt", 0.8)]
    made = several(systems, [worse, best], target=None)
    assert made.summary[-1] == "prompt has the best exact_match."
    assert made.next_steps[0].arguments == GIVEN | {"target": {"exact_match": 0.9}}
    near = worse.model_copy(update={"versus_best": "not_distinguishable", "ci_high": 0.1})
    close = [system("most", 0.3), system("prompt", 0.4)]
    made = several(close, [near, best], target=None, majority_fraction=0.36)
    assert "(0.4 [0.35, 0.45])" in made.summary[-1]
    assert "most frequent class (0.36)" in made.summary[-1]


def seen(num_near, num_fresh, systems, ranking=()):
    found = Contamination(
        checked_against=[], learned_from=["train.jsonl"], not_checked=[], num_exact=0,
        num_near=num_near, lines=[1],
    )  # fmt: skip
    return several(systems, list(ranking), contamination=found, num_fresh=num_fresh)


def test_scores_are_repeated_without_questions_that_were_nearly_learned():
    values = {"tfidf": [1.0] * 52 + [0.0] * 8, "prompt": [0.0] * 52 + [1.0] * 8}
    systems = [system("tfidf", 0.87, "not_shown"), system("prompt", 0.13, "not_met")]
    systems = with_fresh(systems, "exact_match", values, range(52, 60), SETTINGS)
    sentence = seen(52, 8, systems).summary[1]
    assert sentence.startswith("52 of 60 held-out questions")
    assert "tfidf 0 [0, 0.324], prompt 1 [0.676, 1]" in sentence
    grouped = replace(SETTINGS, clusters=[str(i // 4) for i in range(60)])
    (one, _) = with_fresh(systems, "exact_match", values, range(50, 60), grouped)
    (alone, _) = with_fresh(systems, "exact_match", values, range(50, 60), SETTINGS)
    assert one.fresh.value == alone.fresh.value
    assert one.fresh.ci_high > alone.fresh.ci_high


def test_what_may_have_remembered_every_question_is_not_shown_to_meet_a_target():
    systems = [
        system("plain", 0.95, "met"),
        system("shown", 0.95, "met", has_examples=True),
        system("tuned", 0.95, "met", is_trained=True),
        system("tf_idf", 0.95, "met", kind="tf_idf"),
        system("most", 0.3, "not_met", kind="majority"),
    ]
    values = {one.name: [float(i < 57) for i in range(60)] for one in systems}
    some = with_fresh(systems, "exact_match", values, range(30, 60), SETTINGS)
    assert [one.target for one in some] == [one.target for one in systems]
    # All that is wrong is new: the plain model cannot have remembered the rest.
    missed = with_fresh(systems, "exact_match", values, range(56, 60), SETTINGS, 0.9)
    assert [one.target for one in missed] == ["met", *["not_shown"] * 3, "not_met"]
    none = with_fresh(systems, "exact_match", values, [], SETTINGS)
    assert [one.target for one in none] == ["met", *["not_shown"] * 3, "not_met"]
    ranked = rank(none, "exact_match", values, SETTINGS, has_target=True)
    assert [one.name for one in ranked] == ["plain"]
    made = seen(60, 0, none[1:])
    assert made.next_steps[0].tool == "evaluate"
    assert document(made, []).count(">not shown</span>") == 3


def test_limits_of_single_systems_are_noted_with_both_scores_where_null_was_empty():
    changed = system("api", 0.9, "not_shown", served_by=["m-1", "m-2"], cut_off_fraction=0.2)
    health = OutputHealth(
        empty_fraction=0, truncated_fraction=0, repetitive_fraction=0, mean_length_ratio=1,
        seconds_per_output=1, trivial_differences={"null_or_empty": 6, "case": 3},
    )  # fmt: skip
    made = several(
        [system("most", 0.3, "not_met"), changed], [], num_examples=60, outputs={"api": health}
    )
    assert ids(made.notes) == {"endpoint_changed", "answers_cut_off", "trivially_different"}
    assert "6 of 60" in made.notes[-1]
    assert "0.9 and 1" in made.notes[-1]


def test_the_returned_report_keeps_the_main_metric_only():
    made = several([system("most", 0.3, "not_met"), system("prompt", 0.8, "not_met")], [])
    assert [row.metric for row in without_details(made).comparisons] == ["exact_match"]
    assert without_details(made).outputs == {}


def test_a_report_of_version_0_1_is_read():
    old = pair(NO, YES).model_dump(mode="json")
    old["outputs"] = {"tuned": {"empty_fraction": 0, "truncated_fraction": 0, "copied_fraction": 0,
                                "repetitive_fraction": 0, "mean_length_ratio": 1,
                                "seconds_per_output": 1}}  # fmt: skip
    old["contamination"] = {"checked_against": [], "not_checked": [], "num_exact": 0,
                            "num_near": 0, "num_twins": 3, "lines": []}  # fmt: skip
    del old["num_examples"]
    assert EvaluationReport.model_validate(old).comparisons[0].verdict == "improved"


def both(before, after):
    return {"baseline": before, "tuned": after}


def test_the_page_shows_the_worst_regression_first_and_escapes_every_text():
    samples = [
        Sample(1, "<script>ask", "want", both("want", "<img src=x>"), -1.0),
        Sample(3, "third", "want", both("want", "want"), 0.0),
        Sample(2, "second", "want", both("bad", "want"), 1.0),
    ]
    html = document(pair(NO, YES), samples)
    assert "<script" not in html
    assert "<img" not in html
    assert html.index("line 1\n") < html.index("line 2\n") < html.index("line 3\n")
    assert marked("a b c", "a x c") == "a <mark>x</mark> c"
    assert marked("same", "same") == "same"
