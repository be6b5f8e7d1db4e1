"""The supervisor beside a living worker: what it takes for an end, and what not."""

import signal
import subprocess
import sys
import threading
import time

import pytest

from ft_tools.runs.processes import supervisor
from ft_tools.runs.state import directory
from ft_tools.runs.state.records import Status


@pytest.fixture
def terms():
    """Give a counter of TERM signals, and the handler of before back."""
    before = signal.getsignal(signal.SIGTERM)
    yield supervisor.Terms()
    signal.signal(signal.SIGTERM, before)


def watched(run_dir, terms, seconds):
    argv = [sys.executable, "-I", "-S", "-c", f"import time; time.sleep({seconds})"]
    with subprocess.Popen(argv, start_new_session=True) as worker:
        return supervisor._watch(run_dir, worker, terms, several=False)


@pytest.mark.parametrize("damage", ["{", None], ids=["damaged for good", "an end that was undone"])
def test_a_worker_is_not_killed_for_a_status_that_says_no_end(tmp_path, monkeypatch, terms, damage):
    monkeypatch.setattr(supervisor, "LEAVE_SECONDS", 0.6)
    directory.write_status(tmp_path, Status(state="succeeded"))
    if damage:
        (tmp_path / "status.json").write_text(damage)
    else:
        again = threading.Timer(0.2, directory.write_status, (tmp_path, Status(state="running")))
        again.start()
    assert watched(tmp_path, terms, 1.5) == 0


def test_a_worker_that_hangs_after_its_end_is_killed(tmp_path, monkeypatch, terms):
    monkeypatch.setattr(supervisor, "LEAVE_SECONDS", 0.2)
    directory.write_status(tmp_path, Status(state="succeeded"))
    began = time.monotonic()
    assert watched(tmp_path, terms, 60) == -signal.SIGKILL
    assert time.monotonic() - began < 30
