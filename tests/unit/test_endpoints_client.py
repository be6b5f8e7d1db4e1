"""Endpoints against a real server on loopback that refuses, stalls, breaks off and dies."""

import json
import time
from collections import Counter

import pytest

from ft_tools.endpoints import client
from ft_tools.endpoints.budget import Budget, BudgetUsedUp
from ft_tools.endpoints.client import Client, EndpointUnavailable, question_for, schema_option
from ft_tools.endpoints.spec import Endpoint, Price
from ft_tools.errors import BadInput
from ft_tools.evaluation.plan import make_plan
from ft_tools.evaluation.request import EvaluateRequest
from ft_tools.evaluation.systems.models import find_models
from tests.endpoint import PRICE as PRICES
from tests.endpoint import serving

CANARY = "sk-canary-5d1f0c"
OPENED = []
# Long enough that a busy machine answers within it.
TIMEOUT, STALL = 2.0, 2.3
PRICE = Price(**PRICES)


@pytest.fixture
def server(monkeypatch):
    """Answer each question with itself; what goes wrong is decided by `server.trouble`."""

    def reply(question, body):
        server.asked[question] += 1
        server.bodies.append(body)
        trouble = server.trouble(server.asked.total(), question)
        if trouble is not None:
            return trouble
        server.answered[question] += 1
        choice = {"message": {"content": f"echo {question}"}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 10, "completion_tokens": 5}
        return {"model": "m-2026", "choices": [choice], "usage": usage}

    monkeypatch.setattr(client, "FIRST_WAIT_SECONDS", 0.01)
    with serving(reply) as server:
        server.asked, server.answered, server.bodies = Counter(), Counter(), []
        server.trouble = lambda number, question: None
        yield server
        while OPENED:
            OPENED.pop().close()


def spec_of(server, **more):
    return Endpoint(url=server.url, model="m", **{"max_calls": 500, "timeout_seconds": 30} | more)


def asking(tmp_path, server, price=None, cached=False, **more):
    endpoint = spec_of(server, **more)
    budget = Budget(tmp_path / "calls.jsonl", "e", endpoint.max_calls, endpoint.max_usd)
    client_ = Client(endpoint, price, budget, tmp_path / "replies.jsonl" if cached else None)
    OPENED.append(client_)
    return client_, budget


def asked(client_, count, should_stop=lambda: False, **options):
    turns = [[{"role": "user", "content": f"question {i}"}] for i in range(count)]
    options = {"temperature": 0.0} | options
    questions = [question_for(client_.endpoint, one, 16, **options) for one in turns]
    return client_.ask_all(questions, should_stop)


def collect(client_, count, found, **options):
    for batch in asked(client_, count, **options):
        for i, answered in batch:
            assert i not in found
            found[i] = answered


def collected(client_, count, **options):
    found = {}
    collect(client_, count, found, **options)
    return found


def test_refusals_timeouts_and_broken_answers_are_retried_and_each_answer_is_kept_once(
    tmp_path, server
):
    troubles = {3: 429, 7: 503, 11: STALL, 15: 0.0, 19: 429, 20: 500}
    server.trouble = lambda number, question: troubles.get(number)
    system, budget = asking(tmp_path, server, timeout_seconds=TIMEOUT)
    found = collected(system, 40)
    assert {i: one.text for i, one in found.items()} == {i: f"echo question {i}" for i in range(40)}
    assert set(server.answered.values()) == {1}
    assert budget.num_calls == sum(server.asked.values()) == 46


def test_the_call_budget_is_never_exceeded_and_what_was_answered_is_given(tmp_path, server):
    server.trouble = lambda number, question: 429 if number % 2 else None
    system, budget = asking(tmp_path, server, max_calls=25)
    found = {}
    with pytest.raises(BudgetUsedUp, match="all 25 calls are used"):
        collect(system, 40, found)
    assert sum(server.asked.values()) == budget.num_calls == 25
    assert len(found) == sum(server.answered.values())


def test_the_dollar_budget_counts_the_highest_possible_price_of_what_is_under_way(tmp_path, server):
    # Each answer costs 0.02 USD; before it is known, the request's bytes and 16 tokens count.
    system, budget = asking(tmp_path, server, price=PRICE, max_usd=1.0, max_concurrency=8)
    found = {}
    with pytest.raises(BudgetUsedUp, match="could cost"):
        collect(system, 200, found)
    assert budget.usd <= 1.0
    assert sum(server.answered.values()) * 0.02 == pytest.approx(budget.usd)
    assert 20 < len(found) <= 50


def test_a_call_whose_outcome_is_unknown_keeps_its_highest_price(tmp_path, server):
    server.trouble = lambda number, question: STALL if number == 1 else None
    more = {"max_usd": 10.0, "timeout_seconds": TIMEOUT}
    system, budget = asking(tmp_path, server, price=PRICE, **more)
    collected(system, 1)
    assert budget.num_calls == 2
    assert budget.usd > 0.02 + 0.1


def test_a_restart_counts_what_the_killed_process_had_under_way(tmp_path):
    path = tmp_path / "calls.jsonl"
    killed = Budget(path, "e", 10, 1.0)
    killed.settle(killed.reserve(0.4), 0.1)
    killed.reserve(0.5)
    with path.open("a") as stream:
        stream.write('{"system": "e", "ca')
    again = Budget(path, "e", 10, 1.0)
    assert (again.num_calls, again.usd) == (2, pytest.approx(0.6))
    with pytest.raises(BudgetUsedUp, match=r"0\.6000 USD of 1 are spent"):
        again.reserve(0.5)
    assert Budget(path, "other", 10, None).num_calls == 0


def test_a_stop_gives_what_is_under_way_and_asks_nothing_new(tmp_path, server):
    server.trouble = lambda number, question: time.sleep(0.02)
    stopping = []
    system, _ = asking(tmp_path, server, max_concurrency=4)
    found = {}
    for batch in asked(system, 100, lambda: bool(stopping)):
        found |= dict(batch)
        stopping.append(True)
    assert 1 <= len(found) <= 8
    assert len(found) == sum(server.asked.values())


def test_a_stop_does_not_wait_for_retries(tmp_path, server, monkeypatch):
    monkeypatch.setattr(client, "FIRST_WAIT_SECONDS", 60.0)
    server.trouble = lambda number, question: 429
    system, _ = asking(tmp_path, server, max_concurrency=2)
    began = time.monotonic()
    found = list(asked(system, 5, lambda: sum(server.asked.values()) >= 2))
    assert time.monotonic() - began < 20
    assert (found, sum(server.asked.values())) == ([], 2)


def test_a_refusal_that_will_not_pass_is_not_retried_and_the_servers_words_are_not_shown(
    tmp_path, server, monkeypatch
):
    server.trouble = lambda number, question: 401
    system, _ = asking(tmp_path, server, max_concurrency=1)
    with pytest.raises(EndpointUnavailable, match=r"HTTP status 401, 1 attempt\)") as raised:
        collected(system, 1)
    assert "secret detail" not in str(raised.value)
    monkeypatch.setattr(client, "MAX_RETRIES", 1)
    gone = Endpoint(url="http://127.0.0.1:9/v1", model="m", max_calls=10)
    nobody = Client(gone, None, Budget(tmp_path / "c", "e", 10, None))
    OPENED.append(nobody)
    with pytest.raises(EndpointUnavailable, match=r"127\.0\.0\.1:9 failed \(ConnectError"):
        collected(nobody, 1)


def test_the_key_is_sent_and_stands_nowhere_else(tmp_path, server, monkeypatch):
    monkeypatch.setenv("CANARY_KEY", CANARY)
    system, _ = asking(tmp_path, server, key_variable="CANARY_KEY")
    server.trouble = lambda number, question: 403 if number == 2 else None
    with pytest.raises(EndpointUnavailable) as raised:
        collected(system, 3)
    assert set(server.keys) == {f"Bearer {CANARY}"}
    assert CANARY not in str(raised.value) + (tmp_path / "calls.jsonl").read_text()
    assert CANARY not in str(server.bodies)


@pytest.mark.parametrize("kind", ["json_schema", "json_object"])
def test_a_schema_is_sent_as_the_server_takes_it(tmp_path, server, kind):
    endpoint = spec_of(server, response_format=kind)
    budget = Budget(tmp_path / "calls.jsonl", "e", 10, None)
    schema = {"type": "object"}
    options = {"temperature": 0.5} | schema_option(kind, schema)
    OPENED.append(Client(endpoint, None, budget))
    collected(OPENED[-1], 1, **options)
    (body,) = server.bodies
    sent = body["response_format"]
    assert sent["type"] == kind
    assert (sent if kind == "json_object" else sent["json_schema"])["schema"] == schema
    assert (body["temperature"], body["max_tokens"], body["model"]) == (0.5, 16, "m")


def planned(workspace, **endpoint):
    rows = [{"prompt": f"Where is parcel {i}?", "completion": "Oslo"} for i in range(20)]
    for name in ("held.jsonl", "train.jsonl"):
        lines = [json.dumps({**row, "prompt": row["prompt"] + name}) for row in rows]
        (workspace / name).write_text("\n".join(lines) + "\n")
    systems = [
        {"name": "most", "baseline": "majority", "examples": {"path": "train.jsonl"}},
        {
            "name": "api",
            "endpoint": {"url": "https://api.example/v1", "model": "m"} | endpoint,
            "system": "Answer with the town.",
        },
    ]
    request = EvaluateRequest(systems=systems, dataset="held.jsonl", metrics=["exact_match"])
    return request, make_plan(request, find_models(request))


def test_the_plan_says_what_leaves_the_machine_and_what_it_may_cost(workspace, monkeypatch):
    monkeypatch.setenv("CANARY_KEY", CANARY)
    request, plan = planned(workspace, key_variable="CANARY_KEY", max_calls=30)
    (line,) = [line for line in plan.warnings if line.startswith("texts_sent: api: 20 texts")]
    assert "leave this machine" in line
    assert "api.example (max_calls 30)" in line
    assert plan.systems[1].estimated_input_tokens > 20 * 5
    assert CANARY not in plan.model_dump_json() + request.model_dump_json()
    with pytest.raises(BadInput, match="needs 20 calls, max_calls is 10"):
        planned(workspace, max_calls=10)
    with pytest.raises(BadInput, match="NO_SUCH_KEY is not set"):
        planned(workspace, key_variable="NO_SUCH_KEY")
    # Answers that were sampled otherwise are not reused.
    sampled = [planned(workspace, sampling={name: 1})[1] for name in ("repeat_penalty", "top_k")]
    assert len({one.systems[1].answers_key for one in (plan, *sampled)}) == 3
