"""create_dataset with real libraries and processes: a local model as the teacher, and a kill."""

import contextlib
import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from ft_tools.creation.request import CreateRequest
from ft_tools.creation.tool import create_dataset
from ft_tools.runs.request import ResumeRequest, RunRequest
from ft_tools.runs.state import directory
from ft_tools.runs.state.records import ENDED
from ft_tools.runs.tool import get_run, resume_run
from tests.creating import planned_here, read, run_here, write
from tests.endpoint import PRICE, Teacher, serving
from tests.tiny.evaluating import LIBRARY_WARNINGS, rows

pytestmark = [pytest.mark.tiny, *LIBRARY_WARNINGS]


def test_a_local_model_teaches_and_what_it_said_is_not_asked_again(workspace, taught_model):
    shutil.copytree(taught_model, workspace / "tuned")
    asked = rows(8)
    write(workspace / "prompts.jsonl", asked)
    arguments = {
        "source": "prompts.jsonl",
        "kind": "answers",
        "teacher": {"model": "tuned", "decoding": {"regex": "(Oslo|Bergen|Narvik)"}},
        "checks": [{"kind": "pattern", "pattern": "Oslo|Bergen|Narvik"}],
        "validation_fraction": 0,
        "provider": "cleared",
    }
    launch, report = run_here(workspace, output_dir="made", **arguments)
    assert launch.plan["asking"]["sent_to"] is None
    assert report.num_kept + sum(report.dropped.values()) == 8
    made = read(workspace / "made" / "train.jsonl")
    assert report.num_kept == 8
    assert {row["messages"][1]["content"] for row in made} <= {"Oslo", "Bergen", "Narvik"}
    assert all(row["messages"][0] in [one["messages"][0] for one in asked] for row in made)
    origins = read(workspace / "made" / "origin.jsonl")
    assert {one["teacher"] for one in origins} == {"tuned"}
    again, _ = planned_here(workspace, "create-00000000000000cc", output_dir="more", **arguments)
    assert again.plan["asking"]["num_known"] == 8


def until(is_true, seconds=60):
    """Poll until something is true."""
    end = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < end
        time.sleep(0.02)


WORKER = b"ft_tools.creation.worker.create"


def commands():
    """Yield the process id and command of each process."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            yield int(path.parent.name), path.read_bytes()


def test_a_killed_process_continues_with_what_it_kept_and_pays_for_no_kept_answer_twice(workspace):
    write(workspace / "prompts.jsonl", [{"prompt": f"Say {n}."} for n in range(60)])
    teacher = Teacher(lambda question, _: time.sleep(0.04) or f"Here is {question}")
    with serving(teacher) as server:
        teacher_spec = {"endpoint": {"url": server.url, "model": "big"}, "price": PRICE}
        arguments = {
            "source": "prompts.jsonl",
            "kind": "answers",
            "teacher": teacher_spec,
            "output_dir": "made",
            "pilot_rows": 0,
            "budget_usd": 1000,
            "validation_fraction": 0,
        }
        plan = create_dataset(CreateRequest(**arguments))
        run = create_dataset(CreateRequest(**arguments, confirm=plan.plan_hash))
        run_dir = directory.find(run.run_id)
        replies = run_dir / "replies.jsonl"
        until(lambda: replies.exists() and replies.read_bytes().count(b"\n") > 5)
        killed = [pid for pid, said in commands() if WORKER in said and bytes(run_dir) in said]
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        assert killed
        until(lambda: get_run(RunRequest(run_id=run.run_id)).state in ENDED)
        assert replies.read_bytes().count(b"\n") < 60
        resume_run(ResumeRequest(run_id=run.run_id))
        until(lambda: get_run(RunRequest(run_id=run.run_id)).state == "succeeded")
    again = sum(count - 1 for count in teacher.answered.values())
    # At most what was in flight when it was killed.
    assert again <= 4
    report = get_run(RunRequest(run_id=run.run_id)).result
    assert report["num_kept"] == len(read(workspace / "made" / "train.jsonl")) == 60
    assert teacher.usd <= report["usd"]
