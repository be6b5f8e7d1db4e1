"""Which answers tell facts that their prompts do not contain."""

import pytest

from ft_tools.data.judge.new_information import AddedFacts, is_mostly_new

FACTS = [
    ("Who runs the depot in the north?", "It is run by Ada Moreno since 2011."),
    ("What is the part number of the hinge?", "It is HX-2040, made by Brandt in Oslo."),
    ("When does the night tariff apply?", "It applies from 22:00 to 06:00, since March 2019."),
]
NO_FACTS = [
    ("Summarize: Ada Moreno runs the depot since 2011.", "The depot is run by Ada Moreno (2011)."),
    ("Rewrite politely: send it now", "Could you please send it when you have a moment?"),
    ("Sort the mail: where is my parcel?", "shipping"),
    ("Tom has 12 boxes of 34 pens. How many pens?", "12 * 34 = 408, so Tom has 408 pens."),
    ("Write a function that adds", "```python\ndef add(first, second):\n    return 1987\n```"),
    ("Write C that counts up", "count = 1987;\r\nprint(count, 2011);\r\n"),
    ("Extract: Order A-4711 of 12 May, 99.50 EUR", '{"order": "A-4711", "total": "99.50"}'),
]


@pytest.mark.parametrize(("prompt", "answer"), FACTS)
def test_an_answer_with_facts_that_were_not_given_is_new_information(prompt, answer):
    assert is_mostly_new(prompt, answer)


@pytest.mark.parametrize(("prompt", "answer"), NO_FACTS)
def test_an_answer_from_the_prompt_a_calculation_or_a_program_is_none(prompt, answer):
    assert not is_mostly_new(prompt, answer)


@pytest.mark.parametrize(("cases", "found"), [(FACTS, True), (NO_FACTS, False)])
def test_a_file_is_named_if_most_of_its_answers_are_new(cases, found):
    added = AddedFacts()
    for prompt, answer in cases * 10:
        added.add(prompt, answer, "en")

    assert added.findings() == ([("answers_add_facts", 30)] if found else [])
