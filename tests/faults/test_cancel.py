"""P10: a cancel is honest, whatever the worker does, and no process of a run outlives it."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from harness import (
    ENDED,
    is_alive,
    launch,
    processes_naming,
    report,
    run_dir_of,
    supervisor_pid,
    until,
    until_phase,
    until_state,
    worker_pid,
)
from sizes import sized

from ft_tools import publish, workspace
from ft_tools.runs.hardware import memory
from ft_tools.runs.request import CancelRequest, ResumeRequest
from ft_tools.runs.state import locks
from ft_tools.runs.tool import cancel_run, resume_run

WORKERS = {
    "polite": ("until_told",),
    "deaf": ("deaf",),
    "stubborn": ("stubborn",),
    "polite with a family": ("family", "until_told"),
    "stubborn with a family": ("family", "stubborn"),
    "queued": ("until_told",),
}


def cancel(run_id):
    return cancel_run(CancelRequest(run_id=run_id))


def family_of(run_id):
    path = run_dir_of(run_id) / "pids"
    return [int(pid) for pid in path.read_text().split()] if path.exists() else []


def take_device():
    folder = workspace.cache_dir() / "devices"
    publish.private_folder(folder)
    return locks.take(folder / "cpu.lock")


def wrong_with_cancel(kind, delay, supervisor_dies=False):
    """Cancel a run after a delay; returns what was not as promised."""
    device = take_device() if kind == "queued" else None
    run_id = launch(*WORKERS[kind], device="cpu" if device else None)
    if supervisor_dies:
        until((run_dir_of(run_id) / "pids").exists)
        supervisor = supervisor_pid(run_id)
        os.kill(supervisor, signal.SIGKILL)
        until(lambda: not is_alive(supervisor))
    time.sleep(delay)
    at_once = cancel(run_id).state
    again = cancel(run_id).state
    ended = until_state(run_id, *ENDED)
    left = [pid for pid in family_of(run_id) if is_alive(pid)]
    # Only the supervisor may still be on its way out.
    until(lambda: not processes_naming(run_dir_of(run_id)), pause=0.05)
    after = cancel(run_id).state
    asked = [e for e in report(run_id).events if e.message == "cancel requested"]
    if device is not None:
        os.close(device)
    wrong = {
        "at once": at_once not in {"cancelling", "cancelled"} and at_once,
        "again": again not in {"cancelling", "cancelled"} and again,
        "ended": ended != "cancelled" and ended,
        "after": after != "cancelled" and after,
        "orphans": left,
        "asked": len(asked) != 1 and len(asked),
    }
    return {name: value for name, value in wrong.items() if value}


@sized("cancels")
def test_a_cancel_at_any_time_ends_everything_once(runs_here, size):
    rng = random.Random(11)
    kinds = list(WORKERS)
    found = [wrong_with_cancel(kinds[i % len(kinds)], rng.uniform(0, 0.8)) for i in range(size)]
    bad = [wrong for wrong in found if wrong]
    assert bad == []


@pytest.mark.parametrize("kind", ["polite with a family", "stubborn with a family"])
def test_a_cancel_ends_a_run_whose_supervisor_is_dead(runs_here, kind):
    wrong = wrong_with_cancel(kind, 0.0, supervisor_dies=True)
    # Without its supervisor nobody is handed the one that has neither session nor environment.
    assert len(wrong.pop("orphans", [])) <= 1
    assert wrong == {}


def test_a_polite_worker_saves_before_it_stops_and_can_be_resumed(runs_here):
    run_id = launch("until_told")
    until_phase(run_id, "steps")
    cancel(run_id)
    assert until_state(run_id, *ENDED) == "cancelled"
    saved = list((run_dir_of(run_id) / "checkpoints").iterdir())
    assert [publish.verify(folder) for folder in saved] == [[]]
    assert report(run_id).reason == "user"
    assert resume_run(ResumeRequest(run_id=run_id)).state in {"queued", "validating", "running"}
    until_phase(run_id, "steps")
    assert report(run_id).state == "running", "the old cancel is over"
    cancel(run_id)
    assert until_state(run_id, *ENDED) == "cancelled"


def test_a_killed_worker_leaves_no_process_behind(runs_here):
    run_id = launch("family", "until_told")
    until_phase(run_id, "steps")
    assert len(family_of(run_id)) == 6
    os.kill(worker_pid(run_id), signal.SIGKILL)
    assert until_state(run_id, *ENDED) == "interrupted"
    assert [pid for pid in family_of(run_id) if is_alive(pid)] == []


@pytest.mark.parametrize("how", ["resume", "cancel"])
def test_what_a_dead_run_left_is_ended_by_its_next_attempt_or_a_cancel(runs_here, how):
    run_id = launch("family", "until_told")
    until_phase(run_id, "steps")
    for pid in (supervisor_pid(run_id), worker_pid(run_id)):
        os.kill(pid, signal.SIGKILL)
    assert until_state(run_id, *ENDED) == "interrupted"
    first = family_of(run_id)
    assert any(is_alive(pid) for pid in first)
    if how == "resume":
        (run_dir_of(run_id) / "pids").unlink()
        resume_run(ResumeRequest(run_id=run_id))
        until((run_dir_of(run_id) / "pids").exists)
    cancel(run_id)
    assert until_state(run_id, *ENDED) == ("cancelled" if how == "resume" else "interrupted")
    left = [pid for pid in first if is_alive(pid)]
    # Without its supervisor nobody is handed the one that has neither session nor environment.
    assert len(left) <= 1
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    num_events = len(report(run_id).events)
    cancel(run_id)
    assert len(report(run_id).events) == num_events


def test_ending_the_worker_alone_would_leave_orphans(runs_here):
    """The negative control: TERM to the one process whose id is known."""
    script = (
        "import subprocess, sys; nap = 'import time; time.sleep(600)'; "
        "print(subprocess.Popen([sys.executable, '-I', '-S', '-c', nap]).pid, flush=True); "
        "__import__('time').sleep(600)"
    )
    argv = [sys.executable, "-I", "-S", "-c", script]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, start_new_session=True) as worker:
        child = int(worker.stdout.readline())
        worker.terminate()
    assert is_alive(child)
    os.kill(child, signal.SIGKILL)


def test_a_term_is_passed_on_and_the_run_is_interrupted_not_failed(runs_here):
    """What a scheduler or a shutdown does."""
    run_id = launch("until_told")
    until_phase(run_id, "steps")
    os.kill(supervisor_pid(run_id), signal.SIGTERM)
    assert until_state(run_id, *ENDED) == "interrupted"
    assert report(run_id).reason == "preempted"


def test_runs_that_wait_for_a_device_get_it_in_the_order_of_their_launch(runs_here):
    device = take_device()
    waiting = []
    for _ in range(4):
        run_id = launch("steps:1", device="cpu")
        until(lambda r=run_id: any("waiting" in event.message for event in report(r).events))
        waiting.append(run_id)
    dead = waiting.pop(1)
    os.kill(processes_naming(run_dir_of(dead))[0].pid, signal.SIGKILL)
    os.close(device)
    for run_id in waiting:
        assert until_state(run_id, *ENDED) == "succeeded"
    begun = [(run_dir_of(run_id) / "starts.log").stat().st_mtime for run_id in waiting]
    assert begun == sorted(begun)
    assert report(dead).state == "interrupted"
    assert list((workspace.cache_dir() / "devices").glob("*.place")) == []


@pytest.fixture
def memory_group():
    """Give the folder of a memory control group of 200 MiB (version 1)."""
    own = [
        line.split(":", 2)[2]
        for line in Path("/proc/self/cgroup").read_text().splitlines()
        if line.split(":")[1] == "memory"
    ]
    if not own:
        pytest.skip("no memory control group of version 1 here")
    folder = memory.CGROUPS / "memory" / own[0].lstrip("/") / f"fine-tuning-llm-{os.getpid()}"
    try:
        folder.mkdir()
        (folder / "memory.limit_in_bytes").write_text(str(200 * 2**20))
    except OSError:
        pytest.skip("control groups may not be made here")
    yield folder
    until(lambda: not (folder / "cgroup.procs").read_text().split())
    folder.rmdir()


def test_a_worker_that_the_kernel_kills_for_memory_is_out_of_memory(runs_here, memory_group):
    # Both processes join the group through their starter, as in a container.
    starter = (
        "import os, sys; from pathlib import Path; from harness import launch; "
        "Path(sys.argv[1], 'cgroup.procs').write_text(str(os.getpid())); "
        "print(launch('fill_memory'))"
    )
    argv = [sys.executable, "-P", "-c", starter, str(memory_group)]
    run_id = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()
    assert until_state(run_id, *ENDED) == "interrupted"
    ended = report(run_id)
    assert (ended.reason, ended.error.code) == ("out_of_memory", "out_of_memory")
    assert ended.error.hint == "resume_run goes on with less"
    resume_run(ResumeRequest(run_id=run_id))
    assert until_state(run_id, *ENDED) == "succeeded"
