"""Changes of questions: what was changed, that nothing else was, and which answer is expected."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ft_tools.formats.variations import Variation, vary

ASKED = (
    "Please send a technician to Main Street 5 in Oslo, because the water pump of 2019 has not "
    "worked since Monday and nobody answers the telephone."
)
ANSWER = '{"street": "Main Street 5", "town": "Oslo", "urgent": true}'
REPEATED = {"main", "street", "5", "oslo"}


def varied(question=ASKED, answer=ANSWER, seed=0, row=None, **change):
    return vary(Variation(**change), question, answer, row, seed)


def words(text):
    return re.findall(r"\w+", text)


def num_edits(one, other):
    """Return how many letters are dropped, added, replaced, or swapped with their neighbour."""
    rows = [list(range(len(other) + 1))]
    for i, a in enumerate(one, 1):
        row = [i]
        for j, b in enumerate(other, 1):
            row.append(min(rows[-1][j] + 1, row[-1] + 1, rows[-1][j - 1] + (a != b)))
            if i > 1 and j > 1 and (a, b) == (other[j - 2], one[i - 2]):
                row[j] = min(row[j], rows[-2][j - 2] + 1)
        rows.append(row)
    return rows[-1][-1]


@pytest.mark.parametrize("rate", [0.02, 0.1, 0.2])
@pytest.mark.parametrize("seed", range(12))
def test_as_many_letters_are_misspelt_as_was_asked_and_nothing_else(rate, seed):
    found = varied(change="typing_errors", rate=rate, seed=seed)
    num = round(rate * sum(c.isalpha() for c in ASKED))
    # Two errors may cancel or look like one; they never add to more than were made.
    assert num - 1 <= num_edits(ASKED, found.question) <= num
    letters = r"[^\W\d_]"
    assert re.sub(letters, "", found.question) == re.sub(letters, "", ASKED)
    # What the answer repeats stands as it stood.
    assert {word.lower() for word in words(found.question)} >= REPEATED
    assert found.answer == ANSWER


def test_words_of_the_answer_are_misspelt_only_where_that_is_asked_for():
    plain = varied("Oslo", '{"town": "Oslo"}', change="typing_errors", rate=0.3)
    every = varied("Oslo", '{"town": "Oslo"}', change="typing_errors", rate=0.3, answer_words=True)
    assert plain is None
    assert num_edits("Oslo", every.question) == 1
    assert every.answer == '{"town": "Oslo"}'


def test_the_end_is_cut_by_words_and_never_what_the_answer_repeats():
    found = varied(change="cut_end", rate=0.2)
    kept = len(words(ASKED)) - round(0.2 * len(words(ASKED)))
    assert ASKED.startswith(found.question)
    assert len(words(found.question)) == kept
    assert varied("Where is the lamp? Send it to Oslo", change="cut_end", rate=0.2) is None
    assert varied("Where?", "In Bergen", change="cut_end", rate=0.9) is None


def test_a_value_is_swapped_in_question_and_answer_alike():
    swap = {"change": "swapped_values", "values": ["Elm Road 7", "Main Street 5"]}
    found = varied(field="street", **swap)
    assert found.question == ASKED.replace("Main Street 5", "Elm Road 7")
    assert json.loads(found.answer) == json.loads(ANSWER) | {"street": "Elm Road 7"}
    assert found.swapped == ("Main Street 5", "Elm Road 7")
    # A field of the row, and an answer that is a text.
    by_row = varied("Is Ola in? Olaf asks.", "Ola is out.", row={"who": "Ola"}, field="who",
                    change="swapped_values", values=["Kari"])  # fmt: skip
    assert (by_row.question, by_row.answer) == ("Is Kari in? Olaf asks.", "Kari is out.")
    number = varied("Add 17 and 170.", '{"n": 17}', change="swapped_values", field="n", values=[18])
    assert (number.question, number.answer) == ("Add 18 and 170.", '{"n": 18}')
    # What is not said word for word, or has no other value, is left as it is.
    assert varied("Where?", field="street", **swap) is None
    assert varied(change="swapped_values", field="town", values=["Oslo"]) is None
    assert varied(change="swapped_values", field="urgent", values=["no"]) is None


CHANGES = [
    {"change": "typing_errors", "rate": 0.1}, {"change": "case"}, {"change": "cut_end"},
    {"change": "spacing", "rate": 0.5}, {"change": "injected_order"},
    {"change": "swapped_values", "field": "a", "values": ["x", "y z", 3]},
]  # fmt: skip


@given(st.text(max_size=60), st.text(max_size=20), st.integers(0, 5), st.sampled_from(CHANGES))
def test_the_same_seed_gives_the_same_change_of_any_text(question, value, seed, change):
    answer = json.dumps({"a": value})
    first = varied(f"{question} {value}", answer, seed, **change)
    assert first == varied(f"{question} {value}", answer, seed, **change)
    if first is not None and first.swapped is None:
        assert first.answer == answer
