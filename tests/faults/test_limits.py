"""P9, P21: a hung run is called stalled, and limits of the system end in a state with an advice."""

import os
import signal
import subprocess
import time

import pytest
from harness import ENDED as ENDS
from harness import PYTHON, launch, report, run_dir_of, until, until_state, worker_pid

from ft_tools.runs.request import CancelRequest
from ft_tools.runs.state import directory
from ft_tools.runs.tool import cancel_run

LEAST = 60.0


@pytest.mark.faults
@pytest.mark.parametrize("how", ["stopped", "dead_loop", "deadlock"])
def test_a_run_that_hangs_is_called_stalled_after_a_minute(runs_here, how):
    run_id = launch("until_told" if how == "stopped" else how)
    pid = worker_pid(run_id)
    until(lambda: (p := directory.read_status(run_dir_of(run_id)).progress) and p.step >= 30)
    if how == "stopped":
        status = directory.read_status(run_dir_of(run_id))
        os.kill(pid, signal.SIGSTOP)
        time.sleep(0.2)
        # This worker has said nothing of its own pace: it is given what a training would say.
        directory.write_status(
            run_dir_of(run_id), status.model_copy(update={"stalled_after_seconds": LEAST})
        )
    began = time.monotonic()
    assert report(run_id).state == "running"
    time.sleep(LEAST - 10)
    assert report(run_id).state == "running"
    until_state(run_id, "stalled", seconds=20)
    took = time.monotonic() - began
    assert [step.tool for step in report(run_id).next_steps] == ["cancel_run"]
    assert took <= LEAST + 5
    cancel_run(CancelRequest(run_id=run_id))
    assert until_state(run_id, *ENDS) == "cancelled"


def limited(limit, *moves):
    """Start a run from a process with a limit; its id."""
    program = (
        "import resource, sys; from harness import launch; "
        f"resource.setrlimit({limit}); print(launch(*sys.argv[1:]))"
    )
    argv = [*PYTHON, "-c", program, *moves]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()


def test_a_worker_out_of_open_files_says_which_limit_to_raise(runs_here):
    run_id = limited("resource.RLIMIT_NOFILE, (64, 64)", "many_files")
    assert until_state(run_id, *ENDS) == "failed"
    error = report(run_id).error
    assert (error.code, error.message) == ("limit_reached", "too many open files")
    assert "ulimit" in error.hint


def test_a_file_that_may_not_grow_is_a_full_disk(runs_here):
    run_id = limited("resource.RLIMIT_FSIZE, (2**20, 2**20)", "fill_disk", "steps:1")
    assert until_state(run_id, *ENDS) == "interrupted"
    ended = report(run_id)
    assert (ended.reason, ended.error.code) == ("disk_full", "disk_full")
    assert list((run_dir_of(run_id) / "artifacts").iterdir()) == []
