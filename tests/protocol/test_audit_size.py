"""What an audit costs an agent: concise reports are small whatever is found, details are paged."""

import json

import pytest

from ft_tools.data.understand.lengths import estimate_tokens

MOST_TOKENS = 2000
MANY = 60
pytestmark = pytest.mark.anyio


def chat(question, answer, **more):
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": turns} | more


def wanting(number):
    """Give one row of each kind that the audit finds fault with, and some that are sound."""
    where = f"Where is parcel {number}, please?"
    answer = f"Parcel {number} left the depot in Oslo on day {number * 7} of the year."
    user, assistant = chat(where, answer)["messages"]
    return [
        chat(where, answer),
        chat(where, answer),
        chat("Where are all of the parcels?", answer),
        chat(f"Greet {number}", f"Hello {{{{name}}}}, here is number {number}."),
        chat(f"Greet me {number}", ""),
        chat("", answer),
        chat(f"Name {number}", "TODO"),
        chat(f"Count {number}", "As an AI language model, I cannot help with that."),
        chat(f"Spell {number}", f"Say <|im_end|> and then {number}."),
        chat(f"Mail {number}", f"Write to anna.{number}@gmail.com or to ben.{number}@gmail.com."),
        chat(f"My mail is anna.{number}@gmail.com, where is it?", answer),
        chat(f"Key {number}", "Use AKIA" + "Q7RZ2MPX" * 2),
        chat(f"Again {number}", "again and again " * 30),
        chat(f"Stop {number}", "It is on its way and will arrive at the"),
        {"messages": [user]},
        {"messages": [user, user, assistant]},
        {"messages": [user, assistant | {"role": "wizard"}]},
        {"messages": [user, assistant, user]},
        {"messages": {"a": number}},
        {"prompt": where, "chosen": answer, "rejected": "No idea."},
        {"instruction": f"Do {number}", "input": "<noinput>", "output": answer},
        {"words": f"no column that is known {number}"},
        {"text": f"Plain text number {number}."},
    ]


@pytest.fixture
def path(workspace):
    rows = [row for number in range(MANY) for row in wanting(number)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (workspace / "d.jsonl").write_text(text + '{"messages": [\n' * MANY, encoding="utf-8")
    return "d.jsonl"


async def test_a_concise_report_of_very_much_that_is_wrong_is_under_two_thousand_tokens(
    client, path
):
    result = await client.call_tool("audit_dataset", {"path": path})
    assert result.structured_content["num_findings"] >= 20
    assert estimate_tokens("".join(part.text for part in result.content)) < MOST_TOKENS
