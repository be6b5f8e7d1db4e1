"""Rows of the shapes that people really have, and what may be wrong somewhere inside them."""

import copy
import json

from hypothesis import strategies as st

ASKED = {"role": "user", "content": "Where is parcel 4 of order 17, please?"}
ANSWERED = {"role": "assistant", "content": "Parcel 4 left the depot in Oslo this morning."}
TOOL = {
    "type": "function",
    "function": {
        "name": "track",
        "description": "Find a parcel.",
        "parameters": {"type": "object", "properties": {"id": {"type": "integer"}}},
    },
}
CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "track", "arguments": '{"id": 4}'},
}
SFT = [
    {"messages": [{"role": "system", "content": "Be brief."}, ASKED, ANSWERED]},
    {"messages": [ASKED, ANSWERED | {"weight": 0}, ASKED, ANSWERED], "source": "tickets"},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}, ANSWERED]},
    {
        "messages": [
            ASKED,
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {
                "role": "tool",
                "tool_call_id": "call_1",
                "name": "track",
                "content": '{"at": "Oslo"}',
            },
            ANSWERED | {"reasoning_content": "The tool says Oslo."},
        ],
        "tools": [TOOL],
    },
    {"messages": [ASKED, ANSWERED], "tools": json.dumps([TOOL]), "parallel_tool_calls": False},
    {
        "conversations": [
            {"from": "system", "value": "Be brief."},
            {"from": "human", "value": "Where is it?"},
            {"from": "gpt", "value": "In Oslo."},
        ],
        "id": "identity_0",
    },
    {
        "conversations": [
            {"from": "human", "value": "Track parcel 4"},
            {"from": "function_call", "value": '{"name": "track", "arguments": {"id": 4}}'},
            {"from": "observation", "value": '{"at": "Oslo"}'},
            {"from": "gpt", "value": "It is in Oslo.", "train": False},
        ],
        "tools": json.dumps([TOOL]),
        "system": "Use the tools.",
    },
    {"instruction": "Name the depot.", "input": "Parcel 4", "output": "Oslo."},
    {
        "instruction": "And the next one?",
        "input": "",
        "output": "Bergen.",
        "system": "Be brief.",
        "history": [["Name the depot.", "Oslo."]],
    },
    {"prompt": "Where is parcel 4?", "completion": "In Oslo."},
    {"prompt": [ASKED], "completion": [ANSWERED]},
    {"question": "Where is parcel 4?", "context": "Parcel 4: Oslo", "answer": "Oslo"},
    {"query": "Where?", "tools": json.dumps([TOOL]), "answers": '[{"name": "track"}]'},
    {"text": "Parcel 4 left the depot in Oslo this morning."},
]
PAIRS = [
    {"prompt": [ASKED], "chosen": [ANSWERED], "rejected": [ANSWERED | {"content": "No idea."}]},
    {"prompt": "Where is parcel 4?", "chosen": "In Oslo.", "rejected": "No idea."},
    {"chosen": [ASKED, ANSWERED], "rejected": [ASKED, ANSWERED | {"content": "No idea."}]},
    {"chosen": "Human: Where? Assistant: Oslo.", "rejected": "Human: Where? Assistant: No."},
    {
        "conversations": [{"from": "human", "value": "Where?"}],
        "chosen": {"from": "gpt", "value": "In Oslo."},
        "rejected": {"from": "gpt", "value": "No idea."},
    },
    {"instruction": "Name it.", "input": "Parcel 4", "chosen": "Oslo.", "rejected": "No."},
    {
        "input": {"messages": [ASKED], "tools": [TOOL], "parallel_tool_calls": True},
        "preferred_output": [ANSWERED],
        "non_preferred_output": [ANSWERED | {"content": "No idea."}],
    },
    {
        "prompt": "Where?",
        "chosen": [ASKED, ANSWERED],
        "rejected": [ASKED, ANSWERED | {"content": "No."}],
        "score_chosen": 9.0,
        "score_rejected": 1,
    },
]
KTO = [
    {"prompt": "Where is parcel 4?", "completion": "In Oslo.", "label": True},
    {"prompt": [ASKED], "completion": [ANSWERED], "label": 0},
    {"messages": [ASKED, ANSWERED], "label": "false"},
]
# What launches and evaluations read as it is, without an audit before them.
TRAINED = [row for row in SFT if {"messages"} <= set(row) or {"prompt", "completion"} <= set(row)]
PREFERRED = PAIRS[:3]
FAMILIES = {"sft": SFT, "pairs": PAIRS, "kto": KTO, "trained": TRAINED, "preferred": PREFERRED}
KEYS = sorted(
    {"role", "content", "from", "value", "name", "arguments", "function", "type", "text", "weight"}
    | {key for shapes in FAMILIES.values() for row in shapes for key in row}
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-2, 2)
    | st.sampled_from([10**30, -1.5, 1e308, "", " ", "\n", "0", "null", "[]", "{}", "[1]"])
    | st.sampled_from(["user", "assistant", "system", "tool", "gpt", "text", "\ud83d\ude00", "\0"])
    | st.text(max_size=8)
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3)
    ),
    max_leaves=6,
)


def places_in(value):
    """List where a value of a row can be changed: each container with each of its keys."""
    found = []
    keys = value if isinstance(value, dict) else range(len(value))
    for key in keys:
        found.append((value, key))
        if isinstance(value[key], dict | list):
            found += places_in(value[key])
    return found


@st.composite
def changed(draw, row, most=3):
    """Return a row with some of its parts replaced, removed, renamed, wrapped or swapped."""
    row = copy.deepcopy(row)
    for _ in range(draw(st.integers(0, most))):
        places = places_in(row)
        if not places:
            break
        where, key = draw(st.sampled_from(places))
        change = draw(st.sampled_from(["replace", "remove", "rename", "wrap", "swap", "repeat"]))
        if change == "replace":
            where[key] = draw(VALUES)
        elif change == "remove":
            del where[key]
        elif change == "rename" and isinstance(where, dict):
            where[draw(st.sampled_from(KEYS))] = where.pop(key)
        elif change == "wrap":
            part = where[key]
            where[key] = draw(st.sampled_from([[part], [[part]], {"content": part}, json_of(part)]))
        elif change == "swap":
            other, its_key = draw(st.sampled_from(places))
            # Copies: a part that holds the other would hold itself.
            one, two = copy.deepcopy(where[key]), copy.deepcopy(other[its_key])
            where[key] = two
            other[its_key] = one
        elif isinstance(where, list):
            where.append(copy.deepcopy(where[key]))
    return row


def json_of(part):
    """Return a part as the text that data sets without nested columns keep."""
    return json.dumps(part)


@st.composite
def files(draw, families=tuple(FAMILIES)):
    """Return the rows of a file: one shape, or several, some of them damaged."""
    shapes = FAMILIES[draw(st.sampled_from(families))]
    if draw(st.booleans()):
        shapes = [draw(st.sampled_from(shapes))]
    return draw(st.lists(st.sampled_from(shapes).flatmap(changed), min_size=1, max_size=5))


@st.composite
def sound_files(draw, families=tuple(FAMILIES)):
    """Return the rows of a file of one shape that says other things in each row, one change in it.

    Most of what is damaged is refused at once; this gets further.
    """
    shape = json.dumps(draw(st.sampled_from(FAMILIES[draw(st.sampled_from(families))])))
    names = zip(("Oslo", "Bergen", "Voss", "Moss"), ("17", "23", "58", "96"), strict=True)
    rows = [json.loads(shape.replace("Oslo", one).replace("4", two)) for one, two in names]
    at = draw(st.integers(0, len(rows) - 1))
    rows[at] = draw(changed(rows[at], most=1))
    return rows
