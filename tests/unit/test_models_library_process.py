"""The process that answers questions about models, with a worker that loads nothing."""

import os
import subprocess
import sys
import time

import psutil
import pytest

from ft_tools import workspace
from ft_tools.models import library_process, shape_of_model
from ft_tools.models.library_process import LibraryProcess, Unanswered

SERVER = """
import json, os, sys
print(json.dumps({"answer": {}}), flush=True)
for line in sys.stdin:
    question = json.loads(line)["question"]
    if question == {"die": True}:
        sys.exit()
    if question.get("model_type"):
        continue
    told = question | {"by": os.getpid()}
    said = {"answer": told} if "ask" in question else {"error": "no_question"}
    print(json.dumps(said), flush=True)
"""


@pytest.fixture
def asking(tmp_path, monkeypatch):
    (tmp_path / "echoing_server.py").write_text(SERVER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(library_process, "SERVER", "echoing_server")
    monkeypatch.setattr(library_process, "process", LibraryProcess())
    # A cache that cannot be written: every answer comes from the process.
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(workspace.CACHE_VARIABLE, str(tmp_path / "file" / "cache"))
    yield lambda question: library_process.ask(shape_of_model.WORKER, question, 60)
    library_process.process.end()


def test_a_process_answers_one_question_after_another_and_says_why_it_cannot(asking):
    first, second = (asking({"ask": number}) for number in (1, 2))
    assert (first["ask"], second["ask"]) == (1, 2)
    assert first["by"] == second["by"]
    with pytest.raises(Unanswered, match="no_question"):
        asking({})
    library_process.process._process.end()
    assert asking({"ask": 1})["by"] != first["by"]
    with pytest.raises(Unanswered, match="died"):
        asking({"die": True})
    assert asking({"ask": 2})["ask"] == 2


def test_python_ends_without_a_warning_of_the_process_that_it_leaves(asking):
    program = (
        "from ft_tools.models import library_process; "
        "library_process.SERVER = 'echoing_server'; "
        "print(library_process.process.ask({'question': {'ask': 1}}, 60)['answer']['by'])"
    )
    argv = [sys.executable, "-W", "always::ResourceWarning", "-c", program]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    end = time.monotonic() + 60
    while psutil.pid_exists(int(done.stdout)):
        assert time.monotonic() < end, "it ends by itself once nobody can ask it"
        time.sleep(0.05)
