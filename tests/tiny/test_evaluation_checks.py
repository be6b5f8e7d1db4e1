"""evaluate by declared checks: totals with intervals, each part, a target, stress."""

import json

import pytest

from ft_tools.errors import BadData, BadInput, PlanChanged
from ft_tools.evaluation.request import EvaluateRequest
from ft_tools.evaluation.tool import evaluate
from ft_tools.evaluation.worker import evaluate as worker
from ft_tools.runs.processes.worker_session import Session
from tests.endpoint import serving
from tests.tiny.evaluating import by_metric, planned_here, run_here, write

pytestmark = pytest.mark.tiny
OWN = "def score(answer, row):\n    return None if row['n'] == 3 else float(len(answer) < 40)"
CHECKS = [
    {"kind": "number", "weight": 3},
    {"kind": "python", "path": "own.py", "name": "short"},
]
SUMS = [
    {"prompt": f"What is {n} + {n}?", "completion": f"It is {2 * n}.", "n": n} for n in range(40)
]


@pytest.fixture
def systems(workspace):
    """Return two systems: one adds, the other names every number."""

    def reply(question, body):
        if body["model"] == "judge":
            return json.dumps({"pass": " = " in json.loads(question.splitlines()[2])["answer"]})
        if "Ignore" in question:
            return "OK"
        n = int(question.split()[2])
        every = " ".join(map(str, range(100)))
        return f"{n} + {n} = {2 * n}" if body["model"] == "right" else every

    write(workspace / "held.jsonl", SUMS)
    (workspace / "own.py").write_text(OWN)
    with serving(reply) as server:
        yield [
            {"name": name, "endpoint": {"url": server.url, "model": name}, "system": "Add."}
            for name in ("every", "right")
        ]


def asked(systems, **more):
    told = {"dataset": "held.jsonl", "systems": systems, "checks": CHECKS, "metrics": ["checks"]}
    return EvaluateRequest.model_validate(told | more)


def test_checks_are_a_metric_with_parts_and_a_target(workspace, systems):
    request = asked(systems, target={"checks": 0.7}, origin="collected")
    _, report = run_here(workspace, request)
    assert report.main_metric == "checks"
    every, right = report.systems
    # Row 3 cannot be checked by the function, which counts as 0 and is said.
    assert right.scores["checks"].value == pytest.approx(39 / 40)
    assert right.scores["checks.number"].value == 1.0
    assert right.scores["checks.short"].value == pytest.approx(39 / 40)
    assert every.scores["checks"].value == 0.0
    assert any("checks_broken" in note and "short" in note for note in report.notes)
    rows = by_metric(report.comparisons)
    assert rows["checks"].verdict == "improved"
    assert rows["checks"].difference == pytest.approx(39 / 40)
    assert [one.name for one in report.ranking] == ["right"]
    assert (every.target, right.target) == ("not_met", "met")


def test_answers_under_a_change_are_checked_too(workspace, systems):
    request = asked(systems, checks=CHECKS[:1], stress=[{"change": "injected_order"}])
    _, report = run_here(workspace, request)
    [found] = report.systems[1].stress
    assert (found.plain, found.score.value, found.verdict) == (1.0, 0.0, "regressed")
    # One check alone is the total: it has no part of its own.
    assert set(report.systems[1].scores) == {"checks"}


def test_a_changed_check_is_another_plan_and_a_row_without_its_column_is_refused(
    workspace, systems
):
    run_dir = planned_here(workspace, asked(systems))
    (workspace / "own.py").write_text(OWN + "\n")
    with pytest.raises(PlanChanged):
        worker.work(Session(run_dir))
    hashes = [evaluate(asked(systems, checks=part)).plan_hash for part in (CHECKS, CHECKS[:1])]
    assert len(set(hashes)) == 2
    with pytest.raises(BadData, match=r"held\.jsonl:1: has no column 'gold'"):
        evaluate(asked(systems, checks=[{"kind": "equals", "reference": "gold"}]))


def test_a_judge_passes_answers_and_the_plan_says_what_it_is_sent(workspace, systems):
    endpoint = systems[0]["endpoint"] | {"model": "judge"}
    request = asked(
        systems,
        checks=[{"kind": "judge", "endpoint": endpoint, "rubric": "It adds.", "name": "ok"}],
    )
    assert any(one.startswith("texts_sent_here: ok: ") for one in evaluate(request).warnings)
    run_dir, report = run_here(workspace, request)
    assert [one.scores["checks"].value for one in report.systems] == [0.0, 1.0]
    assert len((run_dir / "check_ok_replies.jsonl").read_text().splitlines()) == 80


def test_a_judge_that_could_not_see_every_answer_is_refused_before_it_is_asked(workspace, systems):
    endpoint = systems[0]["endpoint"] | {"max_calls": 79}
    check = {"kind": "judge", "endpoint": endpoint, "rubric": "It adds."}
    with pytest.raises(BadInput, match="up to 80 times"):
        evaluate(asked(systems, checks=[check]))
