"""Eighty situations of public threads: first step, path, verdicts, questions and size.

`python -m tests.unit.test_approach_threads` prints what is not acceptable, by half.
"""

import json
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

from ft_tools.approach.request import ApproachRequest
from ft_tools.approach.tool import recommend_approach
from ft_tools.contract import without_empty

CASES = tomllib.loads(Path(__file__).with_name("scenarios_threads.toml").read_text())["cases"]
IDS = [case["id"] for case in CASES]
ACCEPTABLE = 0.92
CHARACTERS_PER_TOKEN = 4
MOST_TOKENS = 900
MOST_QUESTIONS = 2
SETTLED_BY_TWO = 0.9


def half(name):
    return [case for case in CASES if case["half"] == name]


@cache
def _answer(arguments):
    return recommend_approach(ApproachRequest.model_validate_json(arguments))


def answer(arguments):
    return _answer(json.dumps(arguments, sort_keys=True))


def is_first_acceptable(case):
    return answer(case["request"]).approach in case["first"]


def are_verdicts_acceptable(case):
    given = {each.approach: each.verdict for each in answer(case["request"]).verdicts}
    return all(given[asked] in wanted for asked, wanted in case["verdicts"].items())


def is_path_acceptable(case):
    taken = iter([step.approach for step in answer(case["request"]).path])
    return all(any(step in wanted for step in taken) for wanted in case["path"])


def questions_needed(case):
    """Ask as the report does, answer from the source, until nothing known changes the first step.

    A question that the source cannot answer counts, too.
    """
    everything = answer(case["request"] | case["answers"]).approach
    known = dict(case["request"])
    asked = set()
    while answer(known).approach != everything:
        question = next((q.field for q in answer(known).questions if q.field not in asked), None)
        if question is None:
            return None
        asked.add(question)
        if question in case["answers"]:
            known[question] = case["answers"][question]
    return len(asked)


def tokens(report):
    text = json.dumps(without_empty(report.model_dump(mode="json")))
    return len(text) / CHARACTERS_PER_TOKEN


def share(name, judge):
    return sum(map(judge, half(name))) / len(half(name))


@pytest.mark.parametrize("name", ["tune", "check"])
def test_first_steps_of_public_threads_are_acceptable(name):
    assert share(name, is_first_acceptable) >= ACCEPTABLE


@pytest.mark.parametrize("name", ["tune", "check"])
def test_verdicts_on_what_the_threads_ask_are_acceptable(name):
    assert share(name, are_verdicts_acceptable) >= ACCEPTABLE


@pytest.mark.parametrize("name", ["tune", "check"])
def test_paths_of_public_threads_are_acceptable(name):
    assert share(name, is_path_acceptable) >= ACCEPTABLE


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_no_first_step_does_damage(case):
    assert answer(case["request"]).approach not in case["harmful"]


def test_two_questions_settle_nine_of_ten_situations():
    needed = [questions_needed(case) for case in CASES]
    settled = [each for each in needed if each is not None and each <= MOST_QUESTIONS]

    assert len(settled) / len(CASES) >= SETTLED_BY_TWO


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_a_concise_report_stays_under_nine_hundred_tokens(case):
    assert tokens(answer(case["request"])) <= MOST_TOKENS


def test_there_are_eighty_cases_in_two_halves_each_from_an_address_of_its_own():
    assert len(CASES) == 80
    assert len(half("tune")) == len(half("check")) == 40
    assert len({case["source"] for case in CASES}) == 80
    assert all(case["source"].startswith("https://") for case in CASES)


def _print_misses():
    for name in ("tune", "check"):
        for judge in (is_first_acceptable, are_verdicts_acceptable, is_path_acceptable):
            sys.stdout.write(f"{name} {judge.__name__} {share(name, judge):.0%}\n")
        for case in half(name):
            report = answer(case["request"])
            missed = [
                word
                for word, judge in (
                    ("first", is_first_acceptable),
                    ("verdicts", are_verdicts_acceptable),
                    ("path", is_path_acceptable),
                )
                if not judge(case)
            ]
            if report.approach in case["harmful"]:
                missed.append("HARMFUL")
            if missed:
                path = [step.approach for step in report.path]
                given = {each.approach: each.verdict for each in report.verdicts}
                sys.stdout.write(f"  {case['id']} {missed} {report.row} {path} {given}\n")
    needed = {case["id"]: questions_needed(case) for case in CASES}
    late = {key: value for key, value in needed.items() if value is None or value > 2}
    sys.stdout.write(f"questions {1 - len(late) / len(CASES):.0%} settled by two; others {late}\n")
    longest = sorted((tokens(answer(case["request"])), case["id"]) for case in CASES)
    sys.stdout.write(f"tokens median {longest[40][0]:.0f}, longest {longest[-5:]}\n")


if __name__ == "__main__":
    _print_misses()
