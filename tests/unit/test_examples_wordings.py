"""Prompts that were filled into few templates are told from those that people worded."""

import random

import pytest

from ft_tools import abandoned_calls
from ft_tools.errors import Abandoned
from ft_tools.formats.wordings import (
    MIN_PROMPTS,
    MOST_CHARS,
    Wordings,
    templated_fraction,
    wordings_of,
    words_in,
)

ITEMS = ["kettle", "router", "ladder", "bike helmet", "printer", "headset"]
TEMPLATES = [
    "Hello, the {} makes a loud noise after the update. Order {}.",
    "Why is there an extra fee on the bill for my {}? Order number {}.",
    "Good morning, the parcel with the {} was left in the rain. Order {}.",
]
INSTRUCTION = "Sort the customer message into one of these teams: billing, technical, delivery.\n"


def has_few_wordings(prompts):
    drawn = Wordings()
    for prompt in prompts:
        drawn.add(prompt)
    return bool(drawn.findings())


def filled(count):
    return [TEMPLATES[at % 3].format(ITEMS[at % 6], 1000 + at) for at in range(count)]


def worded(count):
    dice = random.Random(5)
    words = ["".join(dice.choices("abcdefghij", k=5)) for _ in range(400)]
    return [" ".join(dice.choices(words, k=15)) for _ in range(count)]


def test_filled_templates_are_few_wordings_and_own_words_are_not():
    assert templated_fraction(filled(MIN_PROMPTS)) == 1.0
    assert templated_fraction(worded(MIN_PROMPTS)) == 0.0
    assert not has_few_wordings(filled(MIN_PROMPTS - 1))


LONG = INSTRUCTION * (1 + MOST_CHARS // len(INSTRUCTION))


@pytest.mark.parametrize(("made", "few"), [(filled, True), (worded, False)])
@pytest.mark.parametrize("prompt", [f"{INSTRUCTION}%s", f"{LONG}%s", f"%s\n{LONG}"])
def test_an_instruction_that_all_prompts_share_changes_nothing(made, few, prompt):
    assert has_few_wordings([prompt % own for own in made(60)]) is few


def test_the_wordings_behind_a_long_instruction_are_told_apart():
    found = wordings_of([words_in(LONG + one) for one in filled(60)])
    assert found == wordings_of([words_in(one) for one in filled(60)])
    assert len(set(found)) == len(TEMPLATES)


def test_a_common_ending_does_not_tie_rows_of_rare_templates_together():
    rare = ["Two screws of my {} are bent.", "Nobody answers the phone about the {}."]
    prompts = filled(60) + [one.format(item) for one in rare for item in ITEMS[:2]]
    ending = "Whenever you have the time."
    found = wordings_of(
        [words_in(f"{one} {ending}" if at % 2 else one) for at, one in enumerate(prompts)]
    )
    assert set(found[:60]) == {1, 2, 3}
    assert set(found[60:]) == {0}


def test_no_wordings_are_looked_for_when_nobody_waits():
    call = abandoned_calls.Call()
    call.abandon()
    with abandoned_calls.waiting(call), pytest.raises(Abandoned):
        wordings_of([words_in(one) for one in filled(60)])


@pytest.mark.parametrize(("num_filled", "few"), [(79, False), (80, True)])
def test_four_in_five_are_most(num_filled, few):
    assert has_few_wordings(filled(num_filled) + worded(100 - num_filled)) is few


def test_short_inputs_of_their_own_below_one_instruction_are_no_templates():
    assert not has_few_wordings([INSTRUCTION + " ".join(w.split()[:2]) for w in worded(60)])
