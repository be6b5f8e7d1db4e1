"""A worker's side of a run: honest progress, readable status, and an end whatever happens."""

import errno
import math
import time

import pytest

from ft_tools.data.request import AuditRequest
from ft_tools.errors import BadData
from ft_tools.runs.processes import worker_session
from ft_tools.runs.processes.worker_session import Session, Stopped
from ft_tools.runs.request import RunRequest
from ft_tools.runs.state import directory
from ft_tools.runs.state.records import Status
from ft_tools.runs.tool import get_run
from tests.made_runs import made_run


@pytest.fixture
def worker(workspace):
    """Give the session of a run that this process works for."""
    return Session(made_run("sft-0123456789abcdef"))


def written(worker):
    return directory.read_status(worker.run_dir)


def test_a_loss_that_is_not_a_number_leaves_the_status_readable_and_is_said_once(worker):
    worker.metrics({"loss": 2.0, "step": 1})
    for value in (math.nan, math.inf):
        worker.metrics({"loss": value, "step": 2})
    worker.update()
    assert written(worker).metrics == {"loss": 2.0, "step": 2.0}
    assert directory.read_metrics(worker.run_dir)[1:] == [{"step": 2}, {"step": 2}]
    said = [e.message for e in directory.read_events(worker.run_dir) if e.level == "error"]
    assert said == ["loss became NaN or infinite"]


def raising(error):
    def work(_session):
        raise error

    return work


ENDS = {
    "disk full": (OSError(errno.ENOSPC, "No space left"), "interrupted", "disk_full", 75),
    "quota": (OSError(errno.EDQUOT, "Quota exceeded"), "interrupted", "disk_full", 75),
    "read-only": (OSError(errno.EROFS, "Read-only"), "interrupted", "disk_full", 75),
    "rust": (RuntimeError("I/O error: No space left on device"), "interrupted", "disk_full", 75),
    "host memory": (MemoryError(), "failed", "out_of_memory", 5),
    "gpu memory": (RuntimeError("CUDA out of memory."), "failed", "out_of_memory", 5),
    "ours": (BadData("x", "is bad", "mend it"), "failed", None, 2),
    "bug": (ValueError("a row of the dataset"), "failed", "crash", 5),
    "exit": (SystemExit(0), "failed", "crash", 5),
    "asked": (Stopped(), "interrupted", "preempted", 0),
}


@pytest.mark.parametrize("name", ENDS)
def test_whatever_happens_there_is_an_end_with_a_reason_and_a_code(worker, name):
    error, state, reason, code = ENDS[name]
    assert worker_session._run(worker, raising(error)) == code
    status = written(worker)
    assert (status.state, status.reason) == (state, reason)
    assert status.ended_at is not None
    # What a library says may quote a row.
    assert "a row" not in (worker.run_dir / "status.json").read_text()


def test_a_budget_that_is_spent_ends_an_attempt_and_the_next_has_one_of_its_own(worker):
    request = worker.run_dir / "request.json"
    request.write_text('{"budget_hours": 0.5}')
    directory.write_status(
        worker.run_dir, Status(state="running", started_at=time.time() - 1801, attempt=1)
    )
    spent = Session(worker.run_dir)
    assert worker_session._run(spent, raising(AssertionError("it went on"))) == 0
    assert (written(spent).state, written(spent).reason) == ("interrupted", "budget")
    assert written(spent).seconds == pytest.approx(1801, abs=30)
    before = written(spent)
    again = before.again(state="queued", budgeted_from_seconds=before.seconds)
    directory.write_status(worker.run_dir, again)
    assert not Session(worker.run_dir).should_stop
    assert (again.attempt, again.ended_before) == (2, "budget")
    assert again.seconds == pytest.approx(1801, abs=30)
    # A restart that nobody asked for has what is left of it.
    directory.write_status(worker.run_dir, before.again())
    assert Session(worker.run_dir).should_stop


def test_a_request_that_is_refused_by_now_is_said_and_asked_for_anew(workspace):
    """Saved by a version that split off more than a half."""
    asked = {"path": "d.jsonl", "validation_fraction": 0.6}
    run_dir = made_run("audit-0123456789abcdef", files={"request": asked})
    worker_session._run(Session(run_dir), lambda session: session.request(AuditRequest))
    report = get_run(RunRequest(run_id=run_dir.name))
    assert "validation_fraction: must be less than or equal to 0.5, got 0.6" in report.error.message
    assert not report.resumable
    (step,) = report.next_steps
    assert (step.tool, step.arguments) == ("audit_dataset", asked)
