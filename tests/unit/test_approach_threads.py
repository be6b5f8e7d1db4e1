"""Eighty situations of public threads: first step, path, verdicts, questions and size.

Each is asked twice: with the arguments of the author of the cases, and with those of a second
person who had only the situation's words and the request's schema (`blind`).

`python -m tests.unit.test_approach_threads` prints the shares by half, and what is not acceptable.
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


def is_first_acceptable(case, arguments="request"):
    return answer(case[arguments]).approach in case["first"]


def are_verdicts_acceptable(case, arguments="request"):
    """Judge each verdict on what the case asks about, as far as the arguments ask about it."""
    given = {each.approach: each.verdict for each in answer(case[arguments]).verdicts}
    asked = case["verdicts"].keys() if arguments == "request" else case["verdicts"].keys() & given
    return all(given[each] in case["verdicts"][each] for each in asked)


def is_path_acceptable(case, arguments="request"):
    taken = iter([step.approach for step in answer(case[arguments]).path])
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


def after_two_answers(case):
    """Return the first step for the blind arguments after two questions, answered by the source."""
    source = case["request"] | case["answers"]
    known = dict(case["blind"])
    asked = set()
    for _ in range(MOST_QUESTIONS):
        question = next((q.field for q in answer(known).questions if q.field not in asked), None)
        if question is None:
            break
        asked.add(question)
        known |= {question: source[question]} if question in source else {}
    return answer(known).approach


def tokens(report):
    text = json.dumps(without_empty(report.model_dump(mode="json")))
    return len(text) / CHARACTERS_PER_TOKEN


def share(name, judge, arguments="request"):
    return sum(judge(case, arguments) for case in half(name)) / len(half(name))


halves = pytest.mark.parametrize("name", ["tune", "check"])
translations = pytest.mark.parametrize("arguments", ["request", "blind"])


@translations
@halves
def test_first_steps_of_public_threads_are_acceptable(name, arguments):
    assert share(name, is_first_acceptable, arguments) >= ACCEPTABLE


@translations
@halves
def test_verdicts_on_what_the_threads_ask_are_acceptable(name, arguments):
    assert share(name, are_verdicts_acceptable, arguments) >= ACCEPTABLE


@translations
@halves
def test_paths_of_public_threads_are_acceptable(name, arguments):
    assert share(name, is_path_acceptable, arguments) >= ACCEPTABLE


@translations
@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_no_first_step_does_damage(case, arguments):
    assert answer(case[arguments]).approach not in case["harmful"]


def test_two_questions_settle_nine_of_ten_situations():
    needed = [questions_needed(case) for case in CASES]
    settled = [each for each in needed if each is not None and each <= MOST_QUESTIONS]

    assert len(settled) / len(CASES) >= SETTLED_BY_TWO


def test_after_two_answers_nine_of_ten_blind_first_steps_are_acceptable_and_none_does_damage():
    reached = [(after_two_answers(case), case) for case in CASES]

    assert sum(step in case["first"] for step, case in reached) / len(CASES) >= SETTLED_BY_TWO
    assert not [case["id"] for step, case in reached if step in case["harmful"]]


@translations
@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_a_concise_report_stays_under_nine_hundred_tokens(case, arguments):
    assert tokens(answer(case[arguments])) <= MOST_TOKENS


def test_there_are_eighty_cases_in_two_halves_each_from_an_address_of_its_own():
    assert len(CASES) == 80
    assert len(half("tune")) == len(half("check")) == 40
    assert len({case["source"] for case in CASES}) == 80
    assert all(case["source"].startswith("https://") for case in CASES)


def _print_misses(arguments):
    judges = {
        "first": is_first_acceptable,
        "verdicts": are_verdicts_acceptable,
        "path": is_path_acceptable,
    }
    for name in ("tune", "check"):
        for word, judge in judges.items():
            sys.stdout.write(f"{arguments} {name} {word} {share(name, judge, arguments):.1%}\n")
    for case in CASES:
        report = answer(case[arguments])
        missed = [word for word, judge in judges.items() if not judge(case, arguments)]
        missed += ["HARMFUL"] if report.approach in case["harmful"] else []
        if missed:
            path = [step.approach for step in report.path]
            given = {each.approach: each.verdict for each in report.verdicts}
            sys.stdout.write(f"  {case['id']} {missed} {report.row} {path} {given}\n")
    longest = sorted((tokens(answer(case[arguments])), case["id"]) for case in CASES)
    sys.stdout.write(f"tokens median {longest[40][0]:.0f}, longest {longest[-3:]}\n")


if __name__ == "__main__":
    for translation in ("request", "blind"):
        _print_misses(translation)
    settled = [n for n in map(questions_needed, CASES) if n is not None and n <= MOST_QUESTIONS]
    reached = [after_two_answers(case) in case["first"] for case in CASES]
    sys.stdout.write(f"settled by two questions {len(settled) / len(CASES):.1%}; ")
    sys.stdout.write(f"blind, acceptable after two answers {sum(reached) / len(CASES):.1%}\n")
