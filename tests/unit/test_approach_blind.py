"""Fifty situations that one person collected and two others translated; all tuned on by now.

`python -m tests.unit.test_approach_blind` prints what is not acceptable.
"""

import sys
import tomllib
from pathlib import Path

import pytest

from tests.unit.test_approach_threads import (
    MOST_TOKENS,
    answer,
    are_verdicts_acceptable,
    is_first_acceptable,
    tokens,
)

CASES = tomllib.loads(Path(__file__).with_name("scenarios_blind.toml").read_text())["cases"]
LEAST = {"tune": (25, 21), "check": (24, 23)}
"""Acceptable first steps and verdicts as measured: neither half may get worse."""


def half(name):
    return [case for case in CASES if case["half"] == name]


def is_first_right(case):
    return is_first_acceptable(case, "blind")


def are_verdicts_right(case):
    return are_verdicts_acceptable(case, "blind")


halves = pytest.mark.parametrize("name", ["tune", "check"])


@halves
def test_no_fewer_first_steps_are_acceptable_than_were_measured(name):
    assert sum(map(is_first_right, half(name))) >= LEAST[name][0]


@halves
def test_no_fewer_verdicts_are_acceptable_than_were_measured(name):
    proposing = [case for case in half(name) if case["verdicts"]]

    assert sum(map(are_verdicts_right, proposing)) >= LEAST[name][1]


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_a_concise_report_of_each_situation_is_short(case):
    assert tokens(answer(case["blind"])) <= MOST_TOKENS


def test_there_are_fifty_situations_each_with_a_source_of_its_own():
    assert len({case["source"] for case in CASES}) == len(CASES) == 50


if __name__ == "__main__":
    for case in CASES:
        if not (is_first_right(case) and are_verdicts_right(case)):
            report = answer(case["blind"])
            given = {each.approach: each.verdict for each in report.verdicts}
            sys.stdout.write(f"{case['id']} {case['half']}: {report.approach}, {given}\n")
