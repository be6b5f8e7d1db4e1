"""Forty situations that three other people collected, translated and judged.

`python -m tests.unit.test_approach_held_out` prints what is not acceptable.
"""

import sys
import tomllib
from pathlib import Path

import pytest

from tests.unit.test_approach_threads import MOST_TOKENS, answer, are_verdicts_acceptable, tokens

CASES = tomllib.loads(Path(__file__).with_name("scenarios_held_out.toml").read_text())["cases"]


def half(name):
    return [case for case in CASES if case["half"] == name]


def says_what_does_not_fit(case):
    """Tell whether the right approach is recommended in words that send the asker astray."""
    why = answer(case["request"]).path[0].why
    return any(words in why for words in case.get("not_said", ()))


def is_first_acceptable(case):
    return answer(case["request"]).approach in case["first"] and not says_what_does_not_fit(case)


def is_harmful(case):
    return answer(case["request"]).approach in case["harmful"] or says_what_does_not_fit(case)


halves = pytest.mark.parametrize("name", ["held_out_tune", "held_out_check"])
FIRST = {"held_out_tune": 17, "held_out_check": 13}
VERDICTS = {"held_out_tune": 17, "held_out_check": 19}
"""What is reached, of 20 each."""

HARMFUL = {"held_out_tune": [], "held_out_check": ["n24"]}
"""Their arguments could not say that DPO was run without effect."""


@halves
def test_as_many_first_steps_are_acceptable_as_were_reached(name):
    assert sum(map(is_first_acceptable, half(name))) >= FIRST[name]


@halves
def test_as_many_verdicts_are_acceptable_as_were_reached(name):
    assert sum(map(are_verdicts_acceptable, half(name))) >= VERDICTS[name]


@halves
def test_no_first_step_does_damage_but_where_the_words_for_it_were_missing(name):
    assert [case["id"] for case in half(name) if is_harmful(case)] == HARMFUL[name]


def test_dpo_is_not_repeated_where_it_is_said_to_have_had_no_effect():
    case = next(case for case in CASES if case["id"] == "n24")
    report = answer(case["request"] | {"checkpoint": "dpo_run"})

    assert report.approach in case["first"]
    assert report.verdicts[0].verdict in case["verdicts"]["dpo"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_a_concise_report_of_a_held_out_case_stays_short(case):
    assert tokens(answer(case["request"])) <= MOST_TOKENS


def test_there_are_forty_cases_in_two_halves():
    assert len(half("held_out_tune")) == len(half("held_out_check")) == 20


def main():
    for name in ("held_out_tune", "held_out_check"):
        cases = half(name)
        firsts = sum(map(is_first_acceptable, cases))
        agreed = sum(map(are_verdicts_acceptable, cases))
        harm = [case["id"] for case in cases if is_harmful(case)]
        sys.stdout.write(
            f"{name}: first {firsts} of {len(cases)}, verdicts {agreed}, harm {harm}\n"
        )
    for case in CASES:
        report = answer(case["request"])
        missed = [] if is_first_acceptable(case) else ["first"]
        missed += [] if are_verdicts_acceptable(case) else ["verdicts"]
        if missed:
            path = [step.approach for step in report.path]
            given = {each.approach: each.verdict for each in report.verdicts}
            sys.stdout.write(
                f"  {case['id']} {missed} {report.row} {path} {given} "
                f"wanted {case['first']} {case['verdicts']}\n"
            )


if __name__ == "__main__":
    main()
