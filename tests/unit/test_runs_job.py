"""Inside a job: which start counts as an attempt, and a job that the run was taken from."""

import os
import sys

import pytest

from ft_tools.runs.launchers import inside_job, workdir
from ft_tools.runs.processes.worker_session import RUN_FAILED
from ft_tools.runs.state import directory
from ft_tools.runs.state.records import RunError, Status
from tests.made_runs import made_run

RUN = "sft-0123456789abcdef"


@pytest.fixture
def run_dir(tmp_path):
    """Write a run that was given to the job with the token `mine`."""
    plan = {"model": {}, "training": {}, "place": {"sharding": "ddp"}}
    files = {"request": {}, "plan": plan, "job": {"token": "mine"}}
    return made_run(RUN, Status(state="queued"), files=files, runs=tmp_path, backend="ray")


def started(run_dir, monkeypatch, token, *command):
    monkeypatch.setattr(sys, "argv", ["job", str(run_dir), token, "--", *command])
    return inside_job.main()


def test_a_job_that_the_run_was_taken_from_touches_nothing(run_dir, monkeypatch, capsys):
    before = {path.name: path.read_bytes() for path in run_dir.iterdir()}
    assert started(run_dir, monkeypatch, "an older one", "touch", str(run_dir / "made")) == 0
    assert {path.name: path.read_bytes() for path in run_dir.iterdir()} == before
    assert "given to another job" in capsys.readouterr().err


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
    (run_dir / "out_of_memory").touch()
    assert started(run_dir, monkeypatch, "mine", "true") == RUN_FAILED
    status = directory.read_status(run_dir)
    assert (status.attempt, status.ended_before) == (attempt, because)
    # The worker said nothing, so its end is written for it; not as the attempt before ended.
    assert (status.state, status.reason) == ("interrupted", "crash")


@pytest.mark.parametrize(
    ("before", "cancels", "after"),
    [
        (Status(state="succeeded"), False, "succeeded"),
        # What the plan would meet again is not paid for again.
        (Status(state="failed", error=RunError(code="refused", message="x")), False, "failed"),
        (Status(state="queued"), True, "cancelled"),
        # The control of this one: a preemption begins another attempt.
        (Status(state="interrupted", reason="budget"), False, "interrupted"),
    ],
)
def test_a_run_that_is_over_is_not_started_again(run_dir, monkeypatch, before, cancels, after):
    directory.write_status(run_dir, before)
    if cancels:
        directory.mark(run_dir, "cancel")
    started(run_dir, monkeypatch, "mine", "touch", str(run_dir / "made"))
    assert not (run_dir / "made").exists()
    assert directory.read_status(run_dir).state == after


def worker_ends(run_dir, tmp_path, status, return_code):
    """Return the command of a worker that writes its end, and then exits."""
    (tmp_path / "end").mkdir()
    directory.write_status(tmp_path / "end", status)
    return ["sh", "-c", f'cp "{tmp_path}/end/status.json" "{run_dir}"; exit {return_code}']


@pytest.mark.parametrize(
    ("ended", "return_code", "expected"),
    [
        (Status(state="succeeded"), 0, 0),
        # Only its leaving went wrong.
        (Status(state="succeeded"), 1, 0),
        (Status(state="failed", reason="crash"), 2, 2),
        (Status(state="interrupted", reason="preempted"), 0, RUN_FAILED),
    ],
)
def test_a_job_has_succeeded_for_its_scheduler_when_the_run_has(
    run_dir, monkeypatch, tmp_path, ended, return_code, expected
):
    command = worker_ends(run_dir, tmp_path, ended, return_code)
    assert started(run_dir, monkeypatch, "mine", *command) == expected


@pytest.fixture
def there(run_dir, tmp_path, monkeypatch):
    """Give the working directory of the run, its place in the storage, and where it runs."""
    monkeypatch.setattr(inside_job, "KEEP_SECONDS", 0.0)
    monkeypatch.setattr(inside_job, "LAST_COPIES", 2)
    workdir.pack(run_dir)
    return run_dir / workdir.FOLDER, tmp_path / "kept", tmp_path / "there" / RUN


def started_there(there, monkeypatch, *command):
    packed, kept, run_dir = there
    places = ["--workdir", str(packed), "--kept", str(kept)]
    monkeypatch.setattr(sys, "argv", ["job", str(run_dir), "mine", *places, "--", *command])
    return inside_job.main()


def storage_breaks(there):
    """Put a file where the storage has to have a folder, and something to copy into that."""
    _, kept, run_dir = there
    kept.mkdir()
    (kept / "artifacts").touch()
    adapter = f"{run_dir}/artifacts/adapter"
    told = f'grep -qs "storage cannot be written" "{run_dir}/events.jsonl"'
    wait = f"for _ in $(seq 600); do {told} && break; sleep 0.05; done"
    return f'mkdir -p "{adapter}"; touch "{adapter}/manifest.json"; {wait}'


def test_a_run_whose_results_could_not_be_kept_has_not_succeeded_until_they_are(
    there, tmp_path, monkeypatch
):
    _, kept, run_dir = there
    breaks = storage_breaks(there)
    copy, script, ends = worker_ends(run_dir, tmp_path, Status(state="succeeded"), 0)
    code = started_there(there, monkeypatch, copy, script, f"{breaks}; {ends}")
    assert code == RUN_FAILED
    assert directory.read_status(kept).state != "succeeded"
    (kept / "artifacts").unlink()
    # The scheduler starts it again on the same machine: there is only the copy to make.
    assert started_there(there, monkeypatch, "touch", str(run_dir / "trained again")) == 0
    assert not (run_dir / "trained again").exists()
    assert directory.read_status(kept).state == "succeeded"
    assert (kept / "artifacts" / "adapter" / "manifest.json").exists()


@pytest.fixture(autouse=True)
def _own_signals(monkeypatch):
    """Leave the handlers and the umask of this process as they are."""
    monkeypatch.setattr(inside_job.signal, "signal", lambda *_: None)
    before = os.umask(0o077)
    yield
    os.umask(before)
