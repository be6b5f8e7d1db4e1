"""Forty situations that three other people collected, translated and judged; tuned on since.

`python -m tests.unit.test_approach_held_out` prints what is not acceptable.
"""

import sys
import tomllib
from pathlib import Path

import pytest

from tests.unit.test_approach_threads import MOST_TOKENS, answer, are_verdicts_acceptable, tokens

CASES = tomllib.loads(Path(__file__).with_name("scenarios_held_out.toml").read_text())["cases"]


def arguments(case):
    """Return what was put into arguments, and what words say that were added since."""
    return case["request"] | case.get("since", {})


def half(name):
    return [case for case in CASES if case["half"] == name]


def are_verdicts_right(case):
    return are_verdicts_acceptable(case | {"request": arguments(case)})


def says_what_does_not_fit(case):
    """Tell whether the right approach is recommended in words that send the asker astray."""
    summary = answer(arguments(case)).summary
    return any(words in summary for words in case.get("not_said", ()))


def is_first_acceptable(case):
    return answer(arguments(case)).approach in case["first"] and not says_what_does_not_fit(case)


def is_harmful(case):
    return answer(arguments(case)).approach in case["harmful"] or says_what_does_not_fit(case)


halves = pytest.mark.parametrize("name", ["held_out_tune", "held_out_check"])
LEAST = 18
"""Of 20: 92% and more."""


@halves
def test_nine_of_ten_first_steps_are_acceptable(name):
    assert sum(map(is_first_acceptable, half(name))) >= LEAST


@halves
def test_nine_of_ten_verdicts_are_acceptable(name):
    assert sum(map(are_verdicts_right, half(name))) >= LEAST


@halves
def test_no_first_step_does_damage(name):
    assert [case["id"] for case in half(name) if is_harmful(case)] == []


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_a_concise_report_of_a_held_out_case_stays_short(case):
    assert tokens(answer(arguments(case))) <= MOST_TOKENS


def test_there_are_forty_cases_in_two_halves():
    assert len(half("held_out_tune")) == len(half("held_out_check")) == 20


def main():
    for name in ("held_out_tune", "held_out_check"):
        cases = half(name)
        firsts = sum(map(is_first_acceptable, cases))
        agreed = sum(map(are_verdicts_right, cases))
        harm = [case["id"] for case in cases if is_harmful(case)]
        sys.stdout.write(
            f"{name}: first {firsts} of {len(cases)}, verdicts {agreed}, harm {harm}\n"
        )
    for case in CASES:
        report = answer(arguments(case))
        missed = [] if is_first_acceptable(case) else ["first"]
        missed += [] if are_verdicts_right(case) else ["verdicts"]
        if missed:
            path = [step.approach for step in report.path]
            given = {each.approach: each.verdict for each in report.verdicts}
            sys.stdout.write(
                f"  {case['id']} {missed} {report.row} {path} {given} "
                f"wanted {case['first']} {case['verdicts']}\n"
            )


if __name__ == "__main__":
    main()
