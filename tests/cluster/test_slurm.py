"""Runs on a real Slurm: two machines, cancel, preemption, the time limit, a job taken away."""

import subprocess

import psutil
import pytest

from ft_tools.runs.processes.start import start
from ft_tools.runs.request import CancelRequest, ResumeRequest, RunRequest
from ft_tools.runs.state import directory, locks
from ft_tools.runs.tool import cancel_run, get_run, resume_run
from ft_tools.training.request import SftRequest
from tests.cluster.conftest import eventually, said
from tests.faults.harness import WORKER, Moves, messages, run_dir_of
from tests.tiny.trainings import (
    LIBRARY_WARNINGS,
    QUICK,
    conversations,
    finished,
    launch,
    wait_until,
    write_jsonl,
)

pytestmark = [*LIBRARY_WARNINGS, pytest.mark.usefixtures("slurm")]
TWO_RANKS = {
    "num_train_epochs": 1,
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 4,
}
URGENT = ["sbatch", "--parsable", "--partition=urgent", "--nodes=2", "--exclusive"]


@pytest.fixture
def request_(workspace, tiny_model_in):
    return SftRequest(
        model=tiny_model_in,
        dataset=write_jsonl(workspace / "train.jsonl", conversations(32)),
        validation=write_jsonl(workspace / "held_out.jsonl", conversations(8, first=100)),
        training={**QUICK, **TWO_RANKS},
        backend="slurm",
        backend_options={"nodes": 2},
    )


def moves(*names, **options):
    """Start a cheap run; its id."""
    plan = Moves(moves=list(names))
    return start("audit", plan, plan, worker=WORKER, backend="slurm", backend_options=options)


def report(run_id):
    return get_run(RunRequest(run_id=run_id))


def job_of(run_id):
    submitted = next(m for m in messages(run_id) if m.startswith("submitted as slurm job"))
    return submitted.rpartition(" ")[2]


def running(run_id):
    return wait_until(lambda r: r.state == "running" and r.phase == "steps", run_id)


def supervisor(run_id):
    """Find the process that looks after a run here."""
    argv = ["ft_tools.runs.processes.supervisor", str(run_dir_of(run_id))]
    found = [p for p in psutil.process_iter(["cmdline"]) if (p.info["cmdline"] or [])[-2:] == argv]
    (one,) = found
    return one


def hurry(run_id):
    """Let a requeued job start now: Slurm holds it back for two minutes."""
    eventually(lambda: any("PENDING (BeginTime)" in m for m in messages(run_id)), 60)
    update = ["scontrol", "update", f"JobId={job_of(run_id)}", "StartTime=now"]
    eventually(lambda: not subprocess.run(update, capture_output=True, check=False).returncode)


def test_two_machines_train_one_model_and_the_job_is_named_like_the_run(request_):
    run_id = launch(request_)
    done = finished(run_id, seconds=240)
    assert done.state == "succeeded"
    assert (done.result["steps"], done.result["accumulation"]) == (4, 2)
    said_by_slurm = [m for m in messages(run_id) if m.startswith("slurm job")]
    assert "COMPLETED" in said_by_slurm[-1]
    shown = said("scontrol", "show", "job", "--oneliner", job_of(run_id))
    assert f"JobName=ft-{run_id}" in shown
    assert "NodeList=n[1-2]" in shown


def test_a_preempted_run_saves_is_interrupted_and_goes_on_when_slurm_queues_it_again(request_):
    long = {**request_.training, "num_train_epochs": 60, "eval_steps": 20, "logging_steps": 1}
    run_id = launch(request_.model_copy(update={"training": long}))
    wait_until(lambda r: r.progress is not None and r.progress.step >= 30, run_id, 240)
    said(*URGENT, "--output=/dev/null", "--wrap", "srun sleep 3")
    taken = wait_until(lambda r: r.state == "interrupted", run_id, 120)
    assert (taken.reason, taken.resumable) == ("preempted", False)
    step = taken.progress.step
    hurry(run_id)
    done = finished_after_requeue(run_id, 240)
    assert done.state == "succeeded"
    assert done.attempts == 2
    assert f"continuing from checkpoint-{step}" in messages(run_id)
    steps = [r["step"] for r in directory.read_metrics(run_dir_of(run_id)) if "loss" in r]
    assert steps == list(range(1, 241)), "a step was lost or trained twice"


def finished_after_requeue(run_id, seconds=120):
    return wait_until(lambda r: r.state in {"succeeded", "failed", "cancelled"}, run_id, seconds)


def test_a_cancelled_run_stops_by_itself_after_saving():
    run_id = moves("until_told")
    running(run_id)
    assert cancel_run(CancelRequest(run_id=run_id)).state == "cancelling"
    report_ = finished(run_id)
    assert (report_.state, report_.reason, report_.resumable) == ("cancelled", "user", True)
    assert any((run_dir_of(run_id) / "checkpoints").iterdir())
    assert not [m for m in messages(run_id) if m.startswith("ending job")]


def test_a_cancelled_run_that_does_not_listen_is_ended_by_slurm(monkeypatch):
    monkeypatch.setenv("FINE_TUNING_LLM_CANCEL_GRACE", "1")
    run_id = moves("deaf")
    wait_until(lambda r: r.phase == "deaf", run_id)
    cancel_run(CancelRequest(run_id=run_id))
    assert finished(run_id).state == "cancelled"
    assert f"ending job {job_of(run_id)}" in messages(run_id)


def test_a_job_that_somebody_else_removed_is_told_apart_and_resumes():
    run_id = moves("deaf")
    wait_until(lambda r: r.phase == "deaf", run_id)
    said("scancel", "--signal=KILL", "--full", job_of(run_id))
    ended = wait_until(lambda r: r.resumable, run_id)
    assert ended.state == "interrupted"
    assert ended.error.code in {"job_ended", "worker_died"}
    first = job_of(run_id)
    resume_run(ResumeRequest(run_id=run_id))
    eventually(lambda: sum(m.startswith("submitted as") for m in messages(run_id)) == 2)
    wait_until(lambda r: r.phase == "deaf" and r.attempts == 2, run_id)
    second = [m for m in messages(run_id) if m.startswith("submitted as")][-1].rpartition(" ")[2]
    assert second != first
    said("scancel", second)
    assert finished(run_id).state in {"cancelled", "interrupted"}


def test_a_run_that_meets_its_time_limit_saves_and_resumes():
    # Slurm counts in minutes, and warns up to a minute earlier than asked.
    run_id = moves("until_told", time_limit="1", signal_seconds=10)
    running(run_id)
    taken = wait_until(lambda r: r.resumable, run_id, 120)
    assert (taken.state, taken.reason) == ("interrupted", "preempted")
    resume_run(ResumeRequest(run_id=run_id))
    wait_until(lambda r: r.attempts == 2 and r.phase == "steps", run_id, 120)
    cancel_run(CancelRequest(run_id=run_id))
    assert finished(run_id).state == "cancelled"


def test_a_run_whose_supervisor_is_gone_is_looked_after_again(monkeypatch):
    run_id = moves("until_told")
    running(run_id)
    supervisor(run_id).kill()
    eventually(lambda: not locks.is_held(run_dir_of(run_id) / locks.SUPERVISOR))
    assert report(run_id).state == "running"
    assert resume_run(ResumeRequest(run_id=run_id)).state == "running"
    eventually(lambda: any(m.startswith("adopted") for m in messages(run_id)))
    cancel_run(CancelRequest(run_id=run_id))
    assert finished(run_id).state == "cancelled"
    assert sum(m.startswith("submitted as") for m in messages(run_id)) == 1


def test_a_run_that_failed_is_a_job_that_failed_and_what_depends_on_it_does_not_start():
    run_id = moves("steps:100", "no such move")
    running(run_id)
    after = ["sbatch", "--parsable", f"--dependency=afterok:{job_of(run_id)}", "--output=/dev/null"]
    dependent = said(*after, "--kill-on-invalid-dep=yes", "--wrap", "true").strip()
    assert finished(run_id).state == "failed"
    assert "JobState=FAILED" in said("scontrol", "show", "job", "--oneliner", job_of(run_id))
    shown = ["scontrol", "show", "job", "--oneliner", dependent]
    eventually(lambda: "JobState=CANCELLED" in said(*shown), 60)
