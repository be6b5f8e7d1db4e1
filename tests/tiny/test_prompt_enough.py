"""Is a prompt enough? Two calls and one short report, through a client, with real processes."""

import json

import anyio
import pytest
from mcp import Client

from ft_tools.concise import MAX_CHARS
from ft_tools.runs.state.records import ENDED
from mcp_server.server import server as ours
from tests.endpoint import serving

pytestmark = [pytest.mark.tiny, pytest.mark.anyio]

TEAMS = {"refund": "billing", "login": "accounts", "crash": "engineering"}
PLACES = ["the garden", "my office", "a hotel in Oslo", "the train", "our kitchen", "the shop"]
SCHEMA = {"type": "object", "properties": {"team": {"enum": list(TEAMS.values())}}}


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def url():
    """An endpoint that knows one answer, and is right only with examples that say how."""

    def reply(_, body):
        return "billing" if len(body["messages"]) < 5 else '{"team": "billing"}'

    with serving(reply) as server:
        yield server.url


TRAINED = "Since I was in {place} the {word} number {i} fails, and nobody has answered me."
FRESH = "Hello team, please look at my {word}: it has been wrong for days ({i}, {place})."


def mails(start, count, wording=TRAINED):
    rows = []
    for i in range(start, start + count):
        word, place = list(TEAMS)[i % 3], PLACES[i // 3 % 6]
        text = wording.format(place=place, word=word, i=i)
        answer = json.dumps({"team": TEAMS[word]})
        turns = [("system", "Sort the mail."), ("user", text), ("assistant", answer)]
        rows.append({"messages": [{"role": role, "content": said} for role, said in turns]})
    return "".join(json.dumps(row) + "\n" for row in rows)


async def called(client, tool, **arguments):
    result = await client.call_tool(tool, arguments)
    text = "".join(part.text for part in result.content)
    assert not result.is_error, text
    return text, result.structured_content


async def test_two_calls_and_a_short_report_say_that_a_classifier_would_do(workspace, url):
    (workspace / "train.jsonl").write_text(mails(0, 120))
    (workspace / "held_out.jsonl").write_text(mails(200, 110, FRESH))
    (workspace / "schema.json").write_text(json.dumps(SCHEMA))
    learned = {"path": "train.jsonl"}
    endpoint = {"url": url, "model": "m"}
    schema = {"json_schema": "schema.json"}
    arguments = {
        "dataset": "held_out.jsonl",
        "target": {"exact_match": 0.9},
        "systems": [
            {"name": "most", "baseline": "majority", "examples": learned},
            {"name": "tfidf", "baseline": "tf_idf", "examples": learned},
            {"name": "nearest", "baseline": "nearest_example", "examples": learned},
            {"name": "prompt", "endpoint": endpoint, "system": "Sort the mail."},
            {"name": "shots", "endpoint": endpoint, "examples": learned, "decoding": schema},
        ],
    }
    async with Client(ours) as client:
        _, plan = await called(client, "evaluate", **arguments)
        _, started = await called(client, "evaluate", **arguments, confirm=plan["plan_hash"])
        with anyio.fail_after(300):
            while True:
                following = {"run_id": started["run_id"], "response_format": "detailed"}
                _, run = await called(client, "get_run", **following)
                if run["state"] in ENDED:
                    break
                await anyio.sleep(0.5)
        text, _ = await called(client, "get_run", run_id=started["run_id"])
    assert run["state"] == "succeeded", run
    result = run["result"]
    assert {one["name"]: one["target"] for one in result["systems"]}["tfidf"] == "met"
    assert result["ranking"][0]["name"] == "tfidf"
    assert result["summary"][-1].startswith("Use tfidf")
    assert result["next_steps"][0]["arguments"] == {"evaluations": [started["run_id"]]}
    assert len(text) < MAX_CHARS + 200
    assert "Use tfidf" in text
