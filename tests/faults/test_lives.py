"""P3, P7, P8, P11: a start happens once and survives its starter; a run has one writer."""

import os
import random
import signal
import subprocess
import time

import psutil
import pytest
from harness import (
    ENDED,
    PYTHON,
    launch,
    race,
    report,
    run_dir_of,
    starts,
    supervisor_pid,
    until,
    until_phase,
    until_state,
)
from injection import call_points, clean, inject, require_strace, spread
from sizes import sized

from ft_tools import publish, workspace
from ft_tools.errors import RunBusy
from ft_tools.runs.request import ResumeRequest, RunRequest
from ft_tools.runs.state import directory, locks
from ft_tools.runs.tool import get_run, resume_run

SERVER = """
import sys, time
from harness import launch
print(launch(*sys.argv[2:], request_id="mine", device=sys.argv[1] or None), flush=True)
time.sleep(600)
"""
NAIVE_SERVER = """
import subprocess, sys, time
nap = "import time; time.sleep(600)"
print(subprocess.Popen([sys.executable, "-I", "-S", "-c", nap]).pid, flush=True)
time.sleep(600)
"""


def serve(*moves, device="", program=SERVER):
    """Start a process that starts a run and stays, in a process group of its own."""
    return subprocess.Popen(
        [*PYTHON, "-c", program, device, *moves],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def kill_group(server):
    os.killpg(server.pid, signal.SIGKILL)
    server.wait()
    server.stdout.close()


PHASES = ("starting", "queued", "running", "publishing", "ending")


def kill_in_phase(phase, rng):
    """Kill a server and its group in a phase of its run; returns whether a promise is broken."""
    device = None
    if phase == "queued":
        folder = workspace.cache_dir() / "devices"
        publish.private_folder(folder)
        device = locks.take(folder / "cpu.lock")
    server = serve("steps:10", "publish", "steps:10", device="cpu" if device else "")
    if phase == "starting":
        # Somewhere within the imports, the start, or just after it.
        time.sleep(rng.uniform(0.15, 0.45))
    else:
        run_id = server.stdout.readline().strip()
        if phase == "queued":
            until(lambda: any("waiting" in e.message for e in report(run_id).events))
        elif phase == "running":
            until_phase(run_id, "steps")
        elif phase == "publishing":
            until(lambda: any(e.message == "publish" for e in report(run_id).events))
        else:
            until((run_dir_of(run_id) / "artifacts" / "adapter").exists)
    kill_group(server)
    if phase == "starting":
        # Whatever it left, the same call by the next server makes it whole.
        run_id = launch("steps:10", "publish", "steps:10", request_id="mine")
    state = report(run_id).state
    if device is not None:
        os.close(device)
    ended = until_state(run_id, *ENDED)
    is_bad = state not in ENDED | {"queued", "validating", "running"} or ended != "succeeded"
    is_bad = is_bad or len(starts(run_id)) != 1
    # Its supervisor may still be on its way out, and would write into the next run of that name.
    clean(run_dir_of(run_id))
    return is_bad


@sized("kills of a server")
def test_a_run_outlives_the_server_that_started_it(runs_here, size):
    rng = random.Random(7)
    assert not any(kill_in_phase(PHASES[i % len(PHASES)], rng) for i in range(size))


def test_a_child_in_the_group_of_its_server_would_not_outlive_it():
    """The negative control: no session of its own."""
    server = serve(program=NAIVE_SERVER)
    child = psutil.Process(int(server.stdout.readline()))
    kill_group(server)
    until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


def prepare(folder):
    if folder.exists():
        clean(folder)
    folder.mkdir()


def wrong_after(folder, point, what):
    """Start a run with a fault at one call, then without; returns what was not as promised."""
    prepare(folder)
    first = inject("start_run", folder, *point, what)
    lines = get_run(RunRequest()).runs
    run_id = launch("steps:1", request_id="swept")
    ended = until_state(run_id, *ENDED)
    wrong = {
        "traceback": "Traceback" in first.stderr and first.stderr[-500:],
        "damaged": [line.name for line in lines if line.name.startswith("(damaged")],
        "ended": ended != "succeeded" and ended,
        "starts": len(starts(run_id)) != 1 and starts(run_id),
        "left": list((folder / "runs").glob(".tmp-*")),
    }
    return {name: value for name, value in wrong.items() if value}


@sized("kill points of a start")
def test_a_start_that_is_killed_at_any_call_is_made_good_by_the_same_call(
    runs_here, monkeypatch, size
):
    require_strace()
    folder = runs_here / "x"
    monkeypatch.setenv(workspace.VARIABLE, str(folder))
    found = spread(call_points("start_run", prepare, folder), size)
    results = {point: wrong_after(folder, point, "signal=SIGKILL") for point in found}
    assert {point: wrong for point, wrong in results.items() if wrong} == {}


@sized("resume races")
def test_of_racing_resumes_one_gets_the_run(runs_here, size):
    run_id = launch("held_then_die")
    doubles = 0
    for attempt in range(1, size + 1):
        until(lambda n=attempt: len(starts(run_id)) == n)
        (run_dir_of(run_id) / f"end-{attempt}").touch()
        until_state(run_id, "interrupted")
        got = race(8, "resume", run_id)
        doubles += sorted(got) != [f"attempt {attempt + 1}"] + ["run_busy"] * 7
        until(lambda n=attempt: len(starts(run_id)) > n)
        doubles += len(starts(run_id)) != attempt + 1
    assert doubles == 0


def test_racing_starts_without_a_lock_would_double(runs_here):
    """The negative control: look, then make."""
    doubled = 0
    for number in range(5):
        folder = runs_here / str(number)
        folder.mkdir()
        doubled += race(8, "start_naively", str(folder)).count("started") > 1
    assert doubled >= 1


def test_a_worker_goes_on_when_its_supervisor_is_killed(runs_here):
    run_id = launch("steps:30")
    until_phase(run_id, "steps")
    os.kill(supervisor_pid(run_id), signal.SIGKILL)
    assert report(run_id).state == "running"
    with pytest.raises(RunBusy):
        resume_run(ResumeRequest(run_id=run_id))
    assert until_state(run_id, *ENDED) == "succeeded"


@sized("equal starts")
def test_equal_starts_of_32_processes_make_one_run(runs_here, size):
    num_bad = 0
    for number in range(size):
        got = race(32, "start", f"equal-{number}")
        num_bad += len(set(got)) != 1
        until_state(got[0], *ENDED)
        num_bad += len(starts(got[0])) != 1 or len(directory.all_runs()) != number + 1
    assert num_bad == 0
