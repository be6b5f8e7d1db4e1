"""Reading a run's files: damaged, torn and strange ones break nothing."""

import errno
import json
import os

import pytest

from ft_tools.errors import BadData, BadInput, NotFound
from ft_tools.evaluation.request import EvaluateRequest
from ft_tools.next_steps import next_step
from ft_tools.runs.hardware import memory
from ft_tools.runs.processes import endings
from ft_tools.runs.request import RunRequest
from ft_tools.runs.state import directory, locks
from ft_tools.runs.state.log import log_tail
from ft_tools.runs.state.records import Progress, RunError, Status
from ft_tools.runs.state.run_state import settled
from ft_tools.runs.tool import get_run
from ft_tools.training.request import SftRequest
from tests.made_runs import made_run

RUN_ID = "sft-0123456789abcdef"


@pytest.fixture
def run_dir(workspace):
    """Give the directory of a run that nobody holds."""
    return made_run(RUN_ID)


def test_every_event_can_be_read_by_asking_for_those_after_the_last_one(run_dir):
    for number in range(50):
        directory.add_event(run_dir, f"event {number}")
    newest = get_run(RunRequest(run_id=RUN_ID)).events
    assert [event.seq for event in newest] == list(range(31, 51))
    seen = []
    while more := get_run(RunRequest(run_id=RUN_ID, events_after=seen[-1] if seen else 0)).events:
        seen += [event.seq for event in more]
    assert seen == list(range(1, 51))


def test_a_torn_last_event_is_dropped_and_keeps_its_number_for_nobody_else(run_dir):
    directory.add_event(run_dir, "whole")
    with (run_dir / "events.jsonl").open("ab") as stream:
        stream.write(b'{"at": 1.0, "mess')
    assert [e.seq for e in directory.read_events(run_dir)] == [1]
    directory.add_event(run_dir, "after")
    assert [(e.seq, e.message) for e in directory.read_events(run_dir)] == [
        (1, "whole"),
        (3, "after"),
    ]


DAMAGED = [b"", b"{", b"[]", b'{"state": "flying"}', b"\xff" * 100, b"[" * 100_000]


@pytest.mark.parametrize("data", DAMAGED, ids=lambda data: repr(data[:10]))
def test_a_damaged_file_is_reported_and_hides_no_other_run(workspace, run_dir, data):
    good = made_run("sft-ffffffffffffffff", Status(state="succeeded"))
    (good / "report.json").write_bytes(b"{")
    (run_dir / "status.json").write_bytes(data)
    report = get_run(RunRequest(run_id=RUN_ID))
    assert (report.state, report.error.code) == ("interrupted", directory.UNREADABLE)
    assert report.resumable
    shown = get_run(RunRequest(run_id=good.name))
    assert shown.result is None
    assert [health.signal for health in shown.health] == ["damaged_report"]
    (run_dir / "run.json").write_bytes(data)
    listed = get_run(RunRequest())
    states = {line.run_id: line.state for line in listed.runs}
    assert states == {RUN_ID: "failed", good.name: "succeeded"}
    assert listed.spent.never_evaluated == [good.name]
    with pytest.raises(BadData, match="is damaged"):
        get_run(RunRequest(run_id=RUN_ID))


def test_staging_folders_links_and_strangers_are_no_runs(workspace, run_dir):
    for name in (".tmp-sft-1111111111111111-abcd", "notes-1111111111111111"):
        made_run(name)
    (workspace / "runs" / "sft-2222222222222222").symlink_to(run_dir)
    assert [path.name for path in directory.all_runs()] == [RUN_ID]
    with pytest.raises(NotFound):
        directory.find("sft-2222222222222222")
    for run_id in ("", "..", "sft-0123", RUN_ID + "\n", "../" + RUN_ID):
        with pytest.raises(BadInput):
            directory.find(run_id)


def test_a_run_that_nobody_holds_and_has_no_end_is_interrupted_or_cancelled(run_dir):
    for state in ("validating", "queued", "running"):
        directory.write_status(run_dir, Status(state=state))
        report = get_run(RunRequest(run_id=RUN_ID))
        assert (report.state, report.reason) == ("interrupted", "crash")
        assert report.error.code == "worker_died"
    assert directory.mark(run_dir, "cancel")
    assert not directory.mark(run_dir, "cancel")
    report = get_run(RunRequest(run_id=RUN_ID))
    assert (report.state, report.reason) == ("cancelled", "user")


def test_a_run_that_ran_out_of_memory_says_how_far_it_came_and_with_what_it_goes_on(run_dir):
    done = Progress(step=9, total_steps=400, fraction=0.02, elapsed_seconds=1.0)
    status = Status(state="interrupted", reason="out_of_memory", progress=done)
    directory.write_status(run_dir, status)
    report = get_run(RunRequest(run_id=RUN_ID))
    assert "9 of 400" in report.summary
    again = next_step("resume_start", {"run_id": RUN_ID}, "half_batch")
    assert report.next_steps == [again]


@pytest.mark.parametrize("state", ["running", "succeeded", "interrupted"])
def test_an_ended_run_has_no_time_left_whoever_wrote_its_end(run_dir, state):
    left = {"eta_seconds": 9.0, "eta_low_seconds": 5.0, "eta_high_seconds": 20.0}
    at = Progress(step=3, total_steps=9, fraction=0.3, elapsed_seconds=4.0, **left)
    directory.write_status(run_dir, Status(state="running", progress=at))
    lock = locks.take(run_dir / locks.OWNER)
    assert get_run(RunRequest(run_id=RUN_ID)).progress == at
    if state != "running":  # the supervisor's words; a worker's are of the same kind
        endings.write(run_dir, state, "crash")
    assert settled(run_dir).state == "running", "an end counts once nobody holds the run"
    os.close(lock)
    shown = get_run(RunRequest(run_id=RUN_ID)).progress
    assert shown == at.model_copy(update=dict.fromkeys(left))


def test_a_held_run_is_stalled_after_silence_on_the_monotonic_clock(run_dir, monkeypatch):
    lock = locks.take(run_dir / locks.OWNER)
    now, wall = directory.time.monotonic(), directory.time.time()
    # A clock that is set makes no run stall.
    monkeypatch.setattr(directory.time, "time", lambda: wall + 1e6)
    for allowed, silences in ((None, {1e6: "running"}), (62.0, {61: "running", 63: "stalled"})):
        status = Status(state="running", stalled_after_seconds=allowed)
        monkeypatch.setattr(directory.time, "monotonic", lambda: now)
        directory.write_status(run_dir, status)
        for silence, state in silences.items():
            monkeypatch.setattr(directory.time, "monotonic", lambda s=silence: now + s)
            assert settled(run_dir).state == state
    os.close(lock)


def test_a_silent_run_whose_job_waits_for_a_machine_is_queued_and_not_stalled(run_dir, monkeypatch):
    directory.write_status(run_dir, Status(state="running", stalled_after_seconds=300.0))
    (run_dir / directory.JOB).write_text('{"token": "t", "job_id": "7"}')
    wall = directory.time.time()
    monkeypatch.setattr(directory.time, "time", lambda: wall + 301)
    assert get_run(RunRequest(run_id=RUN_ID)).state == "stalled"
    (run_dir / directory.JOB).write_text('{"token": "t", "job_id": "7", "waiting": true}')
    assert settled(run_dir).state == "stalled", "nobody asks the scheduler any more"
    lock = locks.take(run_dir / locks.SUPERVISOR)
    waiting = get_run(RunRequest(run_id=RUN_ID))
    assert (waiting.state, [step.tool for step in waiting.next_steps]) == ("queued", ["get_run"])
    monkeypatch.setattr(directory.time, "time", lambda: wall + 1)
    assert settled(run_dir).state == "running", "what the run writes is believed first"
    os.close(lock)


@pytest.mark.parametrize(
    ("code", "final"),
    [("diverged", True), ("refused", True), ("plan_changed", True), ("crash", False)],
)
def test_a_failure_that_resuming_cannot_cure_leads_to_a_new_plan(run_dir, code, final):
    request = SftRequest(model="me/model", dataset="d.jsonl", request_id="one", confirm="a" * 16,
                         export_dir="out", training={"learning_rate": 1.0})  # fmt: skip
    (run_dir / "request.json").write_text(request.model_dump_json())
    error = RunError(code=code, message="it failed")
    directory.write_status(run_dir, Status(state="failed", error=error))
    report = get_run(RunRequest(run_id=RUN_ID))
    assert report.resumable is not final
    (step,) = report.next_steps
    assert step.tool == ("launch_sft" if final else "resume_run")
    if final:
        again = SftRequest.model_validate(step.arguments)
        changed = {"request_id": "", "confirm": None, "export_dir": None}
        assert again == request.model_copy(update=changed)


TRAIN, HELD_OUT, TEST = "train.jsonl", "held_out.jsonl", "test.jsonl"


@pytest.mark.parametrize(
    ("task", "files", "measured_on"),
    [
        ("sft", [TRAIN, HELD_OUT], HELD_OUT),
        ("sft", [TRAIN, HELD_OUT, TEST], TEST),
        ("sft", [TRAIN], None),
        ("dpo", [TRAIN, HELD_OUT, TEST], None),
        ("kto", [TRAIN, HELD_OUT, TEST], TEST),
    ],
)
def test_a_finished_run_is_measured_on_the_held_out_rows_that_its_plan_knows(
    run_dir, workspace, task, files, measured_on
):
    for name in files:
        (workspace / name).write_text(name)
    paths = [{"path": str(workspace / name)} for name in (TRAIN, HELD_OUT)]
    plan = {"task": task, "dataset": paths[0], "validation": paths[1] if files[1:] else None}
    (run_dir / "plan.json").write_text(json.dumps(plan))
    directory.write_status(run_dir, Status(state="succeeded"))
    (step,) = get_run(RunRequest(run_id=RUN_ID)).next_steps
    assert step.arguments["model"] == RUN_ID
    assert step.arguments.get("dataset") == (measured_on and str(workspace / measured_on))
    EvaluateRequest.model_validate(step.arguments | {"dataset": "some.jsonl"})


def test_without_locks_a_run_can_be_read_but_not_started(run_dir, monkeypatch):
    directory.write_status(run_dir, Status(state="succeeded"))
    os.close(locks.take(run_dir / locks.OWNER))

    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks.fcntl, "flock", no_locks)
    assert settled(run_dir).state == "succeeded"
    with pytest.raises(BadInput, match="on a local disk"):
        locks.take(run_dir / locks.OWNER)


def test_a_log_tail_is_bounded_escaped_and_without_secrets(run_dir):
    token = "hf_" + "aB3" * 11
    long = "x" * 1000
    text = f"{'first ' * 20_000}\n\x1b[31mred {token}\n10%\r20%\r30%\n{long}\n"
    (run_dir / "log.txt").write_text(text)
    tail = log_tail(run_dir, 10)
    assert tail == ["\\x1b[31mred [redacted]", "30%", "x" * 300]


def test_bytes_are_those_of_the_tightest_group_around_this_process(tmp_path, monkeypatch):
    groups = tmp_path / "cgroup"
    groups.write_text("0::/pod/container\n")
    monkeypatch.setattr(memory, "OWN_GROUPS", groups)
    monkeypatch.setattr(memory, "CGROUPS", tmp_path / "sys")
    of_machine = memory.total_bytes()
    pod, container = tmp_path / "sys" / "pod", tmp_path / "sys" / "pod" / "container"
    container.mkdir(parents=True)
    for folder, limit, used in ((container, "max", "300000"), (pod, "1000000", "900000")):
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text(f"{used}\n")
    assert of_machine > 1_000_000
    assert (memory.total_bytes(), memory.free_bytes()) == (1_000_000, 100_000)
    (pod / "memory.max").write_text("max\n")
    assert memory.total_bytes() == of_machine
