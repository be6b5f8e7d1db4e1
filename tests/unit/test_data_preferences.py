"""What tells chosen from rejected is measured on the pairs that can be trained on."""

import json
import random

import pytest

from ft_tools.data.audit import perform
from ft_tools.data.request import AuditRequest

WORDS = [
    "river",
    "stone",
    "cloud",
    "paper",
    "engine",
    "glass",
    "market",
    "garden",
    "window",
    "sailor",
    "copper",
    "silver",
]


@pytest.fixture
def found(workspace):
    def run(sides, *, marked=False):
        rows = [
            {"prompt": asked, "chosen": chosen, "rejected": rejected}
            for asked, (chosen, rejected) in zip(answers(len(sides), 9), sides, strict=True)
        ]
        if marked:
            rows = [
                {"prompt": f"{row['prompt']} {side}", "completion": row[side], "label": is_good}
                for side, is_good in (("chosen", True), ("rejected", False))
                for row in rows
            ]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (workspace / "d.jsonl").write_text(lines, encoding="utf-8")
        report = perform(AuditRequest(path="d.jsonl", near_duplicates="off"))
        return {finding.id: finding.count for finding in report.findings}

    return run


def answers(count, num_words=20):
    numbers = random.Random(num_words)
    return [" ".join(numbers.choices(WORDS, k=num_words)) for _ in range(count)]


def test_longer_chosen_answers_are_a_bias(found):
    sides = list(zip(answers(60, 40), answers(60), strict=True))
    assert found(sides) == {"length_bias": 60}


@pytest.mark.parametrize("marked", [False, True])
def test_a_sign_that_all_good_answers_end_with_is_a_bias(found, marked):
    sides = list(zip(answers(60), reversed(answers(60)), strict=True))
    assert found([(f"{good}.", f"{bad}.") for good, bad in sides], marked=marked) == {}
    signs = found([(f"{good}!", f"{bad}.") for good, bad in sides], marked=marked)
    assert signs == {"lexical_bias": 60}


def test_longer_answers_that_are_marked_as_good_are_a_bias(found):
    sides = list(zip(answers(60, 40), answers(60), strict=True))
    assert found(sides, marked=True) == {"length_bias": 60}


def test_an_answer_that_is_not_there_is_no_shorter_one(found):
    sides = zip(answers(60), reversed(answers(60)), strict=True)
    broken = [(chosen, "" if at % 3 == 0 else rest) for at, (chosen, rest) in enumerate(sides)]
    assert found(broken) == {"empty_answer": 20}


def test_pairs_of_one_text_do_not_hide_that_the_others_differ_in_length(found):
    sides = list(zip(answers(60, 40), answers(60), strict=True))
    same = [(answer, answer) for answer in answers(540, 30)]
    assert found(sides + same) == {"identical_pair": 540, "length_bias": 60}
