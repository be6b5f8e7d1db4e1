"""Starting runs: what is refused before anything is written, and what a supervisor is given."""

import os

import pytest
from pydantic import BaseModel

from ft_tools import workspace as ws
from ft_tools.errors import BadInput
from ft_tools.runs.processes import process_tree, start


class Empty(BaseModel):
    pass


@pytest.mark.parametrize(
    "module",
    [
        "runpy",
        "http.server",
        "ft_tools.training.worker",
        "ft_tools.training.worker.deep.er",
        "ft_tools.training.worker..sft",
        "ft_tools.training.worker.sft;x",
        "-c",
        "",
    ],
)
def test_a_module_of_no_worker_package_is_refused(module):
    with pytest.raises(BadInput, match=start.WORKERS_VARIABLE):
        start.allowed_worker(module)


def test_workers_of_the_package_and_of_named_ones_are_allowed(monkeypatch):
    assert start.allowed_worker("ft_tools.training.worker.sft") == "ft_tools.training.worker.sft"
    monkeypatch.setenv(start.WORKERS_VARIABLE, "mine.workers,,other")
    assert start.allowed_worker("mine.workers.steps") == "mine.workers.steps"
    with pytest.raises(BadInput):
        start.allowed_worker("other.deep.steps")


def test_a_workspace_that_others_may_write_is_refused_before_anything_is_written(workspace):
    (workspace / "runs").mkdir()
    (workspace / "runs").chmod(0o777)
    with pytest.raises(BadInput, match="chmod go-w"):
        start.start("audit", Empty(), Empty())
    assert os.listdir(workspace / "runs") == []


def test_a_supervisor_gets_absolute_places_and_no_mark_of_another_run(workspace, monkeypatch):
    monkeypatch.chdir(workspace)
    monkeypatch.setenv(ws.VARIABLE, ".")
    monkeypatch.setenv(ws.CACHE_VARIABLE, "cache")
    monkeypatch.setenv(process_tree.MARK, "another")
    given = start._environment((7, 8))
    assert given[ws.VARIABLE] == str(workspace)
    assert given[ws.CACHE_VARIABLE] == str(workspace / "cache")
    assert process_tree.MARK not in given
    assert given[start.LOCKS_VARIABLE] == "8"


def test_the_supervisor_imports_nothing_heavy():
    heavy = {"torch", "numpy", "transformers", "mcp", "rich", "cyclopts", "datasets"}
    code = f"import ft_tools.runs.processes.supervisor, sys; print({heavy} & sys.modules.keys())"
    found = start.subprocess.run(
        [start.sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "set()"
