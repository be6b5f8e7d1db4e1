"""The written tasks are well formed, and the checker tells right calls from wrong ones."""

import json
from pathlib import Path

import pytest

from ft_tools.tools import TOOLS
from tests.skill.checker import check, evals, fits, score

HERE = Path(__file__).parent
TASKS = evals()


def calls_of(task, part):
    return task["tool_calls"][part]


def example(wanted):
    """Return a value that a matcher accepts."""
    if not isinstance(wanted, dict):
        return wanted
    (matcher, argument), *_ = wanted.items()
    return {
        "present": "x",
        "any_of": argument[0] if isinstance(argument, list) else None,
        "contains": [argument],
        "contains_match": [argument],
        "ends_with": f"some/{argument}",
        "matches": f"a {argument} b",
    }[matcher]


def good_calls(task):
    return [
        {
            "tool": call["tool"],
            "arguments": {name: example(value) for name, value in call["arguments"].items()},
        }
        for call in calls_of(task, "required")
    ]


def test_there_are_thirty_tasks_with_ids_of_their_own():
    assert len(TASKS) == len({task["id"] for task in TASKS}) == 30


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task["id"])
def test_each_task_has_what_the_agent_skills_format_asks(task):
    assert {"id", "prompt", "expected_output", "files", "assertions"} <= task.keys()
    assert task["assertions"]
    assert all((HERE / file).is_file() for file in task["files"])
    assert calls_of(task, "required")


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task["id"])
def test_each_expected_call_names_arguments_that_the_tool_has(task):
    for call in calls_of(task, "required") + calls_of(task, "forbidden"):
        assert call["arguments"].keys() <= TOOLS[call["tool"]].request.model_fields.keys()


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task["id"])
def test_the_calls_that_are_asked_for_pass(task):
    assert check(good_calls(task), task["tool_calls"]) == []


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task["id"])
def test_no_calls_and_forbidden_calls_fail(task):
    forbidden = [
        {"tool": call["tool"], "arguments": {n: example(v) for n, v in call["arguments"].items()}}
        for call in calls_of(task, "forbidden")
    ]

    assert check([], task["tool_calls"])
    for call in forbidden:
        assert any("forbidden" in p for p in check([*good_calls(task), call], task["tool_calls"]))


def test_a_plan_is_not_a_start():
    start = {"tool": "launch_sft", "arguments": {"confirm": {"present": True}}}

    assert not fits({"tool": "launch_sft", "arguments": {"model": "m"}}, start)
    assert fits({"tool": "launch_sft", "arguments": {"model": "m", "confirm": "8a1f"}}, start)


def test_order_counts_where_it_is_asked_for():
    task = next(task for task in TASKS if task["tool_calls"]["ordered"])

    assert check(good_calls(task)[::-1], task["tool_calls"])


def test_a_missing_transcript_is_a_failure():
    result = score({TASKS[0]["id"]: good_calls(TASKS[0])})

    assert result[TASKS[0]["id"]] == []
    assert result[TASKS[1]["id"]] == ["no transcript"]


def test_there_are_twenty_trigger_queries_of_both_kinds():
    queries = json.loads((HERE / "triggers.json").read_text(encoding="utf-8"))
    wanted = [query["should_trigger"] for query in queries]

    assert len(queries) == 20
    assert {"query", "should_trigger"} == set().union(*queries)
    assert 8 <= sum(wanted) <= 12
