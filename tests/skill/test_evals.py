"""The written tasks are well formed, and the checker tells right calls from wrong ones."""

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ft_tools.tools import TOOLS
from tests.skill.checker import call_of, check, evals, recorded
from tests.skill.lay import RECORDER, STEPS, write_rows

HERE = Path(__file__).parent
TASKS = evals()


def calls_of(task, part):
    """Return every call that a task describes; each of those of which one is enough."""
    described = task["tool_calls"][part]
    return [call for each in described for call in (each if isinstance(each, list) else [each])]


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
        "overlaps": argument,
        "ends_with": f"some/{argument}",
        "matches": f"a {str(argument).removeprefix('(?i)')} b",
    }[matcher]


def good_calls(task):
    first = (each[0] if isinstance(each, list) else each for each in task["tool_calls"]["required"])
    return [
        {
            "tool": call["tool"],
            "arguments": {name: example(value) for name, value in call["arguments"].items()},
        }
        for call in first
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


@pytest.mark.parametrize("task", [each for each in TASKS if "run" in each], ids=lambda t: t["id"])
def test_a_task_names_the_run_that_is_laid_out_for_it(task):
    run_id = f"sft-{hashlib.sha256(task['id'].encode()).hexdigest()[:16]}"

    assert task["run"] in STEPS
    assert set(re.findall(r"sft-[0-9a-f]{16}", json.dumps(task))) <= {run_id}


@pytest.mark.parametrize(
    ("line", "call"),
    [
        ("status", ("get_run", {})),
        ("status sft-00", ("get_run", {"run_id": "sft-00"})),
        ("cancel sft-00", ("cancel_run", {"run_id": "sft-00"})),
        (
            "--format json recommend-approach --considering distillation --calls-per-day 200000",
            ("recommend_approach", {"considering": ["distillation"], "calls_per_day": 200_000}),
        ),
        (
            "launch-sft m a.jsonl --yes --detach",
            ("launch_sft", {"model": "m", "dataset": "a.jsonl", "confirm": "--yes"}),
        ),
    ],
)
def test_a_command_line_is_the_call_of_its_tool(line, call):
    assert call_of(line.split()) == {"tool": call[0], "arguments": call[1]}


def test_the_command_of_a_task_records_what_was_asked_and_how_it_ended(tmp_path):
    record = tmp_path / "calls.jsonl"
    command = Path(sys.executable).with_name("fine-tuning-llm")
    given = {"python": sys.executable, "command": str(command), "record": str(record)}
    text = RECORDER.format(**given, environment={"FINE_TUNING_LLM_WORKSPACE": str(tmp_path)})
    (tmp_path / "shim").write_text(text, encoding="utf-8")
    write_rows(tmp_path / "pairs.jsonl", 3)

    def call(*argv):
        argv = [sys.executable, tmp_path / "shim", *argv]
        return subprocess.run(argv, capture_output=True, text=True, env=os.environ, check=False)

    shown = call("show-examples", "pairs.jsonl", "2", "--format", "json")
    refused = call("show-examples", "pairs.jsonl", "--wrong")
    calls, counts = recorded(record)

    assert json.loads(shown.stdout)["examples"]
    assert refused.returncode == 2
    assert calls == [{"tool": "show_examples", "arguments": {"path": "pairs.jsonl", "lines": [2]}}]
    assert (counts["calls"], counts["errors"]) == (2, 1)
    assert counts["tokens"] == len(shown.stdout) // 4
