"""Rows of well-known sets, as their publishers spell them, and what cleaned files have of them."""

import json

import pytest

from ft_tools.data.judge.turn_order import structure
from ft_tools.data.read.example_texts import text_of
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


LONG = [user(), assistant(), user(AGAIN), assistant(MORE)]
TOOL = {"name": "weather", "description": "of a town", "parameters": {"town": {"type": "str"}}}
CALL = {"name": "weather", "arguments": {"town": "Lima"}}
CALLED = {
    "role": "assistant",
    "content": "",
    "tool_calls": [{"type": "function", "function": CALL}],
}
TRANSCRIPT = f"\n\nHuman: {ASK}\n\nAssistant: {ANSWER}\n\nHuman: {AGAIN}\n\nAssistant:"
SHAPES = {
    "LIMA": ({"conversations": [ASK, ANSWER, AGAIN, MORE], "source": "x"}, {"messages": LONG}),
    "LIMA in CSV": ({"conversations": json.dumps([ASK, ANSWER])}, {"messages": LONG[:2]}),
    "Capybara": (
        {"conversation": [{"input": ASK, "output": ANSWER}, {"input": AGAIN, "output": MORE}]},
        {"messages": LONG},
    ),
    "xLAM": (
        {"id": 0, "query": ASK, "answers": json.dumps([CALL]), "tools": json.dumps([TOOL])},
        {"messages": [user(), CALLED], "tools": [TOOL]},
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
                {"role": "user", "content": [{"type": "input_text", "text": ASK}]},
                {"role": "assistant", "content": [{"type": "output_text", "text": ANSWER}]},
            ]
        },
        {"messages": LONG[:2]},
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


@pytest.mark.parametrize(("finding", "row"), NOT_LOST)
def test_what_is_no_text_of_a_conversation_is_not_lost_in_silence(finding, row):
    assert finding in structure(normalise(1, row))
    assert structure(normalise(1, {"text": ASK, "role": "CEO"})) == []


def test_contents_that_are_no_turns_are_what_an_example_may_have_beside():
    row = {"prompt": ASK, "completion": ANSWER, "contents": [{"title": "Peru"}]}
    assert normalise(1, row).row() == {"messages": LONG[:2]}


@pytest.mark.parametrize("name", ["LIMA", "Capybara", "Gemini"])
def test_no_trainer_knows_who_speaks_where_no_turn_says_it(workspace, name):
    report = audit(workspace, [SHAPES[name][0]] * 12)
    assert {one.trained for one in report.trainer_survival} == {0}


EXTRACTED = [
    [{"name": "Lima", "type": "city"}],
    [{"role": "mayor", "name": "Ada"}],
    ["Lima", "Cusco"],
    [1, 2],
    [],
]


@pytest.mark.parametrize("value", EXTRACTED)
def test_json_in_a_text_that_is_no_conversation_is_the_text_to_answer(value):
    """Extraction and classification answer in JSON; so may a question be a list."""
    text = json.dumps(value)
    row = {"prompt": text, "completion": text}
    example = normalise(1, row)
    assert example.row() == {"messages": [user(text), assistant(text)]}
    assert (structure(example), is_as_trained(example, row)) == ([], True)
    pair = normalise(1, {"prompt": ASK, "chosen": text, "rejected": "[0]"})
    assert (pair.chosen, pair.rejected) == ([assistant(text)], [assistant("[0]")])
    assert structure(pair) == []


def test_a_conversation_in_a_text_is_still_one():
    turns, answer = json.dumps([user()]), json.dumps([assistant()])
    assert normalise(1, {"prompt": turns, "completion": answer}).row() == {"messages": LONG[:2]}


SPELT = [CALL, {"name": "weather", "parameters": {"town": "Lima"}}, [CALL], {"function": CALL}]


@pytest.mark.parametrize("call", SPELT)
def test_a_call_keeps_its_arguments_however_it_is_spelt(call):
    turns = [{"from": "human", "value": ASK}, {"from": "function_call", "value": json.dumps(call)}]
    assert normalise(1, {"conversations": turns}).messages == [user(), CALLED]


def test_a_call_that_is_no_json_is_an_answer_as_it_stands():
    text = "weather(town='Lima')"
    turns = [{"from": "human", "value": ASK}, {"from": "function_call", "value": text}]
    assert normalise(1, {"conversations": turns}).messages == [user(), assistant(text)]
    empty = [*turns[:1], {"from": "function_call", "value": ""}]
    assert "empty_answer" in structure(normalise(1, {"conversations": empty}))


@pytest.mark.parametrize("name", ["reasoning_content", "thinking", "reasoning"])
def test_what_an_answer_was_thought_out_with_stays_in_it(name):
    """Templates of reasoning models train on it; it is no less of the answer than its text."""
    thought = "Peru lies on the Pacific, and its seat of government is Lima, not Cusco."
    row = {"messages": [user() | {name: None}, assistant(**{name: thought})]}
    example = normalise(1, row)
    assert example.row() == {"messages": [user(), assistant(**{name: thought})]}
    assert thought in text_of(example.messages)
    assert thought in example.texts()[0]


def audit(workspace, rows, **arguments):
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (workspace / "d.jsonl").write_text(lines, encoding="utf-8")
    return audit_dataset(AuditRequest(path="d.jsonl", near_duplicates="off", **arguments))


def found(report):
    return {f.id: (f.severity, f.count) for f in report.findings if "untrained" in f.id}


def cleaned(workspace):
    lines = (workspace / "out" / "train.jsonl").read_text(encoding="utf-8").splitlines()
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


def test_what_stands_behind_the_last_trained_answer_is_cut(workspace):
    rows = [{"messages": [*named(n), user(n), assistant("So.", weight=0)]} for n in NAMES]
    report = audit(workspace, rows, output_dir="out")
    assert found(report) == {"untrained_answer": ("warning", 60)}
    assert [len(row["messages"]) for row in cleaned(workspace)] == [2] * 54


def test_marks_that_no_file_can_keep_beside_other_rows_need_a_person(workspace):
    kept = [{"messages": named(n, weight=0) + named(f"{n}'s aunt")} for n in NAMES[:12]]
    both = [{"messages": named(n) + named(f"{n}'s aunt")} for n in NAMES[12:]]
    report = audit(workspace, kept + both, output_dir="out")
    assert (report.verdict, found(report)) == ("not_ready", {"untrained_lost": ("error", 12)})
    # Nor does the cleaned file pass for one without them.
    assert "untrained_lost" in found(audit(workspace, cleaned(workspace)))


def test_a_conversation_of_which_nothing_is_to_be_trained_is_removed(workspace):
    rows = [{"messages": named(n)} for n in NAMES]
    report = audit(workspace, [*rows, {"messages": named("Eve", weight=0)}])
    assert report.removed_by == {"missing_assistant": 1}


def test_the_answers_in_a_prompt_of_turns_stay_out_of_the_loss(workspace):
    rows = [{"prompt": [*named(n), user(n)], "completion": [assistant(f"So {n}.")]} for n in NAMES]
    report = audit(workspace, rows)
    assert (found(report), report.verdict) == ({}, "ready")
    audit(workspace, rows, output_dir="out")
    kept = cleaned(workspace)
    assert kept
    assert [row for row in kept if row not in rows] == []


PRINTED = [
    {"messages": str(LONG)},
    {"prompt": ASK, "chosen": str(LONG[:2]), "rejected": str(LONG[:2])},
    {"prompt": ASK, "chosen": ANSWER, "rejected": f"[{LONG[0]}\n {LONG[1]}]"},
]


@pytest.mark.parametrize("row", PRINTED)
def test_turns_as_python_prints_them_are_named_and_not_trained_as_text(workspace, row):
    report = audit(workspace, [row] * 12)
    assert report.removed_by == {"python_turns": 12}
    assert {f.id for f in report.findings if f.severity == "error"} == {"python_turns"}
