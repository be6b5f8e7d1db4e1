"""Whole wordings are held out where prompts follow few templates."""

import csv
import json
import random
from pathlib import Path

import pytest

from ft_tools.data.prepare.decision_notes import about_test_rows
from ft_tools.data.prepare.request import PrepareRequest
from ft_tools.data.prepare.tool import prepare_dataset
from ft_tools.data.read.ledger import Ledger
from ft_tools.data.request import AuditRequest
from ft_tools.data.tool import audit_dataset
from ft_tools.data.whole_wordings import validation_part
from ft_tools.formats.example import Example
from ft_tools.similarity.word_hashes import tokens_in

ITEMS = [
    "kettle",
    "router",
    "ladder",
    "helmet",
    "printer",
    "headset",
    "mattress",
    "camera",
    "sofa",
    "drill",
]
ENDS = ["", " I need it solved today.", " Whenever you have the time.", " Thank you all so much."]
TEMPLATES = {
    "delivery": [
        "The {} that I ordered two weeks ago has still not arrived at my door.",
        "Your courier left my {} with a neighbour who says she never got it.",
        "The tracking page of my {} has shown the same depot since Monday.",
    ],
    "billing": [
        "I was charged twice for one {} and want the second payment back.",
        "Why is there a fee on the invoice of the {} that nobody told me about?",
        "The discount code was not applied when I paid for the {} last night.",
    ],
    "technical": [
        "The {} stopped working after a day, the light on the front just blinks.",
        "How do I connect the {} to the app on my phone, it never finds it.",
        "After the update my {} makes a loud noise and then switches itself off.",
    ],
}


def write_tickets(path, templates, count=240):
    chance = random.Random(3)
    all_of = [(said, team) for team, every in templates.items() for said in every]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "team", "urgency"])
        for at in range(count):
            said, team = all_of[at % len(all_of)]
            text = said.format(chance.choice(ITEMS)) + chance.choice(ENDS)
            writer.writerow([f"Ticket {at}: {text}", team, chance.choice(["low", "high"])])


def prepared(workspace, **changed):
    request = PrepareRequest(path="t.csv", output_dir="out", **changed)
    proposal = prepare_dataset(request)
    made = prepare_dataset(request.model_copy(update={"confirm": proposal.mapping_hash}))
    return proposal, made


def rows_of(path):
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["messages"] for line in lines]


def templates_in(path):
    texts = [said for every in TEMPLATES.values() for said in every]
    found = set()
    for *_, asked, _ in rows_of(path):
        for said in texts:
            start, end = said.split("{}")
            if start in asked["content"] and end in asked["content"]:
                found.add(said)
    return found


def teams_in(path):
    return {json.loads(answered["content"])["team"] for *_, answered in rows_of(path)}


def test_no_wording_of_a_held_out_part_is_trained_and_each_class_is_in_both(workspace):
    write_tickets(workspace / "t.csv", TEMPLATES)
    proposal, made = prepared(workspace, validation_fraction=0.2)
    parts = made.outputs
    trained = templates_in(parts.train)
    assert not trained & templates_in(parts.test)
    assert not trained & templates_in(parts.validation)
    assert teams_in(parts.train) == teams_in(parts.test) == set(TEMPLATES)
    assert proposal.counts == made.counts
    assert made.wordings == {"num_wordings": 9, "num_test": 3, "num_validation": 2}
    assert any("of 9 wordings, 3 are in the test part alone" in x for x in proposal.assumptions)
    (measuring,) = [step for step in made.next_steps if step.tool == "evaluate"]
    assert "few templates" not in measuring.why


def test_the_validation_part_is_never_of_one_wording_whose_loss_alone_would_choose(workspace):
    write_tickets(workspace / "t.csv", TEMPLATES)
    _, made = prepared(workspace)
    assert made.wordings == {"num_wordings": 9, "num_test": 3, "num_validation": 0}
    assert len(templates_in(made.outputs.validation)) > 1
    assert teams_in(made.outputs.validation) == set(TEMPLATES)
    assert not templates_in(made.outputs.test) & templates_in(made.outputs.validation)


@pytest.mark.parametrize(("near_duplicates", "alone"), [("lexical", True), ("off", False)])
def test_an_audit_holds_out_whole_wordings_for_validation_too(workspace, near_duplicates, alone):
    with (workspace / "t.jsonl").open("w", encoding="utf-8") as file:
        for at in range(240):
            team = list(TEMPLATES)[at % 3]
            said = TEMPLATES[team][at // 3 % 3].format(ITEMS[at % 10])
            turns = [("user", f"{said} Ticket {at}."), ("assistant", json.dumps({"team": team}))]
            row = {"messages": [{"role": role, "content": text} for role, text in turns]}
            file.write(json.dumps(row) + "\n")
    request = AuditRequest(path="t.jsonl", output_dir="out", validation_fraction=0.25, seed=1,
                           near_duplicates=near_duplicates, max_removed_fraction=1)  # fmt: skip
    report = audit_dataset(request)
    parts = report.outputs
    assert bool(templates_in(parts.train) & templates_in(parts.validation)) is not alone
    assert teams_in(parts.train) == set(TEMPLATES)
    assert any("wordings of prompts are in" in note for note in report.assumptions) is alone


@pytest.mark.parametrize(("fraction", "most"), [(0.3, 72), (0.99, 238)])
def test_whole_wordings_for_validation_leave_rows_to_train_on(fraction, most):
    ledger, said = Ledger(with_pairs=True), []
    for at in range(240):
        text = list(TEMPLATES.values())[at % 3][at // 3 % 3].format(ITEMS[at % 10])
        turns = [{"role": "user", "content": f"{text} Ticket {at}."}]
        turns += [{"role": "assistant", "content": f"Case {at} is with team number {at * 7}."}]
        ledger.add(Example(at, "openai_messages", "sft", turns), (0, 0), "")
        said += [turns[0]["content"], "", ""]
    ledger.add_words(tokens_in(said))
    part = validation_part(ledger, range(240), fraction, 0, few_wordings=True)
    assert (part.num_wordings > 0) is (fraction < 0.5)
    assert most / 2 <= len(part.rows) <= min(1.5 * most, 239)


def test_with_a_time_column_wordings_are_counted_and_said_to_be_in_both_parts(workspace):
    write_tickets(workspace / "t.csv", TEMPLATES)
    rows = list(csv.reader((workspace / "t.csv").read_text("utf-8").splitlines()))
    with (workspace / "t.csv").open("w", newline="", encoding="utf-8") as file:
        dated = [[*row, f"2026-01-01 {at // 60:02}:{at % 60:02}"] for at, row in enumerate(rows)]
        csv.writer(file).writerows([[*rows[0], "sent"], *dated[1:]])
    mapping = {"time_column": "sent"}
    proposal, made = prepared(workspace, mapping=mapping)
    assert made.wordings == {"num_wordings": 9, "num_test": 0, "num_validation": 0}
    assert any("(time_column takes the latest rows" in note for note in proposal.assumptions)
    (measuring,) = [step for step in made.next_steps if step.tool == "evaluate"]
    assert "few templates" in measuring.why


def test_rows_of_one_wording_are_in_both_parts_if_that_is_asked_for(workspace):
    write_tickets(workspace / "t.csv", TEMPLATES)
    _, made = prepared(workspace, near_duplicates="lexical")
    assert templates_in(made.outputs.train) == templates_in(made.outputs.test)
    assert made.wordings == {}
    (measuring,) = [step for step in made.next_steps if step.tool == "evaluate"]
    assert "few templates" in measuring.why


def test_a_class_with_one_wording_is_never_only_in_the_test_part(workspace):
    write_tickets(workspace / "t.csv", {team: every[:1] for team, every in TEMPLATES.items()})
    proposal, made = prepared(workspace)
    assert teams_in(made.outputs.train) == teams_in(made.outputs.test) == set(TEMPLATES)
    assert any("no wording can be held out whole" in note for note in proposal.assumptions)


def test_the_same_table_again_has_the_same_test_part(workspace):
    write_tickets(workspace / "t.csv", TEMPLATES)
    _, made = prepared(workspace)
    first = sorted(map(json.dumps, rows_of(made.outputs.test)))
    (workspace / "out").rename(workspace / "old")
    _, again = prepared(workspace, seed=4)
    assert sorted(map(json.dumps, rows_of(again.outputs.test))) == first


@pytest.mark.parametrize(
    ("num_rows", "num_test"), [(100, 10), (160, 40), (600, 150), (1_000, 150), (2_000, 200)]
)
def test_the_test_part_has_the_rows_that_an_evaluation_needs_up_to_a_quarter(
    workspace, num_rows, num_test
):
    chance = random.Random(1)
    words = ["".join(chance.choices("abcdefghij", k=5)) for _ in range(400)]
    with (workspace / "t.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "team"])
        for at in range(num_rows):
            writer.writerow([" ".join(chance.choices(words, k=12)), ("sales", "care")[at % 2]])
    shown = prepare_dataset(PrepareRequest(path="t.csv"))
    assert shown.counts["test"] == num_test
    assert any(note.startswith(f"{num_test} test rows, ") for note in shown.assumptions)


def test_what_a_chosen_share_shows_is_always_said():
    assert about_test_rows(150, 600)[0].startswith("150 test rows, 25% of all, show a score to")
    assert not about_test_rows(150)


def test_personal_data_is_in_the_proposal_and_rows_that_it_alone_tells_apart_are_one(workspace):
    with (workspace / "t.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "team"])
        for at in range(40):
            own = f"Please close the account number {at} that I opened" if at % 2 else "Close it"
            writer.writerow([f"{own}, my address is ada{at}@mailbox.org", ("a", "b")[at % 2]])
    shown = prepare_dataset(PrepareRequest(path="t.csv"))
    assert shown.masked == {"email": 40}
    assert shown.counts["exact_duplicate"] == 19
    kept = prepare_dataset(PrepareRequest(path="t.csv", personal_data="keep"))
    assert kept.masked == {}
    assert "exact_duplicate" not in kept.counts


OWN = [
    "Can I pay at the door",
    "My neighbour never liked your van",
    "Blue or green, which one lasts",
    "Who signs for it when nobody is home",
    "A friend told me to ask here",
]


@pytest.mark.parametrize("own", [[], OWN])
def test_wordings_that_fill_the_held_out_parts_leave_rows_to_train_on(workspace, own):
    said = [every[0] for every in TEMPLATES.values()] + [TEMPLATES["billing"][2]]
    with (workspace / "t.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["question", "answer"])
        for at in range(200):
            text = said[at % 4].format(ITEMS[at % 10]) + f" Ticket {at}."
            writer.writerow([text, f"Case {at} is with team number {at * 7}."])
        writer.writerows([text, f"Case {at} is with nobody."] for at, text in enumerate(own))
    mapping = {"prompt": "{question}", "answer_columns": ["answer"]}
    split = {"test_fraction": 0.5, "validation_fraction": 0.4}
    shown = prepare_dataset(PrepareRequest(path="t.csv", mapping=mapping, **split))
    assert shown.counts.get("train", 0) >= 10
    assert any("no wording can be held out whole" in note for note in shown.assumptions)
