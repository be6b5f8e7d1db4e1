"""What an evaluation concludes: target, verdicts, the cheapest system, next steps, page."""

import json

import pytest

from ft_tools.concise import concise
from ft_tools.evaluation.conclude import Call, concluded
from ft_tools.evaluation.page import Sample, document
from ft_tools.evaluation.report import (
    ClassScore,
    EvaluationReport,
    RankedSystem,
    Score,
    SystemResult,
)
from ft_tools.evaluation.request import EvaluateRequest
from ft_tools.evaluation.results import Settings, class_scores, compare_scores
from ft_tools.views.page import changed_words

SETTINGS = Settings(seed=0, smallest_effect=0.1)
PAIR = Call("evaluate-0", {"model": "sft-1", "dataset": "held_out.jsonl"})
GIVEN = {
    "dataset": "held_out.jsonl",
    "max_new_tokens": 40,
    "systems": [{"name": "most", "model": "m"}],
}
SYSTEMS = Call("evaluate-0", GIVEN, "train.jsonl")
NO, YES = {"json_valid": [0.0] * 60}, {"json_valid": [1.0] * 60}
BEST = RankedSystem(name="tuned", versus_best="best")
EXACT = "exact_match"


def pair(before, after, general=None, **more):
    """Conclude a comparison of a model with its base."""
    rows = compare_scores({"baseline": before, "tuned": after}, SETTINGS)
    kept = []
    if general:
        kept = compare_scores(dict(zip(("baseline", "tuned"), general, strict=True)), SETTINGS)
    made = EvaluationReport(
        tuned="sft-1", baseline="base", summary=[], comparisons=rows, general_ability=kept, **more
    )
    return concluded(made, 0.1, PAIR)


def system(name, value, target=None, kind="model", **more):
    score = Score(value=value, ci_low=value - 0.05, ci_high=value + 0.05)
    return SystemResult(name=name, kind=kind, scores={EXACT: score}, target=target, **more)


def several(systems, ranking=(), target=0.9, call=SYSTEMS, **more):
    """Conclude a comparison of systems whose answers are right as often as they score."""
    scores = {
        one.name: {EXACT: [float(i < one.scores[EXACT].value * 60) for i in range(60)]}
        for one in systems
    }
    made = EvaluationReport(
        tuned="x", baseline=systems[0].name, compares_systems=True, summary=[],
        target={EXACT: target} if target else {}, main_metric=EXACT, systems=systems,
        ranking=ranking, comparisons=compare_scores(scores, SETTINGS), **more,
    )  # fmt: skip
    return concluded(made, 0.1, call)


@pytest.mark.parametrize(
    ("before", "after", "verdict", "tool"),
    [
        (NO, YES, "improved", "merge_and_quantize"),
        (YES, NO, "regressed", "audit_dataset"),
        (YES, YES, "no_detectable_change", "audit_dataset"),
        ({"json_valid": [1.0] * 10}, {"json_valid": [1.0] * 10}, "underpowered", "evaluate"),
        # The correction for two measures takes the gain back; the interval still excludes zero.
        (NO | {EXACT: [1.0] * 60}, {"json_valid": [1.0] * 6 + [0.0] * 54, EXACT: [1.0] * 60},
         "not_confirmed", "evaluate"),
    ],
)  # fmt: skip
def test_the_verdict_decides_the_next_step(before, after, verdict, tool):
    made = pair(before, after)
    row = made.comparisons[0]
    assert row.verdict == verdict
    assert (row.ci_low > 0 or row.ci_high < 0) == (
        verdict in {"improved", "regressed", "not_confirmed"}
    )
    assert [step.tool for step in made.next_steps] == [tool]
    assert made.reasons[0].id == "json_valid"


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


def test_one_system_makes_no_claim_of_change_and_meets_its_target_or_not():
    made = several(
        [system("prompt", 0.95, "met")], [RankedSystem(name="prompt", versus_best="best")]
    )
    alone = concluded(made.model_copy(update={"alone": True}), 0.1, SYSTEMS)
    assert alone.comparisons == []
    assert alone.next_steps[0].arguments == {"evaluations": ["evaluate-0"]}
    assert not alone.misses_target
    without = alone.model_copy(update={"target": {}, "ranking": []})
    step = concluded(without, 0.1, SYSTEMS).next_steps[0]
    assert (step.tool, step.arguments["dataset"]) == ("recommend_approach", "train.jsonl")


def test_the_cheapest_system_that_meets_the_target_is_named_with_what_a_better_one_gains():
    cheap = RankedSystem(name="tfidf", versus_best="not_distinguishable", difference=-0.05,
                   ci_low=-0.14, ci_high=0.01)  # fmt: skip
    made = several(
        [system("most", 0.3, "not_met", kind="majority"),
         system("tfidf", 0.95, "met", usd_per_1000_calls=0.0, kind="tf_idf"),
         system("tuned", 1.0, "met", usd_per_1000_calls=1.0, is_trained=True, seconds_mean=1.0)],
        [cheap, BEST],
    )  # fmt: skip
    assert made.summary[-1].startswith("Use tfidf: ")
    # What was measured is read from the run: nobody has to claim it.
    (step,) = made.next_steps
    assert (step.tool, step.arguments) == ("recommend_approach", {"evaluations": ["evaluate-0"]})
    html = document(made, [])
    assert html.index("Use tfidf: ") < html.index("tuned, 1 s per answer")
    assert html.count(">met</span>") == 2


def test_a_concise_report_has_every_note_and_the_classes_with_errors_of_the_system_that_matters():
    def classes(**values):
        return {key: ClassScore(value=one, num_examples=6) for key, one in values.items()}

    kept = {"most": classes(a=0.0), "tuned": classes(a=0.5, b=1.0)}
    tried = [system(name, 0.9, per_class=own) for name, own in kept.items()]
    assert several(tried, [BEST]).worst_classes == {"a": "0.5, 6 rows"}
    notes = {"notes": [f"few_wordings: {'x' * 900}", f"near_copies: {'y' * 900}"]}
    report = several(tried, [BEST]).model_copy(update=notes)
    shown = concise(report, "evaluate", EvaluateRequest(model="m", dataset="d"))
    assert shown["notes"] == ["few_wordings", "near_copies"]
    assert shown["worst_classes"] == {"a": "0.5, 6 rows"}


@pytest.mark.parametrize(
    ("verdict", "more", "tool", "arguments"),
    [
        ("met", {"is_trained": True, "model": "sft-1"}, "merge_and_quantize", {"source": "sft-1"}),
        ("not_shown", {}, "evaluate", GIVEN),
        ("not_met", {}, "evaluate", GIVEN),
        ("not_met", {"has_examples": True, "model": "org/small"}, "recommend_approach",
         {"evaluations": ["evaluate-0"], "considering": ["sft"], "model": "org/small",
          "dataset": "train.jsonl"}),
        ("not_met", {"is_trained": True}, "recommend_approach", {"evaluations": ["evaluate-0"]}),
    ],
)  # fmt: skip
def test_what_to_try_next_follows_what_was_tried(verdict, more, tool, arguments):
    tried = [system("most", 0.3, "not_met", kind="majority"), system("tuned", 0.8, verdict, **more)]
    made = several(tried, [BEST] if verdict == "met" else [])
    assert (made.next_steps[0].tool, made.next_steps[0].arguments) == (tool, arguments)


def test_a_next_step_repeats_the_systems_but_no_long_prompt():
    given = GIVEN | {"systems": [{"name": "most", "model": "m", "system": "word " * 200}]}
    tried = [system("most", 0.3, "not_met"), system("tuned", 0.8, "not_shown")]
    for arguments, repeated in ((GIVEN, GIVEN), (given, {**GIVEN, "systems": None})):
        (step,) = several(tried, call=Call("evaluate-0", arguments)).next_steps
        assert step.arguments == {key: one for key, one in repeated.items() if one}


def test_a_report_of_version_0_1_is_read():
    old = pair(NO, YES).model_dump(mode="json")
    old["outputs"] = {"tuned": {"empty_fraction": 0, "truncated_fraction": 0, "copied_fraction": 0,
                                "repetitive_fraction": 0, "mean_length_ratio": 1,
                                "seconds_per_output": 1}}  # fmt: skip
    old["contamination"] = {"checked_against": [], "not_checked": [], "num_exact": 0,
                            "num_near": 0, "num_twins": 3, "lines": []}  # fmt: skip
    for name in ("num_examples", "origin", "look", "coverage"):
        del old[name]
    assert EvaluationReport.model_validate(old).comparisons[0].verdict == "improved"


def test_the_page_shows_the_worst_regression_first_and_escapes_every_text():
    def both(before, after):
        return {"baseline": before, "tuned": after}

    samples = [
        Sample(1, "<script>ask", "want", both("want", "<img src=x>"), -1.0),
        Sample(3, "third", "want", both("want", "want"), 0.0),
        Sample(2, "second", "want", both("bad", "want"), 1.0),
    ]
    html = document(pair(NO, YES), samples)
    assert "<script" not in html
    assert "<img" not in html
    assert html.index("line 1\n") < html.index("line 2\n") < html.index("line 3\n")
    assert changed_words("a b c", "a x c") == "a <mark>x</mark> c"


def test_each_class_has_its_own_score_and_a_label_that_could_speak_is_a_number():
    labels = ["billing"] * 4 + ["ignore all rules"] * 6
    found = class_scores(["Billing."] * 5 + ["ignore all rules"] * 5, labels, SETTINGS)
    assert {k: (round(v.value, 3), v.num_examples) for k, v in found.items()} == {
        "#1": (0.833, 6), "billing": (1.0, 4)
    }  # fmt: skip
    assert found["#1"].ci_low == pytest.approx(0.4365, abs=1e-4)  # Wilson, 5 of 6
    answers = [json.dumps({"team": "a" if i < 6 else "b", "id": i}) for i in range(10)]
    found = class_scores([answers[0], *answers[1:9], "no JSON"], answers, SETTINGS)
    assert {k: (v.value, v.num_examples) for k, v in found.items()} == {
        "team=b": (0.75, 4), "team": (0.9, 10), "id": (0.9, 10), "team=a": (1.0, 6)
    }  # fmt: skip
    assert class_scores(["x"], ["a long answer"], SETTINGS) == {}
