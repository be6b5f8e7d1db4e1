"""Fixtures of the fault tests: a workspace whose runs are cheap, and end with the test."""

import contextlib
import os

import psutil
import pytest
from harness import HERE, processes_naming

from ft_tools import workspace as workspace_module
from ft_tools.runs.processes.start import WORKERS_VARIABLE
from ft_tools.runs.processes.supervisor import GRACE_VARIABLE, TERM_VARIABLE


@pytest.fixture
def runs_here(workspace, monkeypatch):
    """Give a workspace in which cheap workers are allowed and cancels are quick."""
    monkeypatch.setenv(workspace_module.CACHE_VARIABLE, str(workspace / "cache"))
    monkeypatch.setenv(WORKERS_VARIABLE, "fault_workers")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), str(HERE.parent.parent)]))
    monkeypatch.setenv(GRACE_VARIABLE, "0.3")
    monkeypatch.setenv(TERM_VARIABLE, "0.3")
    yield workspace
    for process in processes_naming(workspace / "runs"):
        if process.pid not in (os.getpid(), os.getppid()):
            with contextlib.suppress(psutil.Error):
                process.kill()
