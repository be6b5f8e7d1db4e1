"""A judge over HTTP, from the plan to the report, and when it goes down."""

import json

import pytest

from ft_tools.endpoints import client
from ft_tools.evaluation.worker import evaluate as worker
from ft_tools.runs.processes.worker_session import Session
from ft_tools.runs.processes.worker_session import _run as session_run
from ft_tools.runs.state import directory
from tests.endpoint import serving
from tests.tiny.evaluating import (
    LIBRARY_WARNINGS,
    answered_beforehand,
)

pytestmark = [
    pytest.mark.tiny,
    *LIBRARY_WARNINGS,
]


@pytest.fixture
def judge():
    """A judge that prefers the longer answer, until its calls are used up; then it is down."""

    def reply(_, body):
        if len(server.questions) > server.good_calls:
            return 503
        pair = json.loads(body["messages"][0]["content"].split("\n")[2])
        better = "A" if len(pair["answer_A"]) > len(pair["answer_B"]) else "B"
        return json.dumps({"better": better})

    with serving(reply) as server:
        server.good_calls = 8
        yield server


def test_a_judge_that_goes_down_loses_nothing_and_a_resumed_run_asks_only_the_rest(
    workspace, taught_model, judge, monkeypatch
):
    monkeypatch.setattr(client, "FIRST_WAIT_SECONDS", 0.0)
    texts = {"baseline": ["short"] * 20, "tuned": ["rather a longer answer"] * 20}
    run_dir = answered_beforehand(
        workspace, taught_model, [f"It is {i}" for i in range(20)], texts,
        metrics=["exact_match", "judge"], judge_model="m", judge_url=judge.url,
    )  # fmt: skip
    outputs = (run_dir / "outputs.jsonl").read_bytes()
    assert session_run(Session(run_dir), worker.work) == 1
    status = directory.read_status(run_dir)
    assert (status.state, status.error.code) == ("failed", "judge_unavailable")
    assert "resume_run" in status.error.message
    assert len((run_dir / "judge_replies.jsonl").read_text().splitlines()) == 8
    page = (run_dir / "report.html").read_text()
    assert "exact_match" in page
    assert "judge_unfinished: the judge saw" in page

    judge.questions.clear()
    judge.good_calls = 100
    assert session_run(Session(run_dir), worker.work) == 0
    assert len(judge.questions) == 2 * 20 - 8
    assert (run_dir / "outputs.jsonl").read_bytes() == outputs
    found = {
        row["metric"]: row for row in directory.read_json(run_dir / "report.json")["comparisons"]
    }
    assert found["judge"]["num_examples"] == 20
    assert found["judge"]["verdict"] == "improved"
    notes = directory.read_json(run_dir / "report.json")["notes"]
    assert "judge_length: judge: the preferred answer was the longer one in 100%" in str(notes)
