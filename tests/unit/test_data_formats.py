"""Formats: each spelling becomes the same example, and what cleaned files have of it."""

import json
import re
from pathlib import Path

import pytest

from ft_tools.data.judge.findings import RULES
from ft_tools.data.judge.text_faults import contents
from ft_tools.data.judge.turn_faults import structure
from ft_tools.data.request import AuditRequest
from ft_tools.data.tool import audit_dataset
from ft_tools.formats.formats import is_as_trained, normalise
from ft_tools.formats.training_rows import survey

ASK, ANSWER = "What is the capital of Peru?", "The capital of Peru is Lima."
AGAIN, MORE = "And of Chile?", "The capital of Chile is Santiago."
FIRST = ("Ada", "Bo", "Cy", "Dee", "Ed", "Flo", "Gus", "Hal", "Ina", "Jo", "Kim", "Lou")
NAMES = [f"{first}{last}" for first in FIRST for last in "klmnr"]


def user(text=ASK):
    return {"role": "user", "content": text}


def assistant(text=ANSWER, **more):
    return {"role": "assistant", "content": text, **more}


CHAT = [user(), assistant()]
WORSE = [assistant("No idea.")]
SFT = {
    "openai_messages": [
        {"messages": CHAT},
        {"messages": [user([{"type": "text", "text": ASK}]), CHAT[1]]},
        {"conversations": CHAT},
        CHAT,
        {"messages": CHAT, "chosen": None, "rejected": None, "prompt": None},
        {"messages": [turn | {"from": None, "value": None} for turn in CHAT]},
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
        {"instruction": ASK, "context": "", "response": ANSWER, "category": "qa"},
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
PAIRS = {
    "preference_explicit": [
        {"prompt": ASK, "chosen": ANSWER, "rejected": "No idea."},
        {"prompt": CHAT[:1], "chosen": CHAT[1:], "rejected": WORSE},
        {"prompt": ASK, "chosen": CHAT, "rejected": CHAT[:1] + WORSE},
        # HuggingFaceH4/ultrafeedback_binarized
        {"prompt": ASK, "chosen": CHAT, "rejected": CHAT[:1] + WORSE, "messages": CHAT, "score": 8},
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


SPELLED = [
    *((name, row, {"messages": CHAT}) for name, rows in SFT.items() for row in rows),
    *(
        (name, row, {"prompt": CHAT[:1], "chosen": CHAT[1:], "rejected": WORSE})
        for name, rows in PAIRS.items()
        for row in rows
    ),
    *(("kto", row, {"prompt": CHAT[:1], "completion": CHAT[1:], "label": True}) for row in KTO),
]


@pytest.mark.parametrize(("name", "row", "wanted"), SPELLED)
def test_every_spelling_becomes_the_same_example(name, row, wanted):
    example = normalise(1, row)
    assert (example.format, example.row()) == (name, wanted)
    assert set(structure(example)) <= {"placeholder_input", "implicit_prompt"}


LONG = [user(), assistant(), user(AGAIN), assistant(MORE)]
TOOL = {"name": "weather", "description": "of a town", "parameters": {"town": {"type": "str"}}}
CALL = {"name": "weather", "arguments": {"town": "Lima"}}
NO_TOWN = {"name": "weather", "arguments": {}}
CALLED = {
    "role": "assistant",
    "content": "",
    "tool_calls": [{"type": "function", "function": CALL}],
}
TRANSCRIPT = f"\n\nHuman: {ASK}\n\nAssistant: {ANSWER}\n\nHuman: {AGAIN}\n\nAssistant:"
SHAPES = {
    "xLAM": (
        {"id": 0, "query": ASK, "answers": json.dumps([CALL]), "tools": json.dumps([TOOL])},
        {"messages": [user(), CALLED], "tools": [TOOL]},
    ),
    "ShareGPT with tools": (
        {
            "conversations": [
                {"from": "human", "value": ASK},
                {"from": "function_call", "value": json.dumps(CALL)},
                {"from": "observation", "value": "clear"},
                {"from": "gpt", "value": ANSWER},
            ],
            "tools": json.dumps([TOOL]),
        },
        {
            "messages": [user(), CALLED, {"role": "tool", "content": "clear"}, assistant()],
            "tools": [TOOL],
        },
    ),
    "OpenAI before tools": (
        {
            "messages": [user(), {"role": "assistant", "content": None, "function_call": CALL}],
            "functions": [TOOL],
        },
        {"messages": [user(), CALLED], "tools": [{"type": "function", "function": TOOL}]},
    ),
    "Aya": ({"inputs": ASK, "targets": ANSWER, "language": "English"}, {"messages": LONG[:2]}),
    "Gemini": (
        {
            "systemInstruction": {"role": "system", "parts": [{"text": "Be brief."}]},
            "contents": [
                {"role": "user", "parts": [{"text": "What is the capital "}, {"text": "of Peru?"}]},
                {"role": "model", "parts": [{"text": ANSWER}]},
            ],
        },
        {"messages": [{"role": "system", "content": "Be brief."}, user(), assistant()]},
    ),
    "OpenAI's responses": (
        {
            "messages": [
                user([{"type": "input_text", "text": ASK}]),
                assistant([{"type": "output_text", "text": ANSWER}]),
            ]
        },
        {"messages": LONG[:2]},
    ),
    "Anthropic's tools": (
        {
            "messages": [
                user(),
                assistant([{"type": "tool_use", "id": "a", "name": "weather", "input": {}}]),
                user([{"type": "tool_result", "tool_use_id": "a", "content": "clear"}]),
                assistant([{"type": "thinking", "thinking": "Clear."}, {"text": ANSWER}]),
            ]
        },
        {
            "messages": [
                user(),
                assistant("", tool_calls=[{"id": "a", "type": "function", "function": NO_TOWN}]),
                {"role": "tool", "tool_call_id": "a", "content": "clear"},
                assistant(reasoning_content="Clear."),
            ]
        },
    ),
    "Claude on Bedrock": (
        {"prompt": f"\n\nHuman: {ASK}\n\nAssistant:", "completion": ANSWER},
        {"messages": LONG[:2]},
    ),
    "HH-RLHF": (
        {"chosen": f"{TRANSCRIPT} {MORE}", "rejected": f"{TRANSCRIPT} No idea."},
        {"prompt": LONG[:3], "chosen": LONG[3:], "rejected": [assistant("No idea.")]},
    ),
    "HH-RLHF with its prompt": (
        {"prompt": TRANSCRIPT, "chosen": MORE, "rejected": "No idea."},
        {"prompt": LONG[:3], "chosen": LONG[3:], "rejected": [assistant("No idea.")]},
    ),
}


@pytest.mark.parametrize("name", SHAPES)
def test_the_rows_of_a_well_known_set_become_conversations(name):
    row, wanted = SHAPES[name]
    example = normalise(1, row)
    assert example.row() == wanted
    assert set(structure(example)) <= {"implicit_prompt"}
    assert not is_as_trained(example, row)


PASSAGE = "Lima lies on the coast of the Pacific, and has been the capital of Peru for long. " * 3
SYSTEM = "Answer in one sentence, as a teacher of geography would answer a class of ten-year-olds."
WITH_MORE = [
    ({"instruction": ASK, "context": PASSAGE, "response": ANSWER}, None),
    ({"instruction": ASK, "input": "<noinput>", "context": PASSAGE, "output": ANSWER}, None),
    ({"prompt": ASK, "input": PASSAGE, "completion": ANSWER}, None),
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


NOT_LOST = [
    *(
        ("multimodal", {"messages": [user([{"text": ASK}, part]), assistant()]})
        for part in ({"inlineData": {}}, {"functionCall": {"name": "f"}}, {"type": "image_url"})
    ),
    # The questions of MT-Bench are no conversation.
    ("wrong_type", {"turns": [ASK, AGAIN], "category": "x"}),
    ("lone_turn", {"message_id": "1", "text": ASK, "role": "prompter"}),
    ("lone_turn", {"message_id": "1", "text": ASK, "role": "assistant"}),
]


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
    *NOT_LOST,
    *WRONG.items(),
    *((finding, {"chosen": one, "rejected": other}) for finding, one, other in PAIRED_WRONGLY),
    ("empty_answer", {"prompt": ASK, "completion": None}),
    ("empty_answer", {"text": None}),
    ("unknown_format", {"a": None}),
]


@pytest.mark.parametrize(("finding", "row"), WRONG_ROWS)
def test_each_structural_defect_is_found(finding, row):
    assert finding in structure(normalise(1, row))


RIVERS = " ".join(
    f"River {name} runs {at} miles to the sea." for at, name in enumerate("abcdefghijklmnop")
)
CONTENTS = {
    "placeholder_answer": ["TODO", "N/A", "<nooutput>", "...", "[insert answer]", "tbd."],
    "refusal": ["I'm sorry, but I can't help with that.", "I cannot assist with this request."],
    "unfilled_placeholder": ["Hello! I am {{name}}, made by {{ author }}."],
    "control_characters": ["one\x00two", "left \u202e right"],
    "template_markers": ["Fine.<|im_end|>", "[INST] hello [/INST] there"],
    "repeated_text": ["I like it very much. " * 8],
}


@pytest.mark.parametrize(("finding", "answer"), [(k, a) for k, v in CONTENTS.items() for a in v])
def test_each_defect_of_an_answer_is_found(finding, answer):
    assert finding in contents(normalise(1, {"prompt": "Tell me.", "completion": answer}))


FINE = [
    "None",
    "42",
    "Sorry is a word of apology, and it comes from Old English.",
    RIVERS,
    "for (int i = 0; i < 3; i++) { total += i; }\n" * 2,
    "Use `{{ name }}` in the template:\n```\n<p>{{ name }}</p>\n```",
    '{"category": "billing", "priority": "high", "product": "kettle", "order": null}',
]


@pytest.mark.parametrize("answer", FINE)
def test_a_sound_answer_is_left_alone(answer):
    example = normalise(1, {"prompt": "Tell me about it.", "completion": answer})
    assert set(contents(example)) == set()


def test_every_finding_is_explained_in_the_reference_and_no_other_is():
    page = (Path(__file__).parents[2] / "references" / "data.md").read_text(encoding="utf-8")
    table = page.split("## Findings")[1].split("## Duplicates")[0]
    named = set(re.findall(r"^\| ([a-z0-9_, ]+) \| (?:error|warning|info) \|", table, re.MULTILINE))
    explained = {name for names in named for name in names.split(", ")}
    assert explained == set(RULES)


def called(text):
    turns = [{"from": "human", "value": ASK}, {"from": "function_call", "value": text}]
    return {"conversations": turns}


THOUGHT = "Peru lies on the Pacific, and its seat of government is Lima, not Cusco."
# Extraction and classification answer in JSON; so may a question be a list.
EXTRACTED = map(json.dumps, [[{"name": "Lima"}], [{"role": "mayor"}], ["Lima"], [1, 2], []])
READ_AS = [
    ({"prompt": ASK, "completion": ANSWER, "contents": [{"title": "Peru"}]}, CHAT),
    ({"prompt": json.dumps([user()]), "completion": json.dumps([assistant()])}, CHAT),
    *(({"prompt": text, "completion": text}, [user(text), assistant(text)]) for text in EXTRACTED),
    # A call keeps its arguments however it is spelt; what is no JSON is an answer as it stands.
    (called(json.dumps(CALL)), [user(), CALLED]),
    (called(json.dumps([CALL])), [user(), CALLED]),
    (called(json.dumps({"function": CALL})), [user(), CALLED]),
    (called('{"name": "weather", "parameters": {"town": "Lima"}}'), [user(), CALLED]),
    (called("weather(town='Lima')"), [user(), assistant("weather(town='Lima')")]),
    # Templates of reasoning models train on a thought.
    *(
        ({"messages": [user() | {n: None}, answer]}, [user(), answer])
        for n in ("reasoning_content", "thinking", "reasoning")
        for answer in [assistant(**{n: THOUGHT})]
    ),
]


@pytest.mark.parametrize(("row", "messages"), READ_AS)
def test_what_a_text_or_a_turn_holds_is_read_as_what_it_is(row, messages):
    example = normalise(1, row)
    assert (example.row(), structure(example)) == ({"messages": messages}, [])
    assert (THOUGHT in example.texts()[0]) == (THOUGHT in messages[-1].values())
    assert is_as_trained(example, row) == (row.get("prompt") == messages[0]["content"])


def audit(workspace, rows, **arguments):
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (workspace / "d.jsonl").write_text(lines, encoding="utf-8")
    return audit_dataset(AuditRequest(path="d.jsonl", near_duplicates="off", **arguments))


def found(report):
    return {f.id: (f.severity, f.count) for f in report.findings if "untrained" in f.id}


def cleaned(workspace, folder="out"):
    lines = (workspace / folder / "train.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def named(name, **first):
    return [user(f"Who is {name}?"), assistant(f"{name} drafts maps.", **first)]


MARKS = [{"weight": 0}, {"weight": 0.0}, {"train": False}]


@pytest.mark.parametrize("mark", MARKS)
def test_an_answer_that_is_marked_not_to_be_trained_is_not_in_the_completion(workspace, mark):
    rows = [{"messages": [*named(n, **mark), user(n), assistant(f"So {n}.")]} for n in NAMES]
    report = audit(workspace, [*rows[:-1], {"messages": named("Eve")}], output_dir="out")
    assert (report.verdict, found(report)) == ("ready", {"untrained_answer": ("warning", 59)})
    launch = next(step for step in report.next_steps if step.tool == "launch_sft")
    assert launch.arguments["dataset"].endswith("train.jsonl")
    facts = survey(workspace / "out" / "train.jsonl", "sft")
    assert facts.format == "prompt_completion_messages"
    for row in cleaned(workspace):
        assert len(row["completion"]) == 1
        assert all(set(turn) == {"role", "content"} for turn in row["prompt"] + row["completion"])
    assert audit(workspace, cleaned(workspace)).verdict == "ready"
    assert found(audit(workspace, cleaned(workspace))) == {}


def test_what_no_file_can_keep_of_the_marks_is_cut_refused_or_removed(workspace):
    rows = [{"messages": [*named(n), user(n), assistant("So.", weight=0)]} for n in NAMES]
    untrained = {"messages": named("Eve", weight=0)}
    report = audit(workspace, [*rows, untrained], output_dir="out")
    assert found(report) == {"untrained_answer": ("warning", 60)}
    assert report.removed_by == {"missing_assistant": 1}
    assert {len(row["messages"]) for row in cleaned(workspace)} == {2}

    kept = [{"messages": named(n, weight=0) + named(f"{n}'s aunt")} for n in NAMES[:12]]
    both = [{"messages": named(n) + named(f"{n}'s aunt")} for n in NAMES[12:]]
    report = audit(workspace, kept + both, output_dir="both")
    assert (report.verdict, found(report)) == ("not_ready", {"untrained_lost": ("error", 12)})
    # Nor does the cleaned file pass for one without them.
    assert "untrained_lost" in found(audit(workspace, cleaned(workspace, "both")))


PRINTED = [
    {"messages": str(LONG)},
    {"prompt": ASK, "chosen": str(LONG[:2]), "rejected": str(LONG[:2])},
    {"prompt": ASK, "chosen": ANSWER, "rejected": f"[{LONG[0]}\n {LONG[1]}]"},
]


@pytest.mark.parametrize("row", PRINTED)
def test_turns_as_python_prints_them_are_named_and_not_trained_as_text(row):
    assert structure(normalise(1, row))[-1] == "python_turns"
