"""Exports of tickets and chats: an object with a list of records, each with a list of turns."""

import json

import pytest

from ft_tools.data.prepare.request import PrepareRequest
from ft_tools.data.prepare.tool import prepare_dataset
from ft_tools.data.request import AuditRequest, ShowRequest
from ft_tools.data.show_examples import show_examples
from ft_tools.data.tool import audit_dataset
from ft_tools.errors import BadData, BadInput
from ft_tools.formats.readers.source import recognise

WORDS = [
    "router",
    "parcel",
    "invoice",
    "printer",
    "keyboard",
    "window",
    "garden",
    "camera",
    "kettle",
    "ticket",
]
SKIPPED = "turns left out of conversations: "


def turn(who, body, **flags):
    return {"author_type": who, "author": f"{who} name", "body": body} | flags


def thread(at):
    word = f"{WORDS[at % 9]} {at * at}"
    return [
        turn("customer", f"My {word} is broken, what can I do?", internal=False),
        turn("agent", "@team looks like a duplicate", internal=True),
        turn("agent", f"Please restart the {word}.", internal=False),
        turn("agent", f"Then write down the number {at}.", internal=False),
        turn("system", "The ticket was closed.", internal=False),
    ]


def ticket(at):
    status = "open" if at % 4 == 0 else "solved"
    return {"ticket_id": at, "status": status, "tags": ["a"], "thread": thread(at)}


def write(workspace, name="t.json", key="tickets", count=60, records=None, **beside):
    records = [ticket(at) for at in range(count)] if records is None else records
    export = {"export_version": 3, "generated": "2026-11-01", key: records} | beside
    (workspace / name).write_text(json.dumps(export, indent=1))


def prepare(**arguments):
    return prepare_dataset(PrepareRequest(**arguments))


def confirmed(**arguments):
    shown = prepare(**arguments)
    return prepare(**arguments, confirm=shown.mapping_hash, output_dir="out")


def rows(workspace, part="train"):
    return [json.loads(line) for line in (workspace / f"out/{part}.jsonl").read_text().splitlines()]


IGNORED = {"verdicts": {"status": "ignore"}}


@pytest.mark.parametrize("key", ["tickets", "conversations", "data_2", "messages"])
def test_the_list_of_an_object_is_the_rows_whatever_its_name(workspace, key):
    write(workspace, key=key, count=30)
    shown = prepare(path="t.json")
    assert shown.num_rows == 30
    said = f"the rows are the list '{key}' of the object that the file is"
    assert said in shown.assumptions
    audit = audit_dataset(AuditRequest(path="t.json"))
    assert (audit.num_examples, said in audit.assumptions) == (30, True)
    quoted = show_examples(ShowRequest(path="t.json", lines=[30], field="ticket_id"))
    assert quoted.examples[0].value == '"29"'
    assert said in quoted.warnings


def test_the_longest_of_several_lists_is_read_and_another_on_request(workspace):
    users = [{"id": at, "role": "agent", "name": f"Agent {at}"} for at in range(9)]
    write(workspace, users=users, macros=[{"id": 1}])
    said = next(note for note in prepare(path="t.json").assumptions if "'tickets'" in note)
    assert "2 more (users, macros): prepare_dataset reads another with sheet" in said
    assert prepare(path="t.json", sheet="users").num_rows == 9
    with pytest.raises(BadInput, match="its lists: tickets, users, macros"):
        prepare(path="t.json", sheet="groups")


ROWS_THEMSELVES = {
    "an example": {"messages": [{"role": "user", "content": "a"}] * 2, "docs": [{"a": 1}]},
    "a conversation": {"ticket_id": 1, "thread": thread(1)},
    "a question": {"prompt": "a", "completion": "b", "sources": [{"a": 1}]},
    "no list": {"a": [1, 2], "b": {"c": [{}]}},
}


@pytest.mark.parametrize("case", ROWS_THEMSELVES)
def test_an_object_that_is_a_row_stays_one(workspace, case):
    (workspace / "one.json").write_text(json.dumps(ROWS_THEMSELVES[case], indent=1))
    assert not recognise(workspace / "one.json").lists


def test_objects_that_follow_one_another_are_rows(workspace):
    text = json.dumps({"a": 1, "items_2": [{"b": 1}]}, indent=1)
    (workspace / "two.json").write_text(text * 2)
    assert not recognise(workspace / "two.json").lists


def test_an_export_that_was_cut_off_is_refused(workspace):
    write(workspace)
    text = (workspace / "t.json").read_text()
    (workspace / "t.json").write_text(text[: text.index('"ticket_id": 40')])
    with pytest.raises(BadData, match="not valid JSON"):
        audit_dataset(AuditRequest(path="t.json"))


def test_lists_of_turns_become_conversations(workspace):
    write(workspace)
    shown = prepare(path="t.json")
    assert shown.mapping.turns.model_dump() == {
        "conversation": "thread", "role": "author_type", "text": "body",
        "roles": {"system": "leave_out"},
    }  # fmt: skip
    assert f"{SKIPPED}60 internal, 60 of speakers with the role leave_out" in shown.assumptions
    assert not any("internal" in question for question in shown.questions)
    made = confirmed(path="t.json", mapping=IGNORED)
    assert made.num_rows == 60
    assert f"{SKIPPED}60 internal, 60 of speakers with the role leave_out" in made.assumptions
    for row in rows(workspace):
        assert [message["role"] for message in row["messages"]] == ["user", "assistant"]
        assert "\nThen write down" in row["messages"][1]["content"]
        assert "@team" not in json.dumps(row)


def test_turns_around_the_questions_and_answers_are_left_out_and_counted(workspace):
    records = [ticket(at) for at in range(60)]
    records[3]["thread"].insert(0, turn("agent", "Welcome to the chat!"))
    records[5]["thread"].append(turn("customer", "Thank you, that helped me a lot."))
    records[7]["thread"] = records[7]["thread"][:2]
    write(workspace, records=records)
    made = confirmed(path="t.json", mapping=IGNORED)
    said = next(note for note in made.assumptions if note.startswith(SKIPPED))
    assert "1 after the last answer, 1 before the first question" in said
    assert made.counts["no_answer"] == 1
    (unlabelled,) = rows(workspace, "unlabelled")
    assert unlabelled["columns"].keys() == {*ticket(7), "messages"}
    assert [message["role"] for message in unlabelled["columns"]["messages"]] == ["user"]
    assert "role_order" not in made.counts


def test_only_records_with_a_status_are_kept(workspace):
    write(workspace)
    made = confirmed(
        path="t.json",
        mapping={"verdicts": {"status": "filter"}, "good_values": {"status": ["solved"]}},
    )
    assert made.counts["not_marked_good"] == 15
    kept = " ".join(json.dumps(row) for part in ("train", "test") for row in rows(workspace, part))
    assert f"{WORDS[4]} 16 " not in kept


def test_a_role_can_be_named_and_a_bot_alone_answers(workspace):
    records = [ticket(at) for at in range(60)]
    write(workspace, records=records)
    turns = {"conversation": "thread", "role": "author_type", "text": "body"}
    named = prepare(path="t.json", mapping={"turns": turns | {"roles": {"system": "assistant"}}})
    assert not any("leave_out" in note for note in named.assumptions)
    bots = json.loads(json.dumps(records).replace('"agent"', '"bot"'))
    write(workspace, "b.json", records=bots)
    assert not prepare(path="b.json").mapping.turns.roles


def test_messages_of_agents_are_turns_and_not_a_known_format(workspace):
    lines = []
    for at in range(40):
        said = [{"role": {"agent": "agent"}.get(one["author_type"], "customer"),
                 "content": one["body"]} for one in thread(at)[:3:2]]  # fmt: skip
        lines.append(json.dumps({"messages": said}) + "\n")
    (workspace / "m.jsonl").write_text("".join(lines))
    audit = audit_dataset(AuditRequest(path="m.jsonl"))
    assert audit.next_steps[0].tool == "prepare_dataset"
    made = confirmed(path="m.jsonl")
    assert made.mapping.turns.conversation == "messages"
    assert made.counts["train"] >= 20


def test_turns_are_put_in_the_order_of_their_own_times(workspace):
    records = [ticket(at) for at in range(60)]
    for at, record in enumerate(records):
        for place, one in enumerate(record["thread"]):
            one["created"] = 1767000000 + 100 * at + place
        record["thread"].reverse()
    write(workspace, records=records)
    assert prepare(path="t.json").mapping.time_column is None
    confirmed(path="t.json", mapping=IGNORED | {"time_column": "created"})
    first = rows(workspace)[0]["messages"]
    assert [message["role"] for message in first] == ["user", "assistant"]
    assert first[1]["content"].startswith("Please restart")


def test_internal_rows_of_a_table_of_turns_are_left_out(workspace):
    table = [
        {"ticket": f"T{record['ticket_id']}", **one}
        for record in map(ticket, range(60))
        for one in record["thread"]
    ]
    (workspace / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in table))
    turns = {"conversation": "ticket", "role": "author_type", "text": "body"}
    shown = prepare(path="t.jsonl", mapping={"turns": turns})
    assert f"{SKIPPED}60 internal, 60 of speakers with the role leave_out" in shown.assumptions
    assert not any("internal" in question for question in shown.questions)


def test_a_column_that_the_turns_do_not_have_is_refused_with_the_nearest(workspace):
    write(workspace)
    turns = {"conversation": "thread", "role": "author_typ", "text": "body"}
    with pytest.raises(BadInput, match="similar: author_type"):
        prepare(path="t.json", mapping={"turns": turns})


def test_notes_told_by_their_kind_and_speakers_told_by_a_direction(workspace):
    parts = [
        {"part_type": "comment", "incoming": True, "body": "Where is parcel {} of mine now?"},
        {"part_type": "note", "incoming": False, "body": "ask the depot"},
        {"part_type": "comment", "incoming": False, "body": "It is in depot {} by now."},
    ]
    records = [
        {"id": at, "conversations": json.loads(json.dumps(parts).replace("{}", str(at * at)))}
        for at in range(60)
    ]
    (workspace / "f.json").write_text(json.dumps(records))
    made = confirmed(path="f.json")
    assert made.mapping.turns.roles == {"true": "user", "false": "assistant"}
    assert f"{SKIPPED}60 internal" in made.assumptions
    answers = {row["messages"][1]["content"][:11] for row in rows(workspace)}
    assert answers == {"It is in de"}


def test_a_list_that_is_not_recognised_can_be_named(workspace):
    talks = [[{"by": "A", "said": f"How is number {at}?"}, {"by": "B", "said": f"Well, {at}."}]
             for at in range(60)]  # fmt: skip
    write(workspace, records=[{"id": at, "log": talk} for at, talk in enumerate(talks)])
    turns = {"conversation": "log", "role": "by", "text": "said"}
    asked = prepare(path="t.json", mapping={"turns": turns})
    assert asked.questions[0].startswith("2 speakers have no known role (A, B)")
    roles = {"roles": {"A": "user", "B": "assistant"}}
    assert prepare(path="t.json", mapping={"turns": turns | roles}).counts["train"] >= 40


def test_lists_in_lists_are_not_followed_without_end(workspace):
    deep = {"body": "a", "role": "agent"}
    for _ in range(90):
        deep = {"role": "agent", "body": "a", "in": [deep]}
    write(workspace, records=[{"id": at, "in": [deep]} for at in range(3)])
    assert prepare(path="t.json").num_rows == 3


def test_signatures_that_come_again_and_again_are_said(workspace):
    said = "60 answers end with one of 2 lines that come 10 times or more, such as signatures"
    write(workspace)
    assert not any("signatures" in note for note in prepare(path="t.json").assumptions)
    records = [ticket(at) for at in range(60)]
    for at, record in enumerate(records):
        name = ("Emma", "Noah")[at % 2]
        record["thread"][3]["body"] += f"\n\nBest regards\n{name}, Support Team"
    write(workspace, records=records)
    assert any(note.startswith(said) for note in prepare(path="t.json").assumptions)


def test_turns_without_text_are_left_out(workspace):
    records = [ticket(at) for at in range(60)]
    records[2]["thread"].insert(1, turn("agent", None))
    write(workspace, records=records)
    said = next(note for note in prepare(path="t.json").assumptions if note.startswith(SKIPPED))
    assert said.endswith(", 1 without text")


def test_turns_that_begin_with_the_newest_are_put_in_order_by_the_proposal(workspace):
    records = [ticket(at) for at in range(60)]
    for at, record in enumerate(records):
        record["opened"] = f"2026-01-{at % 28 + 1:02}"
        for place, one in enumerate(record["thread"]):
            one["sent_at"] = f"2026-01-{at % 28 + 1:02}T10:{place:02}:00Z"
        record["thread"].reverse()
    write(workspace, records=records)
    assert confirmed(path="t.json", mapping=IGNORED).mapping.time_column == "sent_at"
    asked, answered = rows(workspace)[0]["messages"]
    assert asked["role"] == "user"
    assert answered["content"].startswith("Please restart")
