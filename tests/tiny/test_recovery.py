"""A run that is killed, cancelled or terminated goes on as if nothing had been."""

import json
import os
import signal
from pathlib import Path

import pytest
import torch

from ft_tools import workspace as workspace_module
from ft_tools.runs.observe import RunRequest, get_run
from ft_tools.runs.stop import CancelRequest, ResumeRequest, cancel_run, resume_run
from ft_tools.training import checkpoints
from ft_tools.workers import sft
from tests.tiny.trainings import (
    LIBRARY_WARNINGS,
    QUICK,
    SftRequest,
    conversations,
    finished,
    launch,
    losses,
    prepared,
    same_bits,
    wait_until,
    weights_of,
    write_jsonl,
)

pytestmark = [pytest.mark.tiny, *LIBRARY_WARNINGS]
DROPOUT = {"r": 4, "lora_dropout": 0.1}


@pytest.fixture(autouse=True)
def _own_device(tmp_path, monkeypatch):
    """Compute on one thread, and wait for no run of anybody else."""
    monkeypatch.setenv(workspace_module.CACHE_VARIABLE, str(tmp_path / "cache"))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def request_(workspace, tiny_model_in):
    """Ask for a run of 60 steps with dropout, so that a wrong random state would show."""
    return SftRequest(
        model=tiny_model_in,
        dataset=write_jsonl(workspace / "train.jsonl", conversations(40)),
        peft=DROPOUT,
        training={**QUICK, "num_train_epochs": 6, "logging_steps": 1, "save_steps": 7},
        accept_findings=["validation_unwatched"],
        accept_reason="a test",
    )


def kill_worker(run_id):
    owner = json.loads((workspace_module.runs_dir() / run_id / "owner.json").read_bytes())
    os.kill(owner["worker_pid"], signal.SIGKILL)


def past(step):
    return lambda report: (
        report.phase == "training" and report.progress is not None and report.progress.step >= step
    )


def test_a_killed_worker_is_interrupted_and_resumes_to_the_same_bits(request_):
    killed = launch(request_)
    wait_until(past(15), killed)
    kill_worker(killed)
    report = finished(killed)
    assert (report.state, report.reason) == ("interrupted", "crash")
    assert report.resumable
    resume_run(ResumeRequest(run_id=killed))
    resumed = finished(killed)
    assert resumed.state == "succeeded"
    assert resumed.result["attempts"] == 2
    assert any("continuing from checkpoint-" in event.message for event in resumed.events)
    session = prepared(request_, "whole")
    uninterrupted = sft.work(session)
    assert same_bits(weights_of(resumed.result["artifact"]), weights_of(uninterrupted.artifact))
    assert losses(killed) == losses(session.run_dir.name)


def test_a_cancelled_run_keeps_a_checkpoint_that_can_be_trusted(request_):
    run_id = launch(request_)
    wait_until(past(3), run_id)
    assert cancel_run(CancelRequest(run_id=run_id)).state in {"cancelling", "cancelled"}
    report = finished(run_id)
    assert (report.state, report.reason) == ("cancelled", "user")
    folder = workspace_module.runs_dir() / run_id / "checkpoints"
    found = checkpoints.all_of(folder)
    assert found
    assert checkpoints.problems(found[-1]) == []
    assert checkpoints.step_of(found[-1]) == get_run(RunRequest(run_id=run_id)).progress.step
    assert not (Path(folder).parent / "artifacts").exists()
