"""A stop is looked for between micro-batches, within an evaluation and in DPO's reference pass."""

import time
from pathlib import Path

import pytest
from accelerate.data_loader import BatchSamplerShard, DataLoaderShard, skip_first_batches
from torch.utils.data import BatchSampler
from transformers import TrainerState

from ft_tools.models.resolve import resolve_model
from ft_tools.runs.processes import worker_session
from ft_tools.runs.processes.worker_session import Session, Stopped
from ft_tools.runs.state import directory
from ft_tools.runs.tool import read_run
from ft_tools.shipping.request import ShipRequest
from ft_tools.shipping.tool import merge_and_quantize
from ft_tools.training.plan import plan_sft
from ft_tools.training.worker import callbacks, dpo, sft
from ft_tools.training.worker.length_groups import EpochOrder, LengthGroups
from tests.tiny.trainings import (
    LIBRARY_WARNINGS,
    QUICK,
    DpoRequest,
    SftRequest,
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


@pytest.mark.parametrize(
    ("num_rows", "order"),
    [(32, "random"), (16, "random"), (16, "group_by_length"), (32, "group_by_length")],
    ids=["within an epoch", "at the start of another", "grouped", "grouped within an epoch"],
)
def test_a_stop_within_a_step_saves_the_step_before_and_resumes_to_the_same_bits(
    workspace, tiny_model_in, num_rows, order
):
    write_jsonl(workspace / "train.jsonl", conversations(num_rows))
    training = {**QUICK, "max_steps": 4, "save_steps": 50, "train_sampling_strategy": order}
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


def test_a_resumed_process_of_several_skips_rows_in_the_order_of_its_epoch():
    def batches(epoch, skipped):
        groups = LengthGroups(range(64, 0, -1), 8, seed=3)
        shard = BatchSamplerShard(BatchSampler(groups, 2, False), 2, 0)
        loader = DataLoaderShard(range(64), batch_sampler=shard)
        loader = skip_first_batches(loader, skipped) if skipped else loader
        EpochOrder(groups).on_epoch_begin(None, TrainerState(epoch=epoch), None)
        loader.set_epoch(int(epoch))
        return [batch.tolist() for batch in loader]

    assert batches(1.1875, skipped=3) == batches(1.0, skipped=0)[3:] != batches(0.0, skipped=0)[3:]


def test_grouped_rows_are_validated_in_the_same_batches_as_others(workspace, tiny_model_in):
    write_jsonl(workspace / "train.jsonl", conversations(16))
    write_jsonl(workspace / "held_out.jsonl", conversations(12, first=93))
    found = []
    for order in ("random", "group_by_length"):
        training = {**QUICK, "max_steps": 1, "eval_on_start": True, "eval_strategy": "steps"}
        request = SftRequest(
            model=tiny_model_in, dataset="train.jsonl", validation="held_out.jsonl",
            training=training | {"train_sampling_strategy": order}, peft={"r": 4}, **ACCEPTED,
        )  # fmt: skip
        session = prepared(request, order)
        sft.work(session)
        rows = directory.read_metrics(session.run_dir)
        found.append(next(row["eval_loss"] for row in rows if "eval_loss" in row))
    assert found[0] == found[1]


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
