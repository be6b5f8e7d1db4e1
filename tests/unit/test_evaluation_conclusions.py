"""Sentences, gate, page, model card, and the judge."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from ft_tools.errors import BadInput
from ft_tools.evaluation import judge as judge_module
from ft_tools.evaluation.conclude import (
    gate,
    model_card,
    next_steps,
    notes_that_hold,
    reasons,
    summarise,
)
from ft_tools.evaluation.document import Sample, document, marked
from ft_tools.evaluation.held_out import HeldOut
from ft_tools.evaluation.judge import JudgeUnavailable, endpoint, judge_all
from ft_tools.evaluation.reports import EvaluationReport
from ft_tools.evaluation.scoring import Settings, changed_lines, compare_scores

SETTINGS = Settings(seed=0, smallest_effect=0.1)


def report(before, after, general=None, **more):
    rows = compare_scores(before, after, SETTINGS)
    kept = compare_scores(*general, SETTINGS) if general else []
    made = EvaluationReport(
        tuned="sft-1", baseline="base", summary=[], comparisons=rows, general_ability=kept, **more
    )
    return made.model_copy(update={"summary": summarise(made)})


@pytest.fixture
def better():
    general = ({"general_questions": [1.0, 0.0] * 40}, {"general_questions": [1.0, 0.0] * 40})
    return report({"json_valid": [0.0] * 60}, {"json_valid": [1.0] * 60}, general)


@pytest.fixture
def worse():
    return report({"json_valid": [1.0] * 60}, {"json_valid": [0.0] * 60})


@pytest.fixture
def few():
    return report({"json_valid": [1.0] * 10}, {"json_valid": [1.0] * 10})


def test_the_summary_has_three_sentences_with_the_numbers(better, worse, few):
    for one in (better, worse, few):
        assert len(one.summary) == 3
    assert "json_valid improved: 0 -> 1" in better.summary[0]
    assert "n=60" in better.summary[0]
    assert "general ability shows no loss" in better.summary[2]
    assert "Do not ship" in worse.summary[2]
    assert "underpowered" in few.summary[1]
    assert "Collect more" in few.summary[2]


def test_lost_general_ability_is_said_before_the_gain():
    general = ({"general_questions": [1.0] * 60}, {"general_questions": [0.0] * 60})
    one = report({"json_valid": [0.0] * 60}, {"json_valid": [1.0] * 60}, general)
    assert "General ability fell" in one.summary[2]


def test_a_small_loss_that_could_be_missed_is_said():
    general = ({"refusals": [1.0] * 8}, {"refusals": [1.0] * 8})
    one = report({"json_valid": [0.0] * 60}, {"json_valid": [1.0] * 60}, general)
    assert "a small one of refusals could be missed" in one.summary[2]


def test_the_fear_of_too_few_examples_is_dropped_when_they_were_enough(better, few):
    notes = ["60 examples may be too few: ...", "the chat templates differ"]
    assert notes_that_hold(better.model_copy(update={"notes": notes})) == notes[1:]
    assert notes_that_hold(few.model_copy(update={"notes": notes})) == notes


def test_perplexity_that_falls_is_an_improvement():
    chance = [0.01 * i for i in range(40)]
    one = report(
        {"log_perplexity": [2 + c for c in chance]},
        {"log_perplexity": [1.5 + c / 2 for c in chance]},
    )
    row = one.comparisons[0]
    assert row.difference < 0
    assert row.verdict == "improved"
    assert (row.num_better, row.num_worse) == (40, 0)


def test_the_next_step_follows_the_verdict(better, worse, few):
    assert next_steps(better, 0.1)[0].tool == "merge_and_quantize"
    assert next_steps(worse, 0.1)[0].tool == "audit_dataset"
    assert next_steps(few, 0.1)[0].tool == "evaluate"
    assert reasons(better, 0.1)[0].source.startswith("https://")


def test_a_model_alone_makes_no_claim():
    one = report({"json_valid": [1.0] * 60}, {"json_valid": [1.0] * 60}, alone=True)
    assert "nothing is said of a change" in one.summary[1]
    assert next_steps(one, 0.1)[0].tool == "recommend_approach"


def test_the_gate_opens_for_what_is_shown_and_only_that(better, worse, few):
    assert gate(better, ["improved:json_valid", "not_regressed", "at_least:json_valid:0.9"]) == []
    assert len(gate(worse, ["improved:json_valid", "not_regressed"])) == 2
    assert len(gate(few, ["improved:json_valid"])) == 1
    assert gate(few, ["not_regressed:json_valid", "at_most:json_valid:1"]) == []
    assert "at_least:json_valid:0.5" in gate(worse, ["at_least:json_valid:0.5"])[0]


@pytest.mark.parametrize(
    "requirement", ["improved:rougeL", "better:json_valid", "at_least:json_valid:x", "improved"]
)
def test_a_requirement_that_cannot_be_read_names_what_is_allowed(better, requirement):
    with pytest.raises(BadInput, match=r"taken: general_questions, json_valid|allowed: improved"):
        gate(better, [requirement])


def test_the_page_shows_the_worst_regression_first_and_escapes_every_text(better):
    samples = [
        Sample(1, "<script>ask", "want", "want", "<img src=x>", -1.0),
        Sample(2, "second", "want", "bad", "want", 1.0),
        Sample(3, "third", "want", "want", "want", 0.0),
    ]
    html = document(better, samples)
    assert "<script" not in html
    assert "<img" not in html
    assert html.index("line 1\n") < html.index("line 2\n") < html.index("line 3\n")
    assert "improved" in html
    assert "Worse: 1" in html


def test_differences_are_underlined():
    assert marked("a b c", "a x c") == "a <mark>x</mark> c"
    assert marked("same", "same") == "same"
    assert marked("", "") == ""


def test_a_model_card_section_has_a_row_a_measure(better):
    card = model_card(better)
    assert "| json_valid (fraction) | 0 | 1 | +1 [" in card
    assert card.count("\n| ") == 3


def test_the_lines_that_changed_are_named_without_their_texts():
    examples = [HeldOut(line=i, prompt="secret", reference="secret") for i in range(1, 5)]
    found = changed_lines(
        {"json_valid": [1.0, 0.0, 1.0, 1.0]}, {"json_valid": [0.0, 1.0, 1.0, 0.5]}, examples
    )
    assert [(s.line, s.baseline, s.tuned) for s in found] == [(1, 1, 0), (4, 1, 0.5), (2, 0, 1)]
    assert "secret" not in str(found)


class Judge(BaseHTTPRequestHandler):
    """A judge that likes the answer with the word `good`, or always the first one."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen.append((self.headers.get("Authorization"), body))
        if self.server.failures > 0:
            self.server.failures -= 1
            self.send_response(503)
            self.end_headers()
            return
        data = json.loads(body["messages"][0]["content"].split("\n")[2])
        better = "B" if "good" in data["answer_B"] and not self.server.biased else "A"
        reply = {"choices": [{"message": {"content": f'```json\n{{"better": "{better}"}}\n```'}}]}
        payload = json.dumps(reply).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *_):
        pass


@pytest.fixture
def judge(monkeypatch):
    monkeypatch.setattr(judge_module, "RETRY_SECONDS", (0.0, 0.0, 0.0))
    server = HTTPServer(("127.0.0.1", 0), Judge)
    server.seen, server.failures, server.biased = [], 0, False
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    server.url = f"http://127.0.0.1:{server.server_port}/v1"
    yield server
    server.shutdown()
    server.server_close()


ROWS = [("q", "bad one", "a good one"), ("q", "good!", "bad"), ("q", "same", "same")]


def test_the_judge_is_asked_in_both_orders(judge, monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", "k-123")
    ask = endpoint(judge.url, "m", "JUDGE_KEY")
    found = list(judge_all(ask, "Which is better?", ROWS, max_calls=10, done={}))
    assert [one.score for one in found] == [1.0, 0.0, 0.5]
    assert all(one.consistent for one in found)
    assert len(judge.seen) == 4
    authorization, body = judge.seen[0]
    assert authorization == "Bearer k-123"
    assert body["temperature"] == 0
    assert body["model"] == "m"


def test_a_judge_that_likes_the_first_answer_makes_only_ties(judge):
    judge.biased = True
    ask = endpoint(judge.url, "m", None)
    found = list(judge_all(ask, "?", ROWS[:2], max_calls=10, done={}))
    assert [(one.score, one.consistent) for one in found] == [(0.5, False), (0.5, False)]


def test_the_judge_keeps_to_its_budget_and_asks_nothing_twice(judge):
    ask = endpoint(judge.url, "m", None)
    first = list(judge_all(ask, "?", ROWS, max_calls=3, done={}))
    assert [one.index for one in first] == [0, 2][: len(first)]
    assert len(judge.seen) == 2
    done = {one.index: one for one in first}
    rest = list(judge_all(ask, "?", ROWS, max_calls=10, done=done))
    assert 0 not in {one.index for one in rest}


def test_a_judge_that_stumbles_is_asked_again_and_one_that_is_down_is_named(judge):
    judge.failures = 2
    ask = endpoint(judge.url, "m", None)
    assert len(list(judge_all(ask, "?", ROWS[:1], max_calls=10, done={}))) == 1
    judge.failures = 100
    with pytest.raises(JudgeUnavailable, match=r"127\.0\.0\.1.*503.*judge_url"):
        list(judge_all(ask, "?", ROWS[:1], max_calls=10, done={}))
    with pytest.raises(JudgeUnavailable, match="NO_SUCH_KEY is empty"):
        endpoint(judge.url, "m", "NO_SUCH_KEY")
