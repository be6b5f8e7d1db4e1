"""Starting runs: what is refused before anything is written, and what a supervisor is given."""

import os

import pytest
from pydantic import BaseModel

from ft_tools.errors import BadInput
from ft_tools.runs.processes import start


class Empty(BaseModel):
    pass


def test_only_workers_of_the_package_and_of_named_ones_are_allowed(monkeypatch):
    assert start.allowed_worker("ft_tools.training.worker.sft") == "ft_tools.training.worker.sft"
    monkeypatch.setenv(start.WORKERS_VARIABLE, "mine.workers,,other")
    assert start.allowed_worker("mine.workers.steps") == "mine.workers.steps"
    deeper = ("other.deep.steps", "mine.workers..steps", "mine.workers.steps;x")
    for module in (*deeper, "runpy", "ft_tools.training.worker", "-c", ""):
        with pytest.raises(BadInput, match=start.WORKERS_VARIABLE):
            start.allowed_worker(module)


def test_a_workspace_that_others_may_write_is_refused_before_anything_is_written(workspace):
    (workspace / "runs").mkdir()
    (workspace / "runs").chmod(0o777)
    with pytest.raises(BadInput, match="chmod go-w"):
        start.start("audit", Empty(), Empty())
    assert os.listdir(workspace / "runs") == []


def test_the_supervisor_imports_nothing_heavy():
    heavy = {"torch", "numpy", "transformers", "mcp", "rich", "cyclopts", "datasets"}
    code = f"import ft_tools.runs.processes.supervisor, sys; print({heavy} & sys.modules.keys())"
    found = start.subprocess.run(
        [start.sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "set()"
