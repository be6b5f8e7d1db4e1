"""A stop is looked for between micro-batches, within an evaluation and in DPO's reference pass."""

import time
from pathlib import Path

import pytest

from ft_tools.models.resolve import resolve_model
from ft_tools.runs.processes import worker_session
from ft_tools.runs.processes.worker_session import Session, Stopped
from ft_tools.runs.tool import read_run
from ft_tools.shipping.request import ShipRequest
from ft_tools.shipping.tool import merge_and_quantize
from ft_tools.training.plan import plan_sft
from ft_tools.training.request import DpoRequest, SftRequest
from ft_tools.training.worker import callbacks, dpo, sft
from tests.tiny.trainings import (
    LIBRARY_WARNINGS,
    QUICK,
    conversations,
    pairs,
    prepared,
    same_bits,
    weights_of,
    write_jsonl,
)

pytestmark = [pytest.mark.tiny, pytest.mark.usefixtures("one_thread"), *LIBRARY_WARNINGS]
ACCEPTED = {
    "accept_findings": ["validation_unwatched", "dpo_learning_rate", "too_few_examples"],
    "accept_reason": "a test",
}


def checkpoints(session):
    return sorted(path.name for path in (session.run_dir / "checkpoints").glob("checkpoint-*"))


def stop_at(patch, owner, name, session, count):
    """Ask the run to stop at the n-th call of a method."""
    usual, calls = getattr(owner, name), []

    def look(self, *arguments, **named):
        calls.append(name)
        session.terminated = len(calls) >= count
        return usual(self, *arguments, **named)

    patch.setattr(owner, name, look)


@pytest.mark.parametrize("num_rows", [32, 16], ids=["within an epoch", "at the start of another"])
def test_a_stop_within_a_step_saves_the_step_before_and_resumes_to_the_same_bits(
    workspace, tiny_model_in, num_rows
):
    write_jsonl(workspace / "train.jsonl", conversations(num_rows))
    training = {**QUICK, "max_steps": 4, "save_steps": 50}
    training |= {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}
    request = SftRequest(
        model=tiny_model_in, dataset="train.jsonl", training=training,
        peft={"r": 4, "lora_dropout": 0.1}, **ACCEPTED,
    )  # fmt: skip
    whole = sft.work(prepared(request, "whole"))
    session = prepared(request, "stopped")
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, sft.SFTTrainer, "training_step", session, count=10)
        with pytest.raises(Stopped):
            sft.work(session)
    # Step 3 was on its way, its second micro-batch done.
    assert checkpoints(session) == ["checkpoint-2"]
    resumed = sft.work(Session(session.run_dir))
    assert same_bits(weights_of(resumed.artifact), weights_of(whole.artifact))


def test_a_run_stops_within_a_step_of_its_budget_and_resumes_to_the_same_bits(
    workspace, tiny_model_in
):
    write_jsonl(workspace / "train.jsonl", conversations(32))
    request = SftRequest(
        model=tiny_model_in, dataset="train.jsonl", peft={"r": 4},
        training={**QUICK, "max_steps": 8, "save_steps": 50}, **ACCEPTED,
    )  # fmt: skip
    whole = sft.work(prepared(request, "whole"))
    session = prepared(request.model_copy(update={"budget_hours": 1.0}), "budgeted")
    with pytest.MonkeyPatch.context() as patch:
        at_step = []

        def training_step(trainer, *arguments, usual=sft.SFTTrainer.training_step):
            at_step.append(trainer.state.global_step)
            if len(at_step) == 5:
                # An hour later.
                now = time.monotonic() + 3600
                patch.setattr(worker_session.time, "monotonic", lambda: now)
            return usual(trainer, *arguments)

        patch.setattr(sft.SFTTrainer, "training_step", training_step)
        assert worker_session._run(session, sft.work) == 0
    stopped = read_run(session.run_dir.name)
    assert (stopped.state, stopped.reason, stopped.error) == ("interrupted", "budget", None)
    assert checkpoints(session) == ["checkpoint-5"]
    # What those hours made can be measured, shipped and trained further, under the run's id.
    run_id = session.run_dir.name
    made = resolve_model(run_id)
    assert (Path(made.adapter).name, made.run_id) == ("checkpoint-5", run_id)
    shipped = merge_and_quantize(ShipRequest(source=run_id, formats=["safetensors"])).plan
    assert shipped["adapter"]["rank"] == 4
    further = plan_sft(request.model_copy(update={"model": run_id, "peft": {}}))
    assert Path(further.model.adapter).name == "checkpoint-5"
    assert [step.tool for step in stopped.next_steps] == ["resume_run"]
    resumed = sft.work(Session(session.run_dir))
    assert same_bits(weights_of(resumed.artifact), weights_of(whole.artifact))


def test_a_long_evaluation_is_given_up_after_its_step_is_saved(
    workspace, tiny_model_in, monkeypatch
):
    write_jsonl(workspace / "train.jsonl", conversations(16))
    write_jsonl(workspace / "held_out.jsonl", conversations(40, first=100))
    monkeypatch.setattr(callbacks, "STOP_SECONDS", -1.0)
    training = {**QUICK, "max_steps": 6, "eval_steps": 3, "per_device_eval_batch_size": 2}
    request = SftRequest(
        model=tiny_model_in, dataset="train.jsonl", validation="held_out.jsonl",
        training=training, **ACCEPTED,
    )  # fmt: skip
    session = prepared(request, "evaluated")
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, sft.SFTTrainer, "prediction_step", session, count=5)
        with pytest.raises(Stopped):
            sft.work(session)
    assert checkpoints(session) == ["checkpoint-3"]
    assert sft.work(Session(session.run_dir)).steps == 6


def test_a_reference_pass_before_training_can_be_stopped(workspace, tiny_model_in):
    write_jsonl(workspace / "pairs.jsonl", pairs(16))
    training = {**QUICK, "max_steps": 2, "precompute_ref_log_probs": True}
    request = DpoRequest(model="tiny-llama", dataset="pairs.jsonl", training=training, **ACCEPTED)
    session = prepared(request, "reference")
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, dpo.DPOTrainer, "compute_ref_log_probs", session, count=2)
        with pytest.raises(Stopped):
            dpo.work(session)
    assert checkpoints(session) == []
