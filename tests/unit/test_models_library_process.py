"""The process that answers questions about models, with a worker that loads nothing."""

import os

import pytest

from ft_tools import workspace
from ft_tools.errors import BadInput
from ft_tools.models import library_process, shape_of_class
from ft_tools.models.library_process import Inspector, Unanswered

WORKER = """
import json, os, sys
print(json.dumps({"loaded": True}), flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    if asked == {"die": True}:
        sys.exit()
    asked = asked.get("question", asked)
    if asked.get("model_type"):
        continue
    said = {"answer": asked | {"by": os.getpid()}} if "ask" in asked else {"error": "no_question"}
    print(json.dumps(said), flush=True)
"""


@pytest.fixture
def inspecting(tmp_path, monkeypatch):
    (tmp_path / "echoing_worker.py").write_text(WORKER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.syspath_prepend(tmp_path)
    made = Inspector("echoing_worker")
    monkeypatch.setattr(library_process, "_processes", {"echoing_worker": made})
    yield made
    made._process.end()


def test_a_process_answers_one_question_after_another_and_says_why_it_cannot(inspecting):
    first, second = (inspecting.ask({"ask": number}, 60) for number in (1, 2))
    assert (first["ask"], second["ask"]) == (1, 2)
    assert first["by"] == second["by"]
    with pytest.raises(Unanswered, match="no_question"):
        inspecting.ask({}, 60)


def test_a_process_that_has_ended_meanwhile_is_started_again(inspecting):
    first = inspecting.ask({"ask": 1}, 60)
    inspecting._process.end()
    second = inspecting.ask({"ask": 1}, 60)
    assert second["by"] != first["by"]


def test_a_question_that_ends_each_process_is_said_to(inspecting):
    inspecting.ask({"ask": 1}, 60)
    with pytest.raises(Unanswered, match="died"):
        inspecting.ask({"die": True}, 60)
    assert inspecting.ask({"ask": 2}, 60)["ask"] == 2


def test_an_answer_comes_where_the_cache_cannot_be_written(inspecting, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(workspace.CACHE_VARIABLE, str(tmp_path / "file" / "cache"))
    assert library_process.ask("echoing_worker", {"ask": 1}, 60)["ask"] == 1


def test_a_model_that_is_not_built_in_time_is_to_be_asked_for_again(inspecting, monkeypatch):
    monkeypatch.setattr(shape_of_class, "WORKER", "echoing_worker")
    monkeypatch.setattr(shape_of_class, "SECONDS", 0.0)
    with pytest.raises(BadInput, match=r"mine cannot be sized yet.*ask again in a minute") as told:
        shape_of_class.described_shape({"model_type": "gpt-sw3"}, "mine")
    assert "gpt-sw3" not in str(told.value)
    assert "config.json" not in str(told.value)
