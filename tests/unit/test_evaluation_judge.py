"""The judge: a real server that judges well, badly, or not at all; and length taken out."""

import json
import math
import random
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from statistics import fmean

import pytest

from ft_tools.evaluation.intervals.comparing import compare
from ft_tools.evaluation.intervals.length_control import PRIOR, _fit, preference_at_equal_length
from ft_tools.evaluation.metrics import judge as judge_module
from ft_tools.evaluation.metrics.judge import JudgeUnavailable, endpoint, judge_all


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
        verdict = f'```json\n{{"better": "{better}"}}\n```'
        content = verdict if self.server.says is None else self.server.says
        reply = {"choices": [{"message": {"content": content}}]}
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
    server.seen, server.failures, server.biased, server.says = [], 0, False, None
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
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
    assert [one.index for one in first] == [0]
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
    with pytest.raises(JudgeUnavailable, match="NO_SUCH_KEY is not set"):
        endpoint(judge.url, "m", "NO_SUCH_KEY")


@pytest.mark.parametrize(
    "says", ["I prefer the second.", '{"better": "C"}', "", '{"better": ["A"]}']
)
def test_a_reply_without_a_verdict_is_a_tie_and_no_agreement(judge, says):
    judge.says = says
    found = list(judge_all(endpoint(judge.url, "m", None), "?", ROWS, max_calls=10, done={}))
    assert [(one.score, one.consistent) for one in found[:2]] == [(0.5, False), (0.5, False)]


def test_a_tie_that_both_orders_agree_on_is_one(judge):
    judge.says = '{"better": "tie"}'
    found = list(judge_all(endpoint(judge.url, "m", None), "?", ROWS, max_calls=10, done={}))
    assert [(one.score, one.consistent) for one in found] == [(0.5, True)] * 3


def test_equal_answers_spend_nothing_of_a_budget_that_is_taken_up_again(judge):
    rows = [("q", "same", "same"), *ROWS[:1]]
    done = {0: next(judge_all(endpoint(judge.url, "m", None), "?", rows, max_calls=2, done={}))}
    assert done[0].calls == 0
    rest = list(judge_all(endpoint(judge.url, "m", None), "?", rows, max_calls=2, done=done))
    assert [one.index for one in rest] == [1]


def judged_by_length(n, level, pull, longer_by, chance):
    """Simulate verdicts that follow quality (`level`) and length (`pull`)."""
    longer = [chance.gauss(longer_by, 100) for _ in range(n)]
    scale = math.sqrt(fmean(d * d for d in longer))
    wins = []
    for d in longer:
        preferred = 1 / (1 + math.exp(-level - pull * math.tanh(d / scale)))
        wins.append(0.5 if chance.random() < 0.2 else float(chance.random() < preferred))
    return wins, longer


def test_the_regression_has_the_highest_likelihood():
    optimize = pytest.importorskip("scipy.optimize")
    wins, longer = judged_by_length(60, 0.5, 1.5, 60, random.Random(2))
    rows = [(math.tanh(d / 100), win, 1.0) for d, win in zip(longer, wins, strict=True)] + PRIOR

    def loss(at):
        lines = [(w, y, at[0] + at[1] * x) for x, y, w in rows]
        return sum(w * (math.log1p(math.exp(z)) - y * z) for w, y, z in lines)

    best = optimize.minimize(loss, [0.0, 0.0], method="BFGS", options={"gtol": 1e-9})
    assert _fit(rows) == pytest.approx(tuple(best.x), abs=1e-5)


def test_a_judge_that_likes_long_answers_makes_claims_and_not_at_equal_length():
    chance = random.Random(5)
    raw = claimed = covered = 0
    for seed in range(300):
        wins, longer = judged_by_length(60, 0.0, 2.0, 80, chance)
        paired = compare([1 - win for win in wins], wins)
        raw += paired.p_value < 0.05 and paired.low > 0
        equal = preference_at_equal_length(wins, longer, seed, resamples=200)
        claimed += equal.p_value < 0.05 and equal.low > 0
        covered += equal.low <= 0 <= equal.high
    assert raw / 300 > 0.5
    assert claimed / 300 <= 0.05
    assert covered / 300 >= 0.93


def test_a_better_model_is_still_better_at_equal_length():
    wins, longer = judged_by_length(150, 1.2, 1.5, -80, random.Random(6))
    equal = preference_at_equal_length(wins, longer)
    assert equal.difference > 2 * fmean(wins) - 1
    assert equal.low > 0
    assert equal.p_value < 0.05


def test_swapping_the_models_turns_the_sign_and_nothing_else():
    wins, longer = judged_by_length(40, 0.5, 1.0, 30, random.Random(7))
    one = preference_at_equal_length(wins, longer)
    other = preference_at_equal_length([1 - win for win in wins], [-d for d in longer])
    assert other.difference == pytest.approx(-one.difference)
    assert (other.low, other.high) == pytest.approx((-one.high, -one.low))
    assert other.p_value == one.p_value


def test_verdicts_of_groups_that_agree_are_as_uncertain_as_the_groups_alone():
    wins, longer = judged_by_length(40, 0.8, 1.0, 30, random.Random(8))
    alone = preference_at_equal_length(wins, longer)
    repeated = [[value for value in values for _ in range(5)] for values in (wins, longer)]
    clusters = [str(i // 5) for i in range(200)]
    grouped = preference_at_equal_length(*repeated, clusters=clusters)
    ungrouped = preference_at_equal_length(*repeated)
    assert grouped.difference == pytest.approx(alone.difference, abs=0.05)
    assert grouped.standard_error == pytest.approx(alone.standard_error, rel=0.15)
    assert grouped.p_value == pytest.approx(alone.p_value, abs=0.02)
    assert grouped.standard_error > 1.8 * ungrouped.standard_error
    assert preference_at_equal_length(*repeated, clusters=["one"] * 200) is None


def test_all_wins_on_all_lengths_stay_finite_and_few_verdicts_say_nothing():
    equal = preference_at_equal_length([1.0] * 30, [10.0 * i - 150 for i in range(30)])
    assert 0 < equal.low < equal.difference < equal.high <= 1
    assert preference_at_equal_length([1.0] * 9 + [0.5] * 50, [1.0] * 59) is None
    assert preference_at_equal_length([1.0, 0.0] * 10, [0.0] * 20).difference == pytest.approx(0)
