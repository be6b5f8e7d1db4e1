"""Inside a job: which start counts as an attempt, and a job that the run was taken from."""

import os
import sys

import pytest

from ft_tools.errors import RunBusy
from ft_tools.launchers.processes import MARK
from ft_tools.runs import directory, job, locks, ranks
from ft_tools.runs.records import RunInfo, Status

RUN = "sft-0123456789abcdef"


@pytest.fixture
def run_dir(tmp_path):
    """Write a run that was given to the job with the token `mine`."""
    folder = tmp_path / RUN
    folder.mkdir()
    info = RunInfo(run_id=RUN, kind="sft", created_at=0.0, backend="ray")
    (folder / "run.json").write_text(info.model_dump_json())
    (folder / ranks.JOB_FILE).write_text('{"backend": "ray", "token": "mine"}')
    directory.write_status(folder, Status(state="queued"))
    return folder


def started(run_dir, monkeypatch, token, *command):
    monkeypatch.setattr(sys, "argv", ["job", str(run_dir), token, "--", *command])
    return job.main()


def test_a_job_that_the_run_was_taken_from_touches_nothing(run_dir, monkeypatch, capsys):
    before = {path.name: path.read_bytes() for path in run_dir.iterdir()}
    assert started(run_dir, monkeypatch, "an older one", "touch", str(run_dir / "made")) == 0
    assert {path.name: path.read_bytes() for path in run_dir.iterdir()} == before
    assert "given to another job" in capsys.readouterr().err


def test_a_worker_of_such_a_job_touches_nothing_either(run_dir, monkeypatch):
    monkeypatch.setenv(MARK, "an older one")
    with pytest.raises(RunBusy, match="given to another job"):
        ranks.hold(run_dir)
    assert not (run_dir / locks.WORKER).exists()
    monkeypatch.setenv(MARK, "mine")
    ranks.hold(run_dir)
    assert locks.is_held(run_dir / locks.WORKER)


def test_a_second_writer_waits_for_the_first_and_gives_up(run_dir, monkeypatch):
    monkeypatch.setenv(MARK, "mine")
    monkeypatch.setattr(ranks, "HOLD_SECONDS", 0.0)
    first = locks.take(run_dir / locks.WORKER)
    with pytest.raises(RunBusy, match="another process"):
        ranks.hold(run_dir)
    os.close(first)
    ranks.hold(run_dir)


@pytest.mark.parametrize(
    ("before", "attempt", "because"),
    [
        (Status(state="queued", attempt=3), 3, None),
        (Status(state="interrupted", reason="preempted", attempt=1), 2, "preempted"),
        (Status(state="running", attempt=1), 2, None),
    ],
)
def test_a_start_by_the_scheduler_alone_is_an_attempt_more(
    run_dir, monkeypatch, before, attempt, because
):
    directory.write_status(run_dir, before)
    (run_dir / ranks.OUT_OF_MEMORY).touch()
    assert started(run_dir, monkeypatch, "mine", "true") == 0
    status = directory.read_status(run_dir)
    assert (status.attempt, status.ended_before) == (attempt, because)
    # The worker said nothing, so its end is written for it; not as the attempt before ended.
    assert (status.state, status.reason) == ("interrupted", "crash")


@pytest.mark.parametrize("state", ["succeeded", "queued"])
def test_a_run_that_succeeded_or_was_cancelled_is_not_started_again(run_dir, monkeypatch, state):
    directory.write_status(run_dir, Status(state=state))
    if state == "queued":
        directory.mark_cancel(run_dir)
    started(run_dir, monkeypatch, "mine", "touch", str(run_dir / "made"))
    assert not (run_dir / "made").exists()
    expected = {"succeeded": "succeeded", "queued": "cancelled"}
    assert directory.read_status(run_dir).state == expected[state]


def test_memory_that_ended_in_a_rank_is_why_the_job_ended(run_dir, monkeypatch):
    sign = str(run_dir / ranks.OUT_OF_MEMORY)
    started(run_dir, monkeypatch, "mine", "sh", "-c", f'touch "{sign}"; exit 1')
    status = directory.read_status(run_dir)
    assert (status.state, status.reason, status.error.code) == (
        "interrupted",
        "out_of_memory",
        "out_of_memory",
    )


@pytest.fixture(autouse=True)
def _own_signals(monkeypatch):
    """Leave the handlers and the umask of this process as they are."""
    monkeypatch.setattr(job.signal, "signal", lambda *_: None)
    before = os.umask(0o077)
    yield
    os.umask(before)
