"""What the search for near-duplicates by words, leaks and conflicts removes, notes and says."""

import random

import pytest

from ft_tools.data.audit import perform
from ft_tools.data.pipeline import Methods
from ft_tools.data.read.ledger import Ledger
from ft_tools.data.repeats.near import find_lexical
from ft_tools.data.request import AuditRequest
from ft_tools.errors import BadData
from ft_tools.similarity import words
from ft_tools.similarity.by_words import Lexical
from ft_tools.similarity.word_hashes import tokens_in
from ft_tools.similarity.words import ANSWER, NUM_PARTS, PROMPT
from tests.unit.jsonl import write

WORDS = [f"{a}{b}" for a in ("lo", "mi", "ra", "te", "su", "ka", "bo") for b in "bcdfghjklmnprst"]


def text(numbers, count):
    return " ".join(numbers.choices(WORDS, k=count))


@pytest.fixture
def audit(workspace):
    def run(rows, validation=None, means=None, **arguments):
        write(workspace / "d.jsonl", rows)
        if validation is not None:
            write(workspace / "v.jsonl", validation)
            arguments["validation_path"] = "v.jsonl"
        return perform(AuditRequest(path="d.jsonl", response_format="detailed", **arguments), means)

    return run


def lines_of(report, finding):
    return next((f.rows for f in report.findings if f.id == finding and not f.in_validation), [])


def said(report, part):
    return [note for note in report.assumptions if part in note]


# Templates


@pytest.fixture
def templated():
    numbers = random.Random(0)
    template = text(numbers, 100)
    return [
        {
            "prompt": f"{template} {text(numbers, 10)}",
            "completion": numbers.choice(["positive", "negative"]),
        }
        for _ in range(1000)
    ]


def test_a_template_does_not_make_different_examples_near_but_copies_are(audit, templated):
    report = audit(templated, output_dir="out")
    assert report.duplicates.num_near == 0
    assert (report.outputs.num_train, report.outputs.num_validation) == (900, 100)
    double = templated[3] | {"prompt": templated[3]["prompt"].upper()}
    assert lines_of(audit([*templated, double]), "near_duplicate") == [1001]


def test_the_search_names_what_comparing_every_pair_names(monkeypatch):
    """The definition, one pair at a time, on examples of which many are near one another."""
    monkeypatch.setattr(words, "MIN_SHARED", 20)
    numbers = random.Random(1)
    template = text(numbers, 12)
    ledger = Ledger(with_pairs=True)
    made = []
    for _ in range(200):
        if made and numbers.random() < 0.6:
            prompt, answer = (t.split() for t in numbers.choice(made))
            for part in (prompt, answer):
                part[numbers.randrange(len(part))] = numbers.choice(WORDS)
            prompt, answer = " ".join(prompt), " ".join(answer)
        else:
            prompt, answer = text(numbers, 25), text(numbers, 25)
            if numbers.random() < 0.5:
                prompt = f"{template} {prompt}"
        made.append((prompt, answer))
        ledger._add(len(made), [1, 2, 3, 0, 5], 1, 1, "", None)
        ledger.add_words(tokens_in([prompt, answer, ""]))
    search = Lexical(ledger)
    assert search.shared

    def sets(at):
        prompt, answer = (set(ledger.pairs.of(NUM_PARTS * at + p)) for p in (PROMPT, ANSWER))
        return prompt, prompt - search.shared or prompt, answer

    expected, kept = {}, []
    for at in range(len(made)):
        for other in kept:
            if min(map(words.jaccard, sets(at), sets(other))) >= 0.8:
                expected[at] = other
                break
        else:
            kept.append(at)
    assert {at: twin for at, twin, _ in search.near("prompt_and_response")} == expected
    assert 20 < len(expected) < 180


# Limits


def alike(count):
    numbers = random.Random(0)
    same = text(numbers, 40)
    return [{"prompt": f"{same} {text(numbers, 3)}", "completion": f"{at}"} for at in range(count)]


@pytest.mark.parametrize(("most_work", "stops"), [(2_000, True), (words.MAX_WORK, False)])
def test_the_search_stops_by_the_work_that_it_does_and_says_where(audit, most_work, stops):
    means = Methods(find_near=lambda *asked: find_lexical(*asked, most_work=most_work))
    report = audit(alike(40), means=means)
    notes = said(report, "the search for near-duplicates stopped after 2,000 word pairs")
    assert bool(notes) == stops
    assert all("near_duplicates='semantic'" in note for note in notes)


# Signs


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x = -2", "x = 2"),
        ("<", ">"),
        ("In C", "In C++"),
        ("In C#", "In C++"),
        ("\U0001f600", "\U0001f622"),
        ("!!!", "???"),
    ],
)
def test_a_sign_that_differs_is_a_difference(audit, one, other):
    numbers = random.Random(0)
    asked = text(numbers, 30)
    rows = [{"prompt": asked, "completion": one}, {"prompt": f"{asked}.", "completion": other}]
    rows += [{"prompt": text(numbers, 9), "completion": text(numbers, 9)} for _ in range(10)]
    assert lines_of(audit(rows), "near_duplicate") == []
    rows[1]["completion"] = one
    assert lines_of(audit(rows), "near_duplicate") == [2]


# Preferences

ASKED = "Tell me what the weather at the lake was like on the second day of the last summer holiday"
GOOD = "It was warm in the morning and there was a storm over the hills in the late afternoon"
BAD = "I do not know anything about that lake and I would rather talk about something else now"
WORSE = "Why do you want to know such a thing at all when you could look out of the window today"


def others(row):
    """Return examples that have nothing to do with it."""
    numbers = random.Random(0)
    return [{name: text(numbers, 12) for name in row} for _ in range(12)]


def pair(chosen, rejected, prompt=ASKED):
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def marked(answer, label, prompt=ASKED):
    return {"prompt": prompt, "completion": answer, "label": label}


MARKED = [marked(GOOD, True), marked(BAD, False), marked(GOOD, False), marked(f"{GOOD}.", True)]


@pytest.mark.parametrize(
    ("rows", "near", "conflicting"),
    [
        ([pair(GOOD, BAD), pair(GOOD, WORSE), pair(GOOD, f"{BAD}!", f"{ASKED}?")], [3], []),
        ([pair(GOOD, BAD), pair(BAD, GOOD), pair(GOOD, WORSE)], [], [1, 2]),
        (MARKED, [4], [1, 3]),
        (MARKED[:2], [], []),
    ],
)
def test_pairs_and_marks_are_twins_with_the_same_other_side_and_conflict_if_reversed(
    audit, rows, near, conflicting
):
    extra = others(rows[0])
    if "label" in rows[0]:
        extra = [row | {"label": at % 2 == 0} for at, row in enumerate(extra)]
    report = audit([*rows, *extra])
    assert lines_of(report, "near_duplicate") == near
    assert lines_of(report, "conflicting_targets") == conflicting


def test_a_near_copy_of_a_validation_pair_leaks_whatever_its_rejected_answer_or_mark(audit):
    report = audit(
        [pair(GOOD, WORSE, f"{ASKED} there"), *others(pair("", ""))], validation=[pair(GOOD, BAD)]
    )
    assert lines_of(report, "validation_leak") == [1]
    extra = [row | {"label": at % 2 == 0} for at, row in enumerate(others(marked("", True)))]
    report = audit([marked(GOOD, False, f"{ASKED} there"), *extra], validation=[marked(GOOD, True)])
    assert lines_of(report, "validation_leak") == [1]


# Leaks


def chat(*texts, system=None):
    roles = ("user", "assistant") * len(texts)
    turns = [{"role": r, "content": t} for r, t in zip(roles, texts, strict=False)]
    return {"messages": [{"role": "system", "content": system}, *turns] if system else turns}


def chats(count, system=None):
    numbers = random.Random(2)
    return [chat(text(numbers, 12), text(numbers, 12), system=system) for _ in range(count)]


def test_a_leak_is_found_whatever_the_system_says(audit):
    rows = [chat(ASKED, BAD, system="Be brief."), *chats(12)]
    for system in (None, "Be polite."):
        report = audit(rows, validation=[chat(ASKED, GOOD, system=system)])
        assert lines_of(report, "validation_leak") == [1]


def test_a_validation_file_that_is_not_read_is_refused_and_one_without_use_is_said(audit):
    """With no example in it no leak is found, and the data would be called clean."""
    rows = chats(12)
    with pytest.raises(BadData, match=r"v.jsonl:1: no row is an example \(unknown_format\)"):
        audit(rows, validation=[{"frage": "Wo?", "antwort": "Hier."}])
    own = [{"frage": f"Wo ist {at}?", "antwort": "Hier."} for at in range(12)]
    mapping = {"prompt": "{frage}", "answer": ["antwort"]}
    with pytest.raises(BadData, match="must fit its columns as well as those of the data"):
        audit(own, validation=rows, mapping=mapping)
    with pytest.raises(BadData, match="empty"):
        audit(rows, validation=[])
    report = audit(rows, validation=[pair(GOOD, BAD)])
    assert said(report, "no example of the validation file can be used")
    assert not said(audit(rows, validation=chats(1)), "validation file")


def test_the_first_exchange_of_a_longer_conversation_is_a_leak_either_way(audit):
    longer = chat(ASKED, GOOD, "And the day after?", BAD)
    report = audit([chat(ASKED, WORSE), *chats(12)], validation=[longer])
    assert lines_of(report, "validation_leak") == [1]
    report = audit([longer, *chats(12)], validation=[chat(ASKED, WORSE)])
    assert lines_of(report, "validation_leak") == [1]


@pytest.mark.parametrize(
    ("second", "is_removed"),
    [
        (("Add 1207 to it", "so it holds 3514 in the end"), False),
        (("Add 1207 to it", "so it holds 3413 in the end"), True),
        (("Add 1106 to it", "so it holds 3514 in the end"), True),
    ],
)
def test_a_row_with_another_number_and_another_result_is_no_near_duplicate(
    audit, second, is_removed
):
    numbers = random.Random(3)
    task, way = text(numbers, 30), text(numbers, 30)
    first = ("Add 1106 to it", "so it holds 3413 in the end")
    rows = [
        {"prompt": f"{task} {asks}", "completion": f"{way} {answers}"}
        for asks, answers in (first, second)
    ]
    rows += [{"prompt": text(numbers, 30), "completion": text(numbers, 30)} for _ in range(10)]
    report = audit(rows, near_duplicates="lexical", max_removed_fraction=1.0)
    assert lines_of(report, "near_duplicate") == ([2] if is_removed else [])
    assert lines_of(report, "alike_but_for_numbers") == ([] if is_removed else [2])
