"""The advice that a launch carries: its verdict in the plan, and in the way if it says no."""

import json

import pytest
from pydantic import ValidationError

from ft_tools.contract import complaints
from ft_tools.errors import Refused, UnknownName
from ft_tools.training.checks import accepted
from ft_tools.training.checks.advised import LAUNCHED, of_launch, require_advised
from ft_tools.training.request import DpoRequest, SftRequest
from ft_tools.training.tool import launch_dpo, launch_sft
from tests.unit.test_approach_measured import trained

READY = {
    "symptoms": ["style"],
    "prompting_tried": "optimized",
    "target_met": False,
    "has_eval_set": True,
    "num_demonstrations": 800,
    "data_source": "human",
}
TASTE = READY | {"symptoms": ["preference"], "checkpoint": "instruct"}
TOOLS = READY | {"symptoms": ["tool_use"]}
AGAINST = [
    ({"symptoms": ["knowledge_gap"]}, ["knowledge_injection"]),
    ({"has_eval_set": False}, ["no_eval_set"]),
    ({"prompting_tried": "none"}, ["prompt_not_tried"]),
    ({"num_demonstrations": 8}, ["too_few_examples"]),
]


def sft(advice, **changed):
    return SftRequest(model="m", dataset="d.jsonl", advice=advice, **changed)


def dpo(advice, **changed):
    return DpoRequest(dataset="d.jsonl", advice=advice, **{"model": "m"} | changed)


def test_training_that_is_advised_goes_on_with_the_verdict():
    assert require_advised("sft", sft(READY)).verdict == "now"
    pairs = TASTE | {"num_preference_pairs": 5000}
    assert require_advised("dpo", dpo(pairs)).verdict == "now"
    assert require_advised("kto", dpo(TASTE | {"num_marks": 5000})).verdict == "now"
    classes = READY | {"symptoms": ["classification", "cost"], "num_demonstrations": 8000}
    assert require_advised("sft", sft(classes)).approach == "small_model_fine_tuning"


def test_a_refusal_gives_the_reason_where_the_training_comes_later_in_the_path():
    with pytest.raises(Refused, match=r"sft: later, step 3: after .* \(\w.*\)"):
        require_advised("sft", sft(READY | {"prompting_tried": "none", "considering": ["sft"]}))


def test_a_refusal_of_a_small_model_says_what_comes_first_and_not_how_another_kind_is_trained():
    """A refusal to train a Qwen decoder spoke of an encoder, and of labels that were there."""
    advice = {"considering": ["small_model_fine_tuning"], "symptoms": ["classification"]}
    advice |= {"prompting_tried": "none", "num_demonstrations": 240}
    with pytest.raises(Refused) as refused:
        require_advised("sft", sft(advice))
    said = str(refused.value)
    assert "small_model_fine_tuning: later, step 4: if the best prompt misses the target" in said
    assert "(The best prompt is not known yet" in said
    assert "ncoder" not in said


def test_a_misspelt_id_of_what_is_accepted_is_refused_with_the_nearest_and_those_there_are():
    """It was taken in silence, and accepted nothing."""
    accepted.require_known(["no_quality_filter", "no_eval_set", "secret", "contradictions"])
    with pytest.raises(UnknownName) as refused:
        launch_sft(sft(None, accept_findings=["no_qualty_filter"], accept_reason="a pilot"))
    said = str(refused.value)
    assert said.startswith("unknown id in accept_findings 'no_qualty_filter'; rules of launches: ")
    assert "validation_unwatched" in said
    assert "nearest: no_quality_filter" in said
    with pytest.raises(UnknownName, match="nearest: test_row"):
        launch_dpo(dpo(None, accept_findings=["test_rows"], accept_reason="a pilot"))


def test_the_launch_fills_in_its_model_and_counts_its_rows_where_the_advice_leaves_them_out(
    tmp_path, monkeypatch
):
    """A launch was refused that the same advice with the launch's own model repeated allowed."""
    monkeypatch.setenv("FINE_TUNING_LLM_WORKSPACE", str(tmp_path))
    rows = [{"prompt": f"Say {n} in words", "completion": f"It is number {n}"} for n in range(60)]
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    advice = {k: v for k, v in READY.items() if k != "num_demonstrations"}
    asked = sft(advice)
    seen = of_launch("sft", asked, asked.advice)

    assert (seen.model, seen.dataset) == ("m", "d.jsonl")
    assert require_advised("sft", sft(advice)).verdict == "now"
    (tmp_path / "d.jsonl").write_text(json.dumps(rows[0]) + "\n")
    with pytest.raises(Refused, match="too_few_examples"):
        require_advised("sft", sft(advice))


def test_training_a_run_further_that_was_still_learning_is_now_although_it_missed(workspace):
    run, _ = trained(workspace)
    advice = READY | {"tried_training": ["sft"]}
    other = SftRequest(model="m", dataset="d.jsonl", advice=advice)
    with pytest.raises(Refused, match="sft: later"):
        require_advised("sft", other)
    further = SftRequest(model=run, dataset="d.jsonl", advice=advice)
    assert require_advised("sft", further).verdict == "now"


def test_what_the_advice_says_of_model_and_rows_holds():
    asked = sft(READY | {"model": "other"})
    seen = of_launch("sft", asked, asked.advice)

    assert (seen.model, seen.dataset) == ("other", None)


def test_without_advice_nothing_is_refused():
    assert require_advised("sft", sft(None)) is None


@pytest.mark.parametrize(("change", "rules"), AGAINST)
def test_training_that_is_advised_against_needs_each_rule_accepted_with_a_reason(change, rules):
    advice = READY | change
    with pytest.raises(Refused, match=f"^advised_against: sft: .*{rules[0]}") as refused:
        require_advised("sft", sft(advice))
    assert "accept_findings" in str(refused.value)
    with pytest.raises(ValidationError, match="accept_reason"):
        sft(advice, accept_findings=rules)
    accepted = sft(advice, accept_findings=rules, accept_reason="a pilot")
    advised = require_advised("sft", accepted)
    assert advised.verdict != "now"
    assert advised.rules == rules
    other = sft(advice, accept_findings=["verdict_column"], accept_reason="a pilot")
    with pytest.raises(Refused, match="advised_against"):
        require_advised("sft", other)


def test_advice_that_no_rule_is_behind_is_accepted_by_its_own_name():
    advice = TOOLS | {"num_marks": 5000}
    with pytest.raises(Refused, match=r"^advised_against: kto: .*\['advised_against'\]"):
        require_advised("kto", dpo(advice))
    accepted = dpo(advice, accept_findings=["advised_against"], accept_reason="a pilot")
    assert require_advised("kto", accepted).first_step == "sft"


def test_the_run_that_dpo_starts_from_tells_the_checkpoint():
    advice = {k: v for k, v in TASTE.items() if k != "checkpoint"}
    advice |= {"num_preference_pairs": 5000}
    found = require_advised("dpo", dpo(advice, model=None, sft_run="sft-0123456789abcdef"))
    assert found.verdict == "now"


@pytest.mark.parametrize(
    ("advice", "where"),
    [
        ({"symptom": ["style"]}, ("advice", "symptom")),
        ({"symptoms": ["styl"]}, ("advice", "symptoms", 0)),
        ({"num_demonstrations": "many"}, ("advice", "num_demonstrations")),
        ("style", ("advice",)),
    ],
)
def test_an_argument_of_the_advice_that_is_wrong_is_named(advice, where):
    with pytest.raises(ValidationError) as refused:
        sft(advice)
    assert refused.value.errors()[0]["loc"][: len(where)] == where


def test_each_kind_of_launch_says_what_it_trains():
    assert {task: approaches[0] for task, approaches in LAUNCHED.items()} == {
        task: task for task in ("sft", "dpo", "kto")
    }


def test_a_misspelt_argument_of_the_advice_is_answered_with_those_of_the_advice():
    with pytest.raises(ValidationError) as refused:
        sft({"num_demonstration": 3})
    (line,) = complaints(SftRequest, refused.value)
    assert line.startswith(
        "advice.num_demonstration: no such argument; did you mean 'num_demonstrations'? known: "
        "problem, considering"
    )
