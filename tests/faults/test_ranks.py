"""Two real ranks that torchrun starts, over the real session: who writes, who stops, who fails."""

import pytest
from harness import is_alive, launch, messages, report, run_dir_of, until, until_state

from ft_tools.runs.request import CancelRequest, ResumeRequest
from ft_tools.runs.state import directory, locks
from ft_tools.runs.tool import cancel_run, resume_run

pytestmark = [pytest.mark.faults, pytest.mark.usefixtures("runs_here")]
TWO = {"backend_options": {"device": "cpu", "processes": 2}}


def test_one_of_two_ranks_writes_and_holds_the_run():
    run_id = launch("steps:50", **TWO)
    until(lambda: report(run_id).phase == "steps")
    assert locks.is_held(run_dir_of(run_id) / locks.WORKER)
    until_state(run_id, "succeeded")
    assert len((run_dir_of(run_id) / "starts.log").read_text().splitlines()) == 2
    steps = [row["step"] for row in directory.read_metrics(run_dir_of(run_id))]
    assert steps == list(range(1, 51))
    assert messages(run_id).count("steps") == 1
    assert not locks.is_held(run_dir_of(run_id) / locks.WORKER)


def test_memory_that_ends_in_the_second_rank_is_the_reason_of_the_run():
    run_id = launch("short_of_memory:1", **TWO)
    until_state(run_id, "failed", "interrupted")
    assert report(run_id).reason == "out_of_memory"
    resume_run(ResumeRequest(run_id=run_id))
    until(lambda: report(run_id).attempts == 2 and report(run_id).reason == "out_of_memory")
    assert messages(run_id).count("short_of_memory") == 2


def test_ranks_that_do_not_listen_are_ended_with_their_launcher():
    run_id = launch("stubborn", **TWO)
    until(lambda: report(run_id).phase == "stubborn")
    pids = [int(line) for line in (run_dir_of(run_id) / "starts.log").read_text().split()]
    cancel_run(CancelRequest(run_id=run_id))
    until_state(run_id, "cancelled")
    for pid in pids:
        until(lambda pid=pid: not is_alive(pid))
