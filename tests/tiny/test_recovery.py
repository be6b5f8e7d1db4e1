"""A run that is killed, cancelled or terminated goes on as if nothing had been."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ft_tools import workspace as workspace_module
from ft_tools.runs.processes import endings
from ft_tools.runs.processes.worker_session import Again, Session, Stopped
from ft_tools.runs.request import CancelRequest, ResumeRequest, RunRequest
from ft_tools.runs.state import directory
from ft_tools.runs.tool import cancel_run, get_run, resume_run
from ft_tools.training import checkpoints
from ft_tools.training.request import DpoRequest, SftRequest
from ft_tools.training.training_plan import SftPlan
from ft_tools.training.worker import sft
from ft_tools.training.worker.loop import with_less_memory
from tests.faults.harness import worker_pid
from tests.tiny.killing import WORK
from tests.tiny.trainings import (
    LIBRARY_WARNINGS,
    QUICK,
    conversations,
    finished,
    launch,
    losses,
    marks,
    pairs,
    prepared,
    same_bits,
    stopped_in_step,
    wait_until,
    weights_of,
    write_jsonl,
)

pytestmark = [pytest.mark.tiny, *LIBRARY_WARNINGS]
DROPOUT = {"r": 4, "lora_dropout": 0.1}


@pytest.fixture(autouse=True)
def _own_device(tmp_path, monkeypatch, one_thread):
    """Compute on one thread, and wait for no run of anybody else."""
    monkeypatch.setenv(workspace_module.CACHE_VARIABLE, str(tmp_path / "cache"))


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
    os.kill(worker_pid(run_id), signal.SIGKILL)


def past(step):
    return lambda report: (
        report.phase == "training" and report.progress is not None and report.progress.step >= step
    )


@pytest.mark.parametrize("engine", ["torch", pytest.param("mlx", marks=pytest.mark.faults)])
def test_a_run_that_is_killed_and_then_cancelled_resumes_to_the_same_bits(request_, engine):
    if engine == "mlx":
        pytest.importorskip("mlx_lm")
    asked = request_.model_copy(update={"engine": engine})
    run_id = launch(asked)
    wait_until(past(8), run_id)
    kill_worker(run_id)
    report = finished(run_id)
    assert (report.state, report.reason) == ("interrupted", "crash")
    assert report.resumable
    resume_run(ResumeRequest(run_id=run_id))
    wait_until(past(16), run_id)
    assert cancel_run(CancelRequest(run_id=run_id)).state in {"cancelling", "cancelled"}
    report = finished(run_id)
    assert (report.state, report.reason) == ("cancelled", "user")
    assert any("continuing from checkpoint-" in event.message for event in report.events)
    folder = workspace_module.runs_dir() / run_id / "checkpoints"
    last = checkpoints.all_of(folder)[-1]
    assert checkpoints.problems(last) == []
    assert checkpoints.step_of(last) == get_run(RunRequest(run_id=run_id)).progress.step
    assert not (folder.parent / "artifacts").exists()
    resume_run(ResumeRequest(run_id=run_id))
    resumed = finished(run_id)
    assert resumed.state == "succeeded"
    assert resumed.result["attempts"] == 3
    session = prepared(asked, "whole")
    uninterrupted = sft.work(session)
    assert same_bits(weights_of(resumed.result["artifact"]), weights_of(uninterrupted.artifact))
    assert losses(run_id) == losses(session.run_dir.name)


def test_a_micro_batch_that_was_halved_stays_so_and_is_halved_again_after_a_memory_kill(request_):
    training = {**request_.training, "num_train_epochs": 1.0, "max_steps": 8, "save_steps": 2}
    # Without dropout: its masks are drawn anew for micro-batches of another size.
    asked = request_.model_copy(update={"training": training, "peft": {"r": 4}})
    session = prepared(asked, "halved")
    usual, failed = sft.SFTTrainer.training_step, []

    def fails_once_then_is_asked_to_stop(self, *arguments, **named):
        if self.state.global_step == 3 and not failed:
            failed.append(True)
            raise torch.OutOfMemoryError("CUDA out of memory (injected)")
        session.terminated = self.state.global_step >= 5
        return usual(self, *arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sft.SFTTrainer, "training_step", fails_once_then_is_asked_to_stop)
        with pytest.raises(Again):
            sft.work(session)
        assert endings.starts_again(session.run_dir)
        session = Session(session.run_dir)
        with pytest.raises(Stopped):
            sft.work(session)
    status = directory.read_status(session.run_dir)
    assert "continues with micro-batches of 1" in status.if_out_of_memory
    # What the supervisor and the next start write after the kernel has ended a worker.
    killed = {"ended_before": "out_of_memory", "attempt": 2}
    directory.write_status(session.run_dir, status.model_copy(update=killed))
    report = sft.work(Session(session.run_dir))
    assert (report.micro_batch, report.accumulation, report.steps) == (1, 4, 8)
    whole = sft.work(prepared(asked, "plenty"))
    one, other = weights_of(report.artifact), weights_of(whole.artifact)
    for name in one:
        assert torch.allclose(one[name], other[name], atol=1e-5), name


def test_after_a_memory_kill_fresh_processes_of_the_attempt_halve_no_second_time(request_):
    training = {**request_.training, "per_device_train_batch_size": 8}
    session = prepared(request_.model_copy(update={"training": training}), "once")
    session.update(ended_before="out_of_memory", attempt=2)
    plan, seen = session.plan(SftPlan), []

    def attempt(batch):
        seen.append(batch.size)
        if len(seen) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory (injected)")

    with pytest.raises(Again):
        with_less_memory(session, plan, attempt)
    assert endings.starts_again(session.run_dir)
    with_less_memory(Session(session.run_dir), plan, attempt)
    assert seen == [4, 2]


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(3, id="within an epoch", marks=pytest.mark.faults),
        pytest.param(4, id="at its end"),
    ],
)
def test_a_run_that_evaluates_by_epochs_and_is_stopped_chooses_as_if_it_had_not_been(
    request_, workspace, step
):
    training = {**request_.training, "num_train_epochs": 3, "eval_strategy": "epoch"}
    write_jsonl(workspace / "train.jsonl", conversations(16))
    validation = write_jsonl(workspace / "held_out.jsonl", conversations(6, first=100))
    update = {"training": training, "validation": validation}
    asked = request_.model_copy(update=update)
    session = prepared(asked, "stopped")
    stopped_in_step(step - 1, session, sft.work, sft.SFTTrainer)
    report = sft.work(Session(session.run_dir))
    whole = prepared(asked, "whole")
    uninterrupted = sft.work(whole)
    assert validations(session.run_dir) == validations(whole.run_dir)
    assert report.best_step == uninterrupted.best_step
    assert same_bits(weights_of(report.artifact), weights_of(uninterrupted.artifact))


def test_a_run_that_ends_after_its_last_checkpoint_trains_no_step_more(request_, workspace):
    rows = conversations(6, first=100)
    for row in rows:
        row["messages"][1]["content"] = "Nobody knows at all, ask again on Monday."
    validation = write_jsonl(workspace / "held_out.jsonl", rows)
    training = {**QUICK, "logging_steps": 1, "learning_rate": 2e-2, "num_train_epochs": 20}
    training |= {"eval_steps": 2, "warmup_steps": 0}
    update = {"training": training, "validation": validation}
    asked = request_.model_copy(update=update)
    session = prepared(asked, "over")
    report = sft.work(session)
    assert report.stopped_early
    before = weights_of(report.artifact), losses(session.run_dir.name), validations(session.run_dir)
    shutil.rmtree(session.run_dir / "artifacts")
    again = sft.work(Session(session.run_dir))
    assert any("continuing from" in e.message for e in directory.read_events(session.run_dir))
    assert (again.steps, again.best_step) == (report.steps, report.best_step)
    assert losses(session.run_dir.name) == before[1]
    assert validations(session.run_dir) == before[2]
    assert same_bits(weights_of(again.artifact), before[0])


def validations(run_dir):
    return [
        (row["step"], row["eval_loss"])
        for row in directory.read_metrics(run_dir)
        if "eval_loss" in row
    ]


KINDS = {
    "sft-lora": ({"peft": DROPOUT}, {}),
    "sft-full-packed": ({"method": "full"}, {"packing": True, "learning_rate": 1e-4}),
    "sft-validated": ({"peft": DROPOUT, "validation": "held_out.jsonl"}, {"eval_steps": 3}),
    "sft-by-epochs": ({"validation": "held_out.jsonl"}, {"eval_strategy": "epoch"}),
    "dpo-lora": ({"peft": DROPOUT}, {"learning_rate": 1e-4}),
    "sft-mlx": ({"engine": "mlx", "peft": DROPOUT}, {}),
    "kto-validated": ({"peft": DROPOUT, "validation": "held_marks.jsonl"}, {"eval_steps": 3}),
}


def test_a_few_kills_at_any_moment_change_no_bit_of_any_result(workspace, tiny_model_in):
    # A killed run of LoRA alone and stopped ones that evaluate have tests of their own.
    kinds = ("sft-full-packed", "dpo-lora", "kto-validated")
    assert kill_often(workspace, tiny_model_in, kinds, 1, seed=7) >= 3


@pytest.mark.faults
def test_100_kills_at_any_moment_change_no_bit_of_any_result(workspace, tiny_model_in):
    pytest.importorskip("mlx_lm")
    assert kill_often(workspace, tiny_model_in, KINDS, 26, seed=11) >= 100


def kill_often(workspace, model, kinds, num_kills, seed):
    """Run requests killed and undisturbed, compare every tensor and every loss; the kills."""
    write_jsonl(workspace / "train.jsonl", conversations(30))
    write_jsonl(workspace / "held_out.jsonl", conversations(6, first=100))
    write_jsonl(workspace / "pairs.jsonl", pairs(30))
    write_jsonl(workspace / "marks.jsonl", marks(30))
    write_jsonl(workspace / "held_marks.jsonl", marks(6, first=100))
    asked = {kind: request_of(kind, model, 11 * num_kills) for kind in kinds}
    killed = {kind: prepared(asked[kind], f"k-{i}").run_dir for i, kind in enumerate(kinds)}
    done = subprocess.run(
        [sys.executable, "-m", "tests.tiny.killing", str(num_kills), str(seed)]
        + [str(run_dir) for run_dir in killed.values()],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        check=True,
    )
    answers = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    for number, (kind, run_dir) in enumerate(killed.items()):
        log = (run_dir / "log.txt").read_text(errors="replace")
        assert answers[number]["return_code"] == 0, f"{kind}: {log[-3000:]}"
        whole = prepared(asked[kind], f"w-{number}")
        report = WORK[kind[:3]](whole)
        name = Path(report.artifact).name
        assert same_bits(weights_of(run_dir / "artifacts" / name), weights_of(report.artifact))
        assert losses(run_dir.name) == losses(whole.run_dir.name)
        again = json.loads((run_dir / "report.json").read_bytes())
        assert again["best_step"] == report.best_step
    return sum(answer["kills"] for answer in answers)


def request_of(kind, model, steps):
    """Return the request of a kind of run."""
    given, training = KINDS[kind]
    parts = {
        "model": model,
        "training": {**QUICK, "max_steps": steps, "logging_steps": 1, "save_steps": 3, **training},
        "accept_findings": ["validation_unwatched", "dpo_learning_rate"],
        "accept_reason": "a test",
        **given,
    }
    if kind[:3] in {"dpo", "kto"}:
        file = "pairs.jsonl" if kind.startswith("dpo") else "marks.jsonl"
        return DpoRequest(dataset=file, **parts)
    return SftRequest(dataset="train.jsonl", **parts)
