"""Twenty planted test questions, word for word and paraphrased, enter no file of create_dataset.

With the real MiniLM: a paraphrase is what only meaning shows.
"""

import json

import pytest

from ft_tools.similarity.minilm import find_minilm
from tests.creating import chat, read, run_here, write
from tests.endpoint import serving

pytestmark = [
    pytest.mark.tiny,
    pytest.mark.skipif(find_minilm() is None, reason="all-MiniLM-L6-v2 is not on this machine"),
]
QUESTIONS = """
When does the library open on Saturday? | What time does the library open on Saturdays?
How much does a dog licence cost per year? | What is the yearly cost of a dog licence?
Where can I drop off old paint? | Where can old paint be dropped off?
Who repairs broken street lamps in the town? | Who fixes broken street lamps in town?
How do I register a newborn child? | How can I register my newborn child?
Which documents do I need for a passport? | What documents are needed for a passport?
When is the garden waste collected? | When do you collect garden waste?
How long is a parking permit valid? | How long does a parking permit stay valid?
Can I pay the water bill in instalments? | Is it possible to pay my water bill in instalments?
Where is the nearest charging point for cars? | Where is the nearest car charging point?
Who is allowed to use the sports hall? | Who may use the sports hall?
How do I report a pothole? | How can I report a pothole in the road?
What does a swimming course for children cost? | How much does a children's swimming course cost?
When must I cut my hedge? | When do I have to cut my hedge?
How can I change my registered address? | How do I change the address I am registered at?
Is the town hall closed on Friday afternoon? | Is the town hall closed Friday afternoons?
Where do I apply for housing benefit? | Where can I apply for the housing benefit?
How many trees may I fell in my garden? | How many trees am I allowed to fell in my garden?
Who pays for the repair of a pavement? | Who has to pay for repairing a pavement?
When does the weekly market take place? | When is the weekly market held?
"""
HELD_OUT = dict(line.split(" | ") for line in QUESTIONS.strip().splitlines())
"""Test question -> a paraphrase."""
OWN = [
    f"My {thing} has stopped after {days} days, what now?"
    for days in range(3, 10)
    for thing in ("bread oven", "violin", "telescope")
]
EDITED = (str, str.upper, "Good morning! {} Thank you.".format, lambda text: text.rstrip("?"))


def planted():
    """Return the test questions, some edited, and their paraphrases."""
    verbatim = [EDITED[at % 4](text) for at, text in enumerate(HELD_OUT)]
    return [*verbatim, *HELD_OUT.values()]


def made(workspace, **arguments):
    """Return what was dropped, and all that the files for training say."""
    write(workspace / "test.jsonl", [chat(question, "-") for question in HELD_OUT])
    _, report = run_here(workspace, output_dir="made", test="test.jsonl", **arguments)
    rows = [
        row
        for name in ("train", "validation")
        for row in read(workspace / "made" / f"{name}.jsonl")
    ]
    return report, rows


def plain(text):
    return "".join(char for char in text.lower() if char.isalnum())


def leaked(rows):
    """Return the planted texts that a row holds in any turn."""
    said = [plain(turn["content"]) for row in rows for turn in row["messages"]]
    known = [*HELD_OUT, *HELD_OUT.values()]
    return [text for text in known if any(plain(text) in turn for turn in said)]


def teacher(server, **more):
    endpoint = {"url": server.url, "model": "big"}
    return {"teacher": {"endpoint": endpoint}, "provider": "open_licence", "pilot_rows": 0} | more


def test_none_of_them_is_asked_or_trained_among_prompts(workspace):
    write(workspace / "prompts.jsonl", [{"prompt": text} for text in [*OWN, *planted()]])
    with serving(lambda *_: "Have it looked at.") as server:
        report, rows = made(workspace, source="prompts.jsonl", kind="answers", **teacher(server))
    assert leaked(rows) == []
    assert leaked([{"messages": [{"content": text}]} for text in server.questions]) == [
        *HELD_OUT.values()
    ]
    assert report.dropped == {"test_paraphrase": 20}
    assert len(rows) == len(OWN)


def test_none_of_them_is_trained_from_documents_that_ask_them(workspace):
    (workspace / "docs").mkdir()
    for at, text in enumerate(planted()):
        about = OWN[at % len(OWN)]
        (workspace / "docs" / f"{at}.md").write_text(
            f"# Note {at}\n\nCall us about it.\n\n{text}\n"
        )
        (workspace / "docs" / f"{at}own.md").write_text(
            f"# Note {at}\n\nCall {at} times: {about}\n"
        )

    def ask(question, _):
        passage = json.loads(question[question.index('{"text"') :])["text"]
        asked = passage.splitlines()[-1].rpartition(": ")[2]
        one = {"question": asked, "answer": "Call us.", "quotes": [passage.splitlines()[2]]}
        other = {"question": "Whom do I call?", "answer": "Call us.", "quotes": one["quotes"]}
        return json.dumps({"examples": [one, other]})

    with serving(ask) as server:
        arguments = {"source": "docs", "kind": "documents", "unanswerable_fraction": 0}
        report, rows = made(workspace, **arguments, **teacher(server))
    # A paraphrase that a passage mentions is nothing that the row asks.
    assert set(leaked(rows)) <= set(HELD_OUT.values())
    assert not any(
        turn["content"].endswith(text)
        for row in rows
        for turn in row["messages"]
        for text in planted()
    )
    assert report.dropped["test_question"] >= 40
    assert report.dropped["test_paraphrase"] == 20
    assert len(rows) > 40


def test_none_of_them_is_trained_from_logs_at_any_turn(workspace):
    turns = [
        {"role": "user", "content": "Hello, who are you?"},
        {"role": "assistant", "content": "The town's desk."},
    ]
    logs = []
    for at, text in enumerate([*OWN, *planted()]):
        asked = {"role": "user", "content": text}
        more = [
            {"role": "assistant", "content": "Call us."},
            {"role": "user", "content": f"And on day {at}?"},
        ]
        answer = {"message": {"role": "assistant", "content": f"Closed on {at}."}}
        logs.append({"messages": [*turns, asked, *more], "choices": [answer]})
    call = {"id": "c", "type": "function", "function": {"name": "faq", "arguments": {}}}
    for at, text in enumerate(HELD_OUT):
        found = {"role": "tool", "tool_call_id": "c", "content": f"Found {at}: {text} Call us."}
        asked = {"role": "user", "content": f"Look number {at} up."}
        messages = [asked, {"role": "assistant", "content": None, "tool_calls": [call]}, found]
        logs.append({"messages": messages, "choices": [{"message": turns[1]}]})
    write(workspace / "logs.jsonl", logs)
    keep = "not_failed"
    report, rows = made(workspace, source="logs.jsonl", kind="traces", keep=keep)
    assert leaked(rows) == []
    assert report.dropped == {"test_question": 40, "test_paraphrase": 20}
    assert report.num_kept == len(OWN)
