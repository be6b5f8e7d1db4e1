"""Turns become conversations as the mapping says: who speaks, in which order, what is left out."""

import json

import pytest

from ft_tools.data.map.conversations import JOINED, Joining, joined
from ft_tools.data.map.mapping import ColumnMapping
from ft_tools.data.prepare import prepare_dataset
from ft_tools.data.request import PrepareRequest
from ft_tools.errors import BadInput
from ft_tools.formats.readers.rows import Row
from tests.unit.jsonl import write


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


def test_speakers_without_a_role_are_refused_with_how_often_they_speak(workspace):
    (workspace / "d.json").write_text(json.dumps({"tickets": [ticket(at) for at in range(20)]}))
    with pytest.raises(BadInput, match=r"lacks 1 speakers \(bot 20\)"):
        prepare({"turns": TURNS | {"roles": {"agent": "assistant", "end-user": "user"}}})
    # A key of the text that is misspelt hides no speakers.
    wrong = {"text": "bodi", "roles": {"agent": "assistant"}}
    with pytest.raises(BadInput, match=r"lacks 2 speakers .*'bodi'"):
        prepare({"turns": TURNS | wrong})
    made = prepare({"turns": TURNS | {"roles": {"agent": "assistant", "*": "user"}}})
    assert made.counts == {"train": 20}


@pytest.mark.parametrize("is_nested", [True, False])
def test_the_user_is_the_speaker_that_a_column_names_and_may_have_to_begin(workspace, is_nested):
    asked = [("user", "Where is {}?"), ("user", "Hello?")]
    others = [("agent", "In hall {}."), ("peer", "Yes."), ("user", "Thanks {}.")]
    rows = []
    for at in range(20):
        who = {"user": f"u{at}", "agent": "a1", "peer": f"u{at + 1}"}
        turns = others if at % 4 == 3 else asked + others
        talk = [{"by": who[by], "text": text.format(at)} for by, text in turns]
        asker = {"id": at, "requester": {"id": f"u{at}"}}
        rows += [asker | {"talk": talk}] if is_nested else [asker | turn for turn in talk]
    write(workspace / "d.jsonl", rows)
    turns = {"role": "by", "text": "text", "conversation": "talk" if is_nested else "id"}
    turns |= {"user": "requester.id", "roles": {"*": "assistant"}, "starts_with": "user"}
    mapping = {"turns": turns, "ignore": ["id"] if is_nested else []}
    made = prepare(mapping, "d.jsonl")
    assert made.counts == {"train": 15, "starts_otherwise": 5}
    assert [[text for _, text in said(one)] for one in trained(workspace)] == [
        [f"Where is {at}?\n\nHello?", f"In hall {at}.\n\nYes."] for at in range(20) if at % 4 < 3
    ]
    # Of its first turn, not of any.
    turns["first_turn"] = {"text": {"pattern": "[2-5][?]$"}}
    other = mapping | {"turns": turns}
    shown = prepare_dataset(PrepareRequest(path="d.jsonl", mapping=other))
    assert shown.counts["starts_otherwise"] == 14
    del turns["roles"], turns["first_turn"]
    with pytest.raises(BadInput, match=r"lacks 21 speakers \(a1 20"):
        prepare(mapping, "d.jsonl")


@pytest.mark.parametrize(
    ("more", "kept"),
    [
        ({"questions": 1}, [("user", "Q{}?"), ("assistant", "A{}.\n\nB{}.")]),
        ({"questions": 1, "answers": "last"}, [("user", "Q{}?"), ("assistant", "B{}.")]),
        ({"answers": 1}, [("user", "Q{}?"), ("assistant", "A{}.")]),
        (
            {},
            [("user", "Q{}?"), ("assistant", "A{}."), ("user", "And?"), ("assistant", "B{}.")],
        ),
    ],
)
def test_whoever_begins_a_thread_asks_and_some_questions_and_answers_are_kept(
    workspace, more, kept
):
    talk = [("{}", "Q{}?"), ("ann", "A{}."), ("bob", "No."), ("{}", "And?"), ("ann", "B{}.")]
    rows = [
        {"talk": [{"by": by.format(at), "text": text.format(at)} for by, text in talk]}
        for at in range(20)
    ]
    write(workspace / "d.jsonl", rows)
    turns = {"role": "by", "text": "text", "conversation": "talk", "user": "first speaker"}
    roles = {"ann": "assistant", "*": "leave_out"}
    made = prepare({"turns": turns | more | {"roles": roles}}, "d.jsonl")
    assert made.counts == {"train": 20}
    assert [said(one) for one in trained(workspace)] == [
        [(role, text.format(at, at)) for role, text in kept] for at in range(20)
    ]


def test_a_conversation_that_ends_on_a_question_may_be_left_out(workspace):
    rows = []
    for at in range(20):
        said = [("user", f"Q{at}?"), ("assistant", f"A{at}."), ("user", "And?")]
        rows.append({"talk": [{"by": by, "text": text} for by, text in said[: 3 - at % 2]]})
    write(workspace / "d.jsonl", rows)
    turns = {"role": "by", "text": "text", "conversation": "talk"}
    shown = prepare_dataset(PrepareRequest(path="d.jsonl", mapping={"turns": turns}))
    assert sum(shown.counts[part] for part in ("train", "validation", "test")) == 20
    made = prepare({"turns": turns | {"ends_with": "assistant"}}, "d.jsonl")
    assert made.counts == {"train": 10, "ends_otherwise": 10}


def test_a_list_in_each_row_says_who_the_speakers_are(workspace):
    rows = [
        {
            "users": [{"id": at, "is": "customer"}, {"id": -1, "is": "staff"}],
            "talk": [{"by": at, "text": f"Q{at}?"}, {"by": -1, "text": f"A{at}."}],
        }
        for at in range(20)
    ]
    write(workspace / "d.jsonl", rows)
    turns = {"role": "by", "text": "text", "conversation": "talk"}
    turns["role_from"] = {"list": "users", "id": "id", "role": "is"}
    turns["roles"] = {"customer": "user", "staff": "assistant"}
    prepare({"turns": turns, "ignore": ["*"]}, "d.jsonl")
    assert said(trained(workspace)[3]) == [("user", "Q3?"), ("assistant", "A3.")]
    rows[5]["users"][1]["is"] = "customer"
    write(workspace / "d.jsonl", rows)
    with pytest.raises(BadInput, match='"-1" has two roles in users'):
        prepare({"turns": turns, "ignore": ["*"]}, "d.jsonl")


def test_a_star_stands_for_speakers_named_user_too(workspace):
    talk = [("cust", "Q{}?"), ("user", "No."), ("agent", "A{}.")]
    rows = [
        {"talk": [{"by": by, "text": text.format(at)} for by, text in talk]} for at in range(20)
    ]
    write(workspace / "d.jsonl", rows)
    roles = {"cust": "user", "agent": "assistant", "*": "leave_out"}
    turns = {"role": "by", "text": "text", "conversation": "talk", "roles": roles}
    prepare({"turns": turns}, "d.jsonl")
    assert said(trained(workspace)[0]) == [("user", "Q0?"), ("assistant", "A0.")]


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
    write(workspace / "d.jsonl", rows)
    turns = {"conversation": "thread", "role": "who", "text": "text", "order": "ts"}
    roles = {"cust": "user", "lena": "assistant"}
    made = prepare({"turns": turns | {"roles": roles}}, "d.jsonl")
    assert made.num_rows == 15
    assert [said(turns) for turns in trained(workspace)] == [
        [
            ("user", f"Where is order {at}\n\nHello? Order {at}"),
            ("assistant", f"It is on its way, {at}"),
        ]
        for at in range(15)
    ]


def node(name, parent, role="", text=""):
    message = {"author": {"role": role}, "content": {"parts": [text]}} if role else None
    return {"id": name, "parent": parent, "message": message}


def chat(at, *nodes, current="a2"):
    """Return a chat whose answer was asked for twice, and of which the first was discarded."""
    nodes = nodes or (
        node("a2", "q", "assistant", f"Answer {at}."),
        node("a1", "q", "assistant", f"As a language model I cannot answer question {at}."),
        node("root", None),
        node("q", "root", "user", f"Question {at}?"),
    )
    return {"title": f"chat {at}", "mapping": {n["id"]: n for n in nodes}, "current_node": current}


TREE = {
    "conversation": "mapping",
    "role": "message.author.role",
    "text": "message.content.parts",
    "tree": {"id": "id", "parent": "parent", "last": "current_node"},
}


def test_of_a_tree_of_messages_the_path_to_the_last_one_is_trained(workspace):
    end = (node("thanks", "a2", "user", "Thanks!"), node("hidden", "q", "tool", "secret"))
    chats = [chat(at) for at in range(20)]
    chats += [chat(20, *chat(20)["mapping"].values(), *end, current="thanks")]
    (workspace / "d.json").write_text(json.dumps(chats))
    shown = prepare_dataset(PrepareRequest(path="d.json"))
    assert not any("a2" in one.name for one in shown.profile.columns)
    # A parent that is not there, a circle, no current one, and an id that two turns have.
    chats += [chat(21, node("a2", "gone", "assistant", "x"))]
    chats += [chat(22, node("a2", "q", "assistant", "x"), node("q", "a2", "user", "y"))]
    chats += [chat(23, current=None), chat(24) | {"mapping": [node("a2", None), node("a2", None)]}]
    (workspace / "d.json").write_text(json.dumps(chats))
    roles = {"tool": "leave_out"}
    made = prepare({"turns": TREE | {"roles": roles}, "ignore": ["title"]})
    assert made.counts == {"train": 21, "broken_tree": 4}
    assert {finding.id: finding.count for finding in made.findings}["broken_tree"] == 4
    assert sorted(map(said, trained(workspace))) == sorted(
        [("user", f"Question {at}?"), ("assistant", f"Answer {at}.")] for at in range(21)
    )
    wanted = {"of other branches": 22, "after the last answer": 1, "without text": 21}
    assert wanted.items() <= made.turns_left_out.items()


def test_half_a_surrogate_pair_in_json_of_a_cell_removes_its_row_alone(workspace):
    cells = [[("user", f"Where is {at}?"), ("assistant", f"In room {at}.")] for at in range(4)]
    cells[2] = [("user", "Where is \ud83d?"), *cells[2][1:]]
    rows = [{"talk": json.dumps([{"who": w, "text": t} for w, t in turns])} for turns in cells]
    write(workspace / "d.jsonl", rows)
    made = prepare({"turns": {"conversation": "talk", "role": "who", "text": "text"}}, "d.jsonl")
    assert made.counts == {"train": 3, "invalid_unicode": 1}
    assert [said(turns) for turns in trained(workspace)] == [cells[at] for at in (0, 1, 3)]


def test_before_the_path_of_a_tree_stands_the_opening_alone_once(workspace):
    # Beside another branch, and a turn without an id.
    nodes = [*chat(0)["mapping"].values(), {"message": node("", "", "user", "Lost.")["message"]}]
    chats = [{"title": f"About {at}.", "mapping": nodes, "current_node": "a2"} for at in range(3)]
    (workspace / "d.json").write_text(json.dumps([*chats, chats[0] | {"current_node": ""}]))
    made = prepare({"turns": TREE | {"first": "title"}})
    assert made.counts == {"train": 3, "broken_tree": 1}
    assert sorted(map(said, trained(workspace))) == [
        [("user", f"About {at}.\n\nQuestion 0?"), ("assistant", "Answer 0.")] for at in range(3)
    ]


def test_a_value_that_no_turn_has_is_refused_and_such_a_speaker_noted(workspace):
    (workspace / "d.json").write_text(json.dumps({"tickets": [ticket(at) for at in range(20)]}))
    for wrong, said_of_it in (
        ({"keep": {"public": "yes"}}, "no turn has 'yes' in public, which has true 60, false 20"),
        ({"drop": {"body": {"pattern": "^Tickets"}}}, "no turn has 'pattern \\^Tickets' in body"),
    ):
        with pytest.raises(BadInput, match=said_of_it):
            prepare({"turns": TURNS | wrong})
    roles = TURNS["roles"] | {"bots": "leave_out"}
    left = prepare(
        {"turns": TURNS | {"roles": roles, "drop": {"body": {"pattern": "(?i)^TICKET"}}}}
    )
    assert any("bots" in one for one in left.assumptions)
    assert left.turns_left_out["dropped by body"] == 20
    assert left.turns_left_out["not kept by public"] == 20


def test_what_lists_of_turn_rows_hold_chooses_conversations(workspace):
    rows = [
        {"id": at, "who": who, "said": f"{text} {at} of {at * 7}", "tags": [["ok", "spam"][at % 2]]}
        for at in range(40)
        for who, text in (("user", "Where is parcel"), ("assistant", "It left depot"))
    ]
    (workspace / "d.json").write_text(json.dumps(rows))
    turns = {"conversation": "id", "role": "who", "text": "said"}
    dropped = prepare({"turns": turns, "drop": {"tags[]": ["spam"]}}).counts
    assert dropped == {"train": 20, "dropped": 20}


def test_a_conversation_of_many_rows_is_joined_in_time_that_grows_with_them(workspace):
    who = ["user", *["assistant"] * 60_000]
    rows = [{"id": 1, "who": one, "said": f"part {at}", "tag": at} for at, one in enumerate(who)]
    mapping = ColumnMapping(
        turns={"conversation": "id", "role": "who", "text": "said", "separator": "\n"},
        group_by=["tag"],
    )
    numbered = (Row(at, one, None) for at, one in enumerate(rows, 1))
    (made,) = joined(mapping, numbered, Joining())
    assert made.value["tag"] == list(range(60_001))
    assert made.value[JOINED][1]["content"].endswith("part 59999\npart 60000")


def test_a_conversation_may_go_on_in_the_next_file_of_a_folder(workspace):
    days = workspace / "days"
    days.mkdir()
    turns = [
        {"thread": f"t{at}", "by": by, "text": f"{by} says {at * at} of {at}", "at": at}
        for by in ("ann", "tom")
        for at in range(20)
    ]
    for day, said in enumerate((turns[:20], turns[20:])):
        (days / f"{day}.json").write_text(json.dumps(said))
    roles = {"ann": "user", "tom": "assistant"}
    turned = {"conversation": "thread", "role": "by", "text": "text", "roles": roles}
    shown = prepare_dataset(
        PrepareRequest(path="days", mapping={"turns": turned, "ignore": ["at"]})
    )
    assert shown.num_rows == 20
    assert [one.answer[:10] for one in shown.examples] == ['"tom says '] * 3


def test_a_conversation_ends_with_its_first_answer(workspace):
    def thread(at, marks, mark_of_reply=""):
        said = [("guest", marks), ("peer", ""), ("tom", mark_of_reply), ("ann", ""), ("guest", "")]
        turns = [
            {
                "by": by,
                "text": f"{by} {at}, {n}",
                "at": 10 * at + n,
                "marks": [{"name": mark}, {"name": "seen"}],
            }
            for n, (by, mark) in enumerate(said)
        ]
        return {"turns": turns[::-1]}

    rows = [thread(1, ""), thread(2, "wrong"), thread(3, "", "wrong"), thread(4, "fine")]
    (workspace / "d.json").write_text(json.dumps(rows * 5))
    turns = {"conversation": "turns", "role": "by", "text": "text", "order": "at"}
    turns["roles"] = {"guest": "user", "peer": "leave_out", "tom": "assistant", "ann": "assistant"}
    turns |= {"answers": 1, "keep": {"marks[].name": "seen"}}
    prepare({"turns": turns})
    assert sorted(map(said, trained(workspace))) == [
        [("user", f"guest {at}, 0"), ("assistant", f"tom {at}, 2")] for at in (1, 2, 3, 4)
    ]
    with pytest.raises(BadInput, match=r"no turn has 'worng' \(similar: wrong"):
        prepare({"turns": {**turns, "drop": {"marks[].name": ["worng"]}}})


def test_an_answer_to_nothing_but_a_question_that_is_left_out_ends_a_conversation(workspace):
    def chat(*turns):
        said = [{"by": by, "parts": parts} for by, *parts in turns]
        return {"turns": said}

    picture = {"image": "a.png"}
    rows = [
        chat(
            ("u", "One?"), ("a", "1."), ("u", picture), ("a", "A cat."), ("u", "Two?"), ("a", "2.")
        ),
        chat(("u", "Three?"), ("a", "3."), ("u", picture), ("u", "Four?"), ("a", "4.")),
        chat(("u", "Five?"), ("u", picture), ("a", "5."), ("u", ""), ("a", "Bye.")),
        chat(("u", picture), ("a", "A dog.")),
    ]
    (workspace / "d.json").write_text(json.dumps(rows))
    turns = {"conversation": "turns", "role": "by", "text": "parts"}
    turns["roles"] = {"u": "user", "a": "assistant"}
    made = prepare({"turns": turns, "ignore": ["turns[].parts"]})
    assert [[text for _, text in said(one)] for one in trained(workspace)] == [
        ["One?", "1."],
        ["Three?", "3.", "Four?", "4."],
        ["Five?", "5.\n\nBye."],
    ]
    assert made.counts["questions_left_out"] == 1
    assert made.turns_left_out["after a question that is left out"] == 3
