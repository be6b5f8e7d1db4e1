"""Formats: each spelling becomes the same example."""

import json
import re
from pathlib import Path

import pytest

from ft_tools.data.judge.findings import RULES
from ft_tools.data.judge.text_faults import content
from ft_tools.data.judge.turn_order import structure
from ft_tools.formats.formats import normalise


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


ASK, ANSWER = "What is the capital of Peru?", "The capital of Peru is Lima."
CHAT = [{"role": "user", "content": ASK}, {"role": "assistant", "content": ANSWER}]
WORSE = [{"role": "assistant", "content": "No idea."}]
SFT = {
    "openai_messages": [
        {"messages": CHAT},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": ASK}]}, CHAT[1]]},
        {"conversations": CHAT},
    ],
    "sharegpt": [
        {"conversations": [{"from": asker, "value": ASK}, {"from": answerer, "value": ANSWER}]}
        for asker in ("human", "user", "Human")
        for answerer in ("gpt", "assistant", "chatgpt", "bing", "model")
    ],
    "alpaca": [
        {"instruction": ASK, "input": "", "output": ANSWER},
        {"instruction": ASK, "input": "<noinput>", "response": ANSWER},
        {"instruction": ASK, "output": ANSWER, "history": []},
    ],
    "prompt_completion": [
        {"prompt": ASK, "completion": ANSWER},
        {"question": ASK, "answer": ANSWER},
        {"prompt": CHAT[:1], "completion": CHAT[1:]},
        {"query": ASK, "response": ANSWER},
        {"input": ASK, "output": ANSWER},
        {"prompt": ASK, "completion": ANSWER, "text": None, "messages": None, "chosen": None},
    ],
}
SFT["openai_messages"] += [
    CHAT,
    {"messages": CHAT, "chosen": None, "rejected": None, "prompt": None},
    {"messages": [turn | {"from": None, "value": None} for turn in CHAT]},
]
SFT["alpaca"].append({"instruction": ASK, "context": "", "response": ANSWER, "category": "qa"})
PAIRS = {
    "preference_explicit": [
        {"prompt": ASK, "chosen": ANSWER, "rejected": "No idea."},
        {"prompt": CHAT[:1], "chosen": CHAT[1:], "rejected": WORSE},
        {"prompt": ASK, "chosen": CHAT, "rejected": CHAT[:1] + WORSE},
        # HuggingFaceH4/ultrafeedback_binarized
        {
            "prompt": ASK,
            "prompt_id": "f0e37e9f7800261167ce91143f98f511f768847236f133f2d0aed60b444ebe57",
            "chosen": CHAT,
            "rejected": CHAT[:1] + WORSE,
            "messages": CHAT,
            "score_chosen": 8.5,
            "score_rejected": 3.0,
        },
        {"prompt": f"{ASK}\n", "chosen": CHAT, "rejected": CHAT[:1] + WORSE},
    ],
    "preference_implicit": [{"chosen": CHAT, "rejected": CHAT[:1] + WORSE}],
    "sharegpt_preference": [
        {
            "conversations": [{"from": "human", "value": ASK}],
            "chosen": {"from": "gpt", "value": ANSWER},
            "rejected": {"from": "gpt", "value": "No idea."},
        }
    ],
    "alpaca_preference": [
        {"instruction": ASK, "input": "", "chosen": ANSWER, "rejected": "No idea."}
    ],
    "openai_preference": [
        {
            "input": {"messages": CHAT[:1]},
            "preferred_output": CHAT[1:],
            "non_preferred_output": WORSE,
        }
    ],
}
KTO = [
    {"prompt": ASK, "completion": ANSWER, "label": True},
    {"prompt": CHAT[:1], "completion": CHAT[1:], "label": True},
    {"messages": CHAT, "label": True},
    {"messages": CHAT, "kto_tag": "true"},
]


def spelled(table):
    return [(name, row) for name, rows in table.items() for row in rows]


@pytest.mark.parametrize(("name", "row"), spelled(SFT))
def test_every_spelling_of_an_answered_question_becomes_the_same_conversation(name, row):
    example = normalise(1, row)
    assert example.format == name
    assert example.row() == {"messages": CHAT}
    assert [p for p in structure(example) if p != "placeholder_input"] == []


@pytest.mark.parametrize(("name", "row"), spelled(PAIRS))
def test_every_spelling_of_a_pair_becomes_the_same_prompt_and_two_answers(name, row):
    example = normalise(1, row)
    assert example.format == name
    assert example.row() == {"prompt": CHAT[:1], "chosen": CHAT[1:], "rejected": WORSE}
    assert set(structure(example)) <= {"implicit_prompt"}


@pytest.mark.parametrize("row", KTO)
def test_every_spelling_of_a_marked_answer_becomes_the_same(row):
    example = normalise(1, row)
    assert example.row() == {"prompt": CHAT[:1], "completion": CHAT[1:], "label": True}
    assert structure(example) == []


PASSAGE = "Lima lies on the coast of the Pacific, and has been the capital of Peru for long. " * 3
SYSTEM = "Answer in one sentence, as a teacher of geography would answer a class of ten-year-olds."
WITH_MORE = [
    ({"instruction": ASK, "context": PASSAGE, "response": ANSWER}, None),
    ({"instruction": ASK, "input": "<noinput>", "context": PASSAGE, "output": ANSWER}, None),
    ({"question": ASK, "context": PASSAGE, "answer": ANSWER}, None),
    ({"prompt": ASK, "input": PASSAGE, "completion": ANSWER}, None),
    ({"instruction": ASK, "input": PASSAGE, "target": ANSWER}, None),
    ({"system_prompt": SYSTEM, "question": f"{ASK}\n\n{PASSAGE}", "response": ANSWER}, SYSTEM),
    ({"instruction": ASK, "input": PASSAGE, "output": ANSWER, "kto_tag": True}, None),
]


@pytest.mark.parametrize(("row", "system"), WITH_MORE)
def test_what_a_question_is_about_and_the_system_prompt_reach_the_cleaned_file(row, system):
    example = normalise(1, row)
    asked = user(f"{ASK}\n\n{PASSAGE}")
    told = [{"role": "system", "content": system}] if system else []
    assert [*example.messages, *example.chosen] == [*told, asked, CHAT[1]]
    assert "unread_column" not in structure(example)


def test_a_conversation_with_a_system_turn_of_its_own_keeps_that_one():
    own = {"role": "system", "content": "Be brief."}
    example = normalise(1, {"messages": [own, *CHAT], "system_prompt": SYSTEM})
    assert (example.row(), structure(example)) == ({"messages": [own, *CHAT]}, [])


def test_sides_that_repeat_more_than_the_prompt_give_it_all_of_it():
    told = {"role": "system", "content": SYSTEM}
    row = {"prompt": ASK, "chosen": [told, *CHAT], "rejected": [told, CHAT[0], *WORSE]}
    example = normalise(1, row)
    assert example.row() == {"prompt": [told, CHAT[0]], "chosen": CHAT[1:], "rejected": WORSE}
    assert structure(example) == []


NAN_TURNS = '[{"role": "user", "content": "a", "n": NaN}, {"role": "assistant", "content": "b"}]'
HALF_TURNS = NAN_TURNS.replace("NaN", '"\\ud800"')


@pytest.mark.parametrize(
    ("problem", "row"),
    [
        ("unreadable_line", {"messages": NAN_TURNS}),
        ("invalid_unicode", {"messages": HALF_TURNS}),
        ("unreadable_line", {"prompt": ASK, "chosen": NAN_TURNS, "rejected": "c"}),
        ("unreadable_line", {"messages": CHAT, "tools": '[{"name": "a", "least": NaN}]'}),
        ("invalid_unicode", {"messages": CHAT, "tools": '[{"name": "\\udc00"}]'}),
        ("unreadable_line", {"messages": [user("a"), {"role": "function_call", "content":
                             '{"name": "f", "arguments": {"n": Infinity}}'}]}),
        ("invalid_unicode", {"messages": [user("a"), {"role": "function_call", "content":
                             '{"name": "f", "arguments": {"n": "\\ud800"}}'}]}),
    ],
)  # fmt: skip
def test_json_in_a_string_is_refused_as_a_line_of_a_file_is(problem, row):
    example = normalise(1, row)
    assert problem in structure(example)
    assert RULES[problem].removes
    text = json.dumps(example.row(), allow_nan=False, ensure_ascii=False)
    assert text.encode("utf-8")


def test_a_name_twice_in_json_in_a_string_is_said():
    turns = '[{"role": "user", "content": "a", "content": "b"}, {"from": "gpt", "value": "c"}]'
    assert structure(normalise(1, {"messages": turns})) == ["repeated_key"]


@pytest.mark.parametrize(
    "tools", [["weather", "time"], '["weather"]', {"name": "weather"}, "weather", [[]]]
)
def test_tools_that_are_no_list_of_objects_are_a_wrong_type(tools):
    assert structure(normalise(1, {"messages": CHAT, "tools": tools})) == ["wrong_type"]
    assert structure(normalise(1, {"messages": CHAT, "tools": ""})) == []
    called = [CHAT[0], CHAT[1] | {"tool_calls": tools}]
    assert "wrong_type" in structure(normalise(1, {"messages": called}))


def test_the_tools_of_openais_pairs_are_kept():
    row = PAIRS["openai_preference"][0]
    asked = row["input"] | {"tools": [{"type": "function"}], "parallel_tool_calls": True}
    assert normalise(1, row | {"input": asked}).row()["tools"] == [{"type": "function"}]


def test_a_sharegpt_tool_call_becomes_openais():
    row = {
        "conversations": [
            {"from": "human", "value": "Weather in Lima?"},
            {
                "from": "function_call",
                "value": '{"name": "weather", "arguments": {"city": "Lima"}}',
            },
            {"from": "observation", "value": '{"sky": "clear"}'},
            {"from": "gpt", "value": "It is clear."},
        ],
        "tools": '[{"name": "weather"}]',
    }
    example = normalise(1, row)
    assert structure(example) == []
    assert [m["role"] for m in example.messages] == ["user", "assistant", "tool", "assistant"]
    call = example.messages[1]["tool_calls"][0]["function"]
    assert call == {"name": "weather", "arguments": {"city": "Lima"}}
    assert example.row()["tools"] == [{"name": "weather"}]


WRONG = {
    "unknown_role": {"messages": [user("a"), {"role": "narrator", "content": "b"}]},
    "role_order": {"messages": [user("a"), user("b"), assistant("c")]},
    "missing_assistant": {"messages": [user("a")]},
    "empty_answer": {"messages": [user("a"), assistant("  ")]},
    "empty_prompt": {"messages": [user(""), assistant("b")]},
    "empty_turn": {"messages": [user("a"), assistant(""), user("b"), assistant("c")]},
    "ends_with_user": {"messages": [user("a"), assistant("b"), user("c")]},
    "wrong_type": {"messages": [user("a"), {"role": "assistant", "content": 7}]},
    "multimodal": {
        "messages": [user([{"type": "image_url", "image_url": {"url": "x"}}]), assistant("b")]
    },
    "identical_pair": {"prompt": "a", "chosen": "b", "rejected": "b "},
    "chosen_begins_rejected": {"prompt": "a", "chosen": "b", "rejected": "b c"},
}
PAIRED_WRONGLY = [
    ("prompts_differ", [user("a"), assistant("b")], [user("z"), assistant("c")]),
    ("prompts_differ", [user("a"), assistant("b")], [user("a "), assistant("c")]),
    ("missing_assistant", [assistant("b"), user("Thanks!")], WORSE),
    ("empty_answer", [assistant("b"), user("And?"), assistant(" ")], WORSE),
]
WRONG_ROWS = [
    *WRONG.items(),
    *((finding, {"chosen": one, "rejected": other}) for finding, one, other in PAIRED_WRONGLY),
    ("empty_answer", {"prompt": ASK, "completion": None}),
    ("empty_answer", {"text": None}),
    ("unknown_format", {"a": None}),
]


@pytest.mark.parametrize(("finding", "row"), WRONG_ROWS)
def test_each_structural_defect_is_found(finding, row):
    assert finding in structure(normalise(1, row))


LONG = " ".join(
    f"River {name} runs {at} miles to the sea." for at, name in enumerate("abcdefghijklmnop")
)
CONTENTS = {
    "placeholder_answer": ["TODO", "N/A", "<nooutput>", "...", "[insert answer]", "tbd."],
    "refusal": ["I'm sorry, but I can't help with that.", "I cannot assist with this request."],
    "ai_boilerplate": ["As an AI language model I have no taste, but blue is nice."],
    "unfilled_placeholder": ["Hello! I am {{name}}, made by {{ author }}."],
    "control_characters": ["one\x00two", "left \u202e right"],
    "template_markers": ["Fine.<|im_end|>", "[INST] hello [/INST] there"],
    "truncated_answer": [LONG + " And then they went down to the"],
    "repeated_text": ["I like it very much. " * 8],
    "short_answer": ["Yes", "Positive"],
}


@pytest.mark.parametrize(("finding", "answer"), [(k, a) for k, v in CONTENTS.items() for a in v])
def test_each_defect_of_an_answer_is_found(finding, answer):
    assert finding in content("Tell me.", answer, is_text=False)


FINE = [
    "None",
    "42",
    "Sorry is a word of apology, and it comes from Old English.",
    LONG,
    "for (int i = 0; i < 3; i++) { total += i; }\n" * 2,
    "Use `{{ name }}` in the template:\n```\n<p>{{ name }}</p>\n```",
    '{"category": "billing", "priority": "high", "product": "kettle", "order": null}',
]


@pytest.mark.parametrize("answer", FINE)
def test_a_sound_answer_is_left_alone(answer):
    assert set(content("Tell me about it.", answer, is_text=False)) <= {"short_answer"}


def test_every_finding_is_explained_in_the_reference_and_no_other_is():
    page = (Path(__file__).parents[2] / "references" / "data.md").read_text(encoding="utf-8")
    table = page.split("## Findings")[1].split("## Duplicates")[0]
    named = set(re.findall(r"^\| ([a-z0-9_, ]+) \| (?:error|warning|info) \|", table, re.MULTILINE))
    explained = {name for names in named for name in names.split(", ")}
    assert explained == set(RULES)
