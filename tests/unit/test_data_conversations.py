"""Turns become conversations as the mapping says: who speaks, in which order, what is left out."""

import json

import pytest

from ft_tools.data.prepare import prepare_dataset
from ft_tools.data.request import PrepareRequest
from ft_tools.errors import BadInput


def prepare(mapping, path="d.json"):
    request = PrepareRequest(
        path=path, mapping=mapping, output_dir="out", test_fraction=0.0, validation_fraction=0.0
    )
    confirm = prepare_dataset(request).mapping_hash
    return prepare_dataset(request.model_copy(update={"confirm": confirm}))


def trained(workspace):
    text = (workspace / "out" / "train.jsonl").read_text("utf-8")
    return [json.loads(line)["messages"] for line in text.splitlines()]


def said(turns):
    return [(turn["role"], turn["content"]) for turn in turns]


def ticket(at):
    return {
        "id": at,
        "description": f"My parcel {at} is late, where is it?",
        "comments": [
            {"author": {"kind": "agent"}, "body": f"It left depot {at}.", "public": True},
            {"author": {"kind": "agent"}, "body": "Angry caller, careful.", "public": False},
            {"author": {"kind": "end-user"}, "body": f"Thanks for {at}!", "public": True},
            {"author": {"kind": "bot"}, "body": "Ticket closed.", "public": True},
        ],
    }


TURNS = {
    "conversation": "comments",
    "role": "author.kind",
    "text": "body",
    "first": "description",
    "roles": {"agent": "assistant", "end-user": "user", "bot": "leave_out"},
    "keep": {"public": True},
}


def test_a_list_of_turns_with_an_opening_and_internal_notes(workspace):
    (workspace / "d.json").write_text(json.dumps({"tickets": [ticket(at) for at in range(20)]}))
    made = prepare({"turns": TURNS})
    assert made.counts == {"train": 20}
    turns = sorted(map(said, trained(workspace)))
    assert turns == sorted(
        [
            ("user", f"My parcel {at} is late, where is it?"),
            ("assistant", f"It left depot {at}."),
        ]
        for at in range(20)
    )
    (note,) = [one for one in made.assumptions if "turns left out" in one]
    for part in ("20 after the last answer", "20 not kept", "20 of speakers that are left out"):
        assert part in note


def test_speakers_without_a_role_are_refused_with_how_often_they_speak(workspace):
    (workspace / "d.json").write_text(json.dumps({"tickets": [ticket(at) for at in range(20)]}))
    with pytest.raises(BadInput, match=r"lacks 1 speakers \(bot 20\)"):
        prepare({"turns": TURNS | {"roles": {"agent": "assistant", "end-user": "user"}}})
    made = prepare({"turns": TURNS | {"roles": {"agent": "assistant", "*": "user"}}})
    assert made.counts == {"train": 20}


def test_rows_of_one_turn_each_are_joined_by_id_and_ordered_by_time(workspace):
    rows = [
        {"thread": at, "ts": f"2026-03-{day:02d}", "who": who, "text": f"{text} {at}"}
        for day, who, text in (
            (3, "lena", "It is on its way,"),
            (1, "cust", "Where is order"),
            (2, "cust", "Hello? Order"),
            (4, "cust", "Thank you from"),
        )
        for at in range(15)
    ]
    (workspace / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    turns = {"conversation": "thread", "role": "who", "text": "text", "order": "ts"}
    roles = {"cust": "user", "lena": "assistant"}
    made = prepare({"turns": turns | {"roles": roles}}, "d.jsonl")
    assert made.num_rows == 15
    assert [said(turns) for turns in trained(workspace)] == [
        [
            ("user", f"Where is order {at}\nHello? Order {at}"),
            ("assistant", f"It is on its way, {at}"),
        ]
        for at in range(15)
    ]


def test_an_exported_chat_is_a_tree_of_messages_by_id(workspace):
    def node(at, role, text, created):
        message = {
            "author": {"role": role},
            "create_time": created,
            "content": {"content_type": "text", "parts": [text]},
        }
        return {"id": f"n{at}", "message": message, "parent": "", "children": []}

    chats = [
        {
            "title": f"chat {at}",
            "mapping": {
                f"a{at}": node(1, "system", "", 1.0),
                f"b{at}": node(3, "assistant", f"Answer {at}.", 3.5),
                f"c{at}": node(2, "user", f"Question {at}?", 2.25),
                f"d{at}": node(4, "user", f"More {at}?", 4.0),
                f"e{at}": node(5, "assistant", f"Again {at}.", 5.0),
            },
        }
        for at in range(20)
    ]
    (workspace / "d.json").write_text(json.dumps(chats))
    turns = {
        "conversation": "mapping",
        "role": "message.author.role",
        "text": "message.content.parts",
        "order": "message.create_time",
    }
    made = prepare({"turns": turns, "ignore": ["mapping", "title"]})
    assert made.counts == {"train": 20}
    assert said(trained(workspace)[3]) == [
        ("user", "Question 3?"),
        ("assistant", "Answer 3."),
        ("user", "More 3?"),
        ("assistant", "Again 3."),
    ]
