"""Sentences, gate, page and model card."""

import re

import pytest

from ft_tools.errors import BadInput
from ft_tools.evaluation.conclude import (
    model_card,
    next_steps,
    notes,
    reasons,
    summarise,
)
from ft_tools.evaluation.held_out import HeldOut
from ft_tools.evaluation.metrics.scoring import Settings, changed_lines, compare_scores
from ft_tools.evaluation.page import Sample, document, marked
from ft_tools.evaluation.recommend_system import Asked
from ft_tools.evaluation.report import EvaluationReport
from ft_tools.evaluation.requirements import read_requirement, unmet

SETTINGS = Settings(seed=0, smallest_effect=0.1)
ASKED = Asked("evaluate-0", {"model": "sft-1", "dataset": "held_out.jsonl"})


def report(before, after, general=None, **more):
    rows = compare_scores(before, after, SETTINGS)
    kept = compare_scores(*general, SETTINGS) if general else []
    made = EvaluationReport(
        tuned="sft-1", baseline="base", summary=[], comparisons=rows, general_ability=kept, **more
    )
    return made.model_copy(update={"summary": summarise(made, ASKED)})


@pytest.fixture
def better():
    general = ({"general_questions": [1.0, 0.0] * 40}, {"general_questions": [1.0, 0.0] * 40})
    return report({"json_valid": [0.0] * 60}, {"json_valid": [1.0] * 60}, general)


@pytest.fixture
def worse():
    return report({"json_valid": [1.0] * 60}, {"json_valid": [0.0] * 60})


@pytest.fixture
def few():
    return report({"json_valid": [1.0] * 10}, {"json_valid": [1.0] * 10})


def test_the_summary_has_three_sentences_with_the_numbers(better, worse, few):
    for one in (better, worse, few):
        assert len(one.summary) == 3
    assert "json_valid improved: 0 -> 1" in better.summary[0]
    assert "n=60" in better.summary[0]
    assert "general ability shows no loss" in better.summary[2]
    assert "Do not ship" in worse.summary[2]
    assert "underpowered" in few.summary[1]
    assert "Collect more" in few.summary[2]


def test_an_interval_without_zero_that_is_no_change_names_the_correction():
    before = {"exact_match": [0.0] * 60, "json_valid": [1.0] * 60}
    after = before | {"exact_match": [1.0] * 6 + [0.0] * 54}
    one = report(before, after)
    row = one.comparisons[0]
    assert row.ci_low > 0
    assert row.p_value < 0.05 < row.p_adjusted
    assert row.verdict == "underpowered"
    assert "exact_match: underpowered (p 0.062 after Holm's correction" in one.summary[1]
    assert "json_valid: no detectable change, 1 -> 1" in one.summary[1]


def test_lost_general_ability_is_said_before_the_gain():
    general = ({"general_questions": [1.0] * 60}, {"general_questions": [0.0] * 60})
    one = report({"json_valid": [0.0] * 60}, {"json_valid": [1.0] * 60}, general)
    assert "General ability regressed" in one.summary[2]


def test_a_loss_that_the_user_accepts_is_said_and_stops_nothing():
    general = ({"general_questions": [1.0] * 60}, {"general_questions": [0.0] * 60})
    gain = ({"json_valid": [0.0] * 60}, {"json_valid": [1.0] * 60})
    one = report(*gain, general, accepted=["general_ability_loss"])
    assert one.summary[2] == (
        "The gain is significant on these 60 examples; general ability regressed "
        "(general_questions), which was accepted."
    )
    assert next_steps(one, 0.1, ASKED)[0].tool == "merge_and_quantize"
    assert passes(one, "not_regressed") == []
    assert passes(one, "not_regressed:general_questions") != []
    assert next_steps(report(*gain, general), 0.1, ASKED)[0].tool == "audit_dataset"


def test_a_small_loss_that_could_be_missed_is_said():
    general = ({"refusals": [1.0] * 8}, {"refusals": [1.0] * 8})
    one = report({"json_valid": [0.0] * 60}, {"json_valid": [1.0] * 60}, general)
    assert "a small loss of refusals could be missed" in one.summary[2]


def test_the_warning_of_too_few_examples_is_kept_only_where_it_came_true(better, few):
    warning, note = "60 examples may be too few: ...", "the chat templates differ"
    assert notes(better.model_copy(update={"notes": [note]}), warning) == [note]
    assert notes(few.model_copy(update={"notes": [note]}), warning) == [warning, note]
    assert notes(few.model_copy(update={"notes": [note]}), "") == [note]


def test_perplexity_that_falls_is_an_improvement():
    chance = [0.01 * i for i in range(40)]
    one = report(
        {"log_perplexity": [2 + c for c in chance]},
        {"log_perplexity": [1.5 + c / 2 for c in chance]},
    )
    row = one.comparisons[0]
    assert row.difference < 0
    assert row.verdict == "improved"
    assert (row.num_better, row.num_worse) == (40, 0)


def test_the_next_step_follows_the_verdict(better, worse, few):
    assert next_steps(better, 0.1, ASKED)[0].tool == "merge_and_quantize"
    assert next_steps(worse, 0.1, ASKED)[0].tool == "audit_dataset"
    (again,) = next_steps(few, 0.1, ASKED)
    assert (again.tool, again.arguments) == ("evaluate", ASKED.arguments)
    assert reasons(better, 0.1)[0].source.startswith("https://")


def test_a_model_alone_makes_no_claim():
    one = report({"json_valid": [1.0] * 60}, {"json_valid": [1.0] * 60}, alone=True)
    assert "no change can be reported" in one.summary[1]
    assert next_steps(one, 0.1, ASKED)[0].tool == "recommend_approach"


def both(before, after):
    return {"baseline": before, "tuned": after}


def passes(report, *requirements):
    return unmet(report, [read_requirement(text) for text in requirements])


def test_the_gate_opens_for_what_is_shown_and_only_that(better, worse, few):
    assert passes(better, "improved:json_valid", "not_regressed", "at_least:json_valid:0.9") == []
    assert len(passes(worse, "improved:json_valid", "not_regressed")) == 2
    assert len(passes(few, "improved:json_valid")) == 1
    assert passes(few, "not_regressed:json_valid", "at_most:json_valid:1") == []
    assert "at_least:json_valid:0.5" in passes(worse, "at_least:json_valid:0.5")[0]


def test_a_requirement_of_every_measure_names_those_that_fell():
    general = ({"refusals": [1.0] * 60}, {"refusals": [0.0] * 60})
    fell = report({"json_valid": [0.0] * 60}, {"json_valid": [1.0] * 60}, general)
    (line,) = passes(fell, "not_regressed")
    assert line.startswith("not_regressed: refusals regressed, 1 -> 0")


@pytest.mark.parametrize(
    "requirement",
    ["better:json_valid", "at_least:json_valid:x", "at_least:json_valid", "at_most:0.3",
     "at_least:json_valid:nan", "improved", ""],
)  # fmt: skip
def test_a_requirement_that_cannot_be_read_names_what_is_allowed(requirement):
    with pytest.raises(BadInput, match="allowed: improved:METRIC"):
        read_requirement(requirement)


def test_a_measure_that_was_not_taken_is_named_with_those_that_were(better):
    with pytest.raises(
        BadInput, match=r"'rougeL' was not measured; measured: general_questions, json_valid"
    ):
        passes(better, "improved:rouge")


def test_the_page_shows_the_worst_regression_first_and_escapes_every_text(better):
    samples = [
        Sample(1, "<script>ask", "want", both("want", "<img src=x>"), -1.0),
        Sample(2, "second", "want", both("bad", "want"), 1.0),
        Sample(3, "third", "want", both("want", "want"), 0.0),
    ]
    html = document(better, samples)
    assert "<script" not in html
    assert "<img" not in html
    assert html.index("line 1\n") < html.index("line 2\n") < html.index("line 3\n")
    assert "improved" in html
    assert '<label for="show-worse">worse: 1</label>' in html


def test_samples_can_be_chosen_by_outcome_and_by_what_is_wrong_with_them(better):
    samples = [
        Sample(1, "q", "want", both("want", ""), -1.0, ("empty",)),
        Sample(2, "q", "want", both("want", "on and on"), -1.0, ("cut off", "in a loop")),
        Sample(3, "q", "want", both("want", "want"), 0.0),
    ]
    html = document(better, samples)
    chosen = re.findall(r'id="show-([a-z-]+)"( checked)?>', html)
    assert chosen == [
        ("all", " checked"), ("worse", ""), ("unchanged", ""), ("cut-off", ""), ("empty", ""),
        ("in-a-loop", ""),
    ]  # fmt: skip
    assert '<div class="is-cut-off is-in-a-loop is-worse">' in html
    for name, _ in chosen[1:]:
        assert f"#show-{name}:checked~div:not(.is-{name})" in html


def test_differences_are_underlined():
    assert marked("a b c", "a x c") == "a <mark>x</mark> c"
    assert marked("same", "same") == "same"
    assert marked("", "") == ""


def test_a_model_card_section_has_a_row_a_measure(better):
    card = model_card(better)
    assert "| json_valid (fraction) | 0 | 1 | +1 [" in card
    assert card.count("\n| ") == 3


def test_the_lines_that_changed_are_named_without_their_texts():
    examples = [HeldOut(line=i, prompt="secret", reference="secret") for i in range(1, 5)]
    scores = {
        "baseline": {"json_valid": [1.0, 0.0, 1.0, 1.0]},
        "tuned": {"json_valid": [0.0, 1.0, 1.0, 0.5]},
    }
    found = changed_lines(scores, list(scores), "json_valid", examples)
    assert [(s.line, s.baseline, s.tuned) for s in found] == [(1, 1, 0), (4, 1, 0.5), (2, 0, 1)]
    assert "secret" not in str(found)
