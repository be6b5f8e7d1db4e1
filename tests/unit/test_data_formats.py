"""Formats: each spelling becomes the same example."""

import re
from pathlib import Path

import pytest

from ft_tools.data.checks import content, structure
from ft_tools.data.findings import RULES
from ft_tools.data.formats import detect, normalise

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
    ],
}
PAIRS = {
    "preference_explicit": [
        {"prompt": ASK, "chosen": ANSWER, "rejected": "No idea."},
        {"prompt": CHAT[:1], "chosen": CHAT[1:], "rejected": WORSE},
        {"prompt": ASK, "chosen": CHAT, "rejected": CHAT[:1] + WORSE},
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
    assert (example.format, detect(row)) == (name, name)
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


def test_columns_name_what_is_unusual():
    row = {"frage": ASK, "antwort": ANSWER, "id": 7}
    assert detect(row) == "unknown"
    example = normalise(1, row, {"prompt": "frage", "completion": "antwort"})
    assert example.row() == {"messages": CHAT}


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


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


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
    "prompts_differ": {
        "chosen": [user("a"), assistant("b")],
        "rejected": [user("z"), assistant("c")],
    },
}


@pytest.mark.parametrize("finding", WRONG)
def test_each_structural_defect_is_found(finding):
    assert finding in structure(normalise(1, WRONG[finding]))


def test_a_space_in_the_user_turn_is_not_trained_as_an_answer():
    row = {
        "chosen": [user("a"), assistant("b")],
        "rejected": [user("a "), assistant("c")],
    }
    assert "prompts_differ" in structure(normalise(1, row))


LONG = " ".join(
    f"River {name} runs {at} miles to the sea." for at, name in enumerate("abcdefghijklmnop")
)
SAID = {
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


@pytest.mark.parametrize(("finding", "answer"), [(k, a) for k, v in SAID.items() for a in v])
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
