"""Several processes train what one process would: real ranks that torchrun starts, over gloo."""

import json
import os
import socket
import subprocess
import sys

import pytest
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from ft_tools import workspace as workspace_module
from ft_tools.runs.launchers.launcher import LOCAL, MARK
from ft_tools.runs.launchers.table import FSDP
from ft_tools.runs.request import CancelRequest, ResumeRequest
from ft_tools.runs.state import directory
from ft_tools.runs.tool import cancel_run, resume_run
from ft_tools.training.request import DpoRequest, SftRequest
from ft_tools.training.worker import dpo, sft
from tests.tiny.trainings import (
    LIBRARY_WARNINGS,
    QUICK,
    computing_in,
    conversations,
    finished,
    launch,
    losses,
    pairs,
    prepared,
    wait_until,
    weights_of,
    write_jsonl,
)

pytestmark = [pytest.mark.tiny, *LIBRARY_WARNINGS]
TWO = {"device": "cpu", "processes": 2}
# accelerate shards on several GPUs only; its code and torch's run on CPUs as well.
RANK = """
import sys
from pathlib import Path
from accelerate import PartialState
from accelerate.utils import DistributedType
made = PartialState.__init__
def init(state, *args, **given):
    made(state, *args, **given)
    if state.distributed_type == DistributedType.MULTI_CPU:
        state.distributed_type = DistributedType.MULTI_GPU
PartialState.__init__ = init
from ft_tools.runs.processes.worker_session import Session
from ft_tools.training.worker import dpo, sft
{"sft": sft, "dpo": dpo}[sys.argv[2]].work(Session(Path(sys.argv[1])))
"""


@pytest.fixture(autouse=True)
def _own_device(tmp_path, monkeypatch, one_thread):
    monkeypatch.setenv(workspace_module.CACHE_VARIABLE, str(tmp_path / "cache"))


def request_of(workspace, model, options, **training):
    return SftRequest(
        model=model,
        dataset=write_jsonl(workspace / "train.jsonl", conversations(32)),
        validation=write_jsonl(workspace / "held_out.jsonl", conversations(8, first=100)),
        training={
            **QUICK,
            "per_device_train_batch_size": 2,
            "gradient_accumulation_steps": 4,
            "num_train_epochs": 1,
            "logging_steps": 1,
            **training,
        },
        backend_options=options,
    )


def test_two_processes_train_what_one_would_with_the_same_examples_a_step(workspace, tiny_model_in):
    together = launch(request_of(workspace, tiny_model_in, TWO))
    alone = prepared(request_of(workspace, tiny_model_in, {"device": "cpu"}), "alone")
    one = sft.work(alone)
    two = finished(together)
    assert two.state == "succeeded"
    assert (two.result["micro_batch"], two.result["accumulation"]) == (2, 2)
    assert (one.micro_batch, one.accumulation) == (2, 4)
    assert two.result["steps"] == one.steps == 4
    assert losses(together) == pytest.approx(losses(alone.run_dir.name), abs=1e-5)
    assert two.result["validation_loss"] == pytest.approx(one.validation_loss, abs=1e-5)
    ours, theirs = weights_of(one.artifact), weights_of(two.result["artifact"])
    assert ours.keys() == theirs.keys()
    assert max((ours[name] - theirs[name]).abs().max().item() for name in ours) < 1e-5
    events = [event.message for event in two.events]
    assert len(events) == len(set(events)), "a second rank has written too"


def train_sharded(run_dir, worker="sft"):
    """Train a run's plan with FSDP on two CPU processes."""
    plan = json.loads((run_dir / "plan.json").read_text())
    plan["place"] |= {"sharding": "fsdp", "engine": FSDP}
    (run_dir / "plan.json").write_text(json.dumps(plan))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    meeting = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    meeting |= {"MASTER_PORT": port, "OMP_NUM_THREADS": "1", MARK: LOCAL}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, run_dir, worker],
            env={**os.environ, **meeting, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]
    assert [rank.wait(300) for rank in ranks] == [0, 0]


@pytest.mark.faults
@pytest.mark.parametrize(("method", "made"), [("lora", "adapter"), ("full", "model")])
def test_every_rank_trains_its_part_of_a_sharded_model(workspace, tiny_model_in, method, made):
    def run(options, name):
        request = request_of(workspace, tiny_model_in, options, gradient_checkpointing=True)
        return prepared(request.model_copy(update={"method": method}), name)

    alone = sft.work(run({"device": "cpu"}, "alone"))
    sharded = run(TWO, "sharded").run_dir
    train_sharded(sharded)
    ours, theirs = weights_of(alone.artifact), weights_of(sharded / "artifacts" / made)
    # A tied head is saved once.
    assert ours.keys() == theirs.keys()
    assert max((ours[name] - theirs[name]).abs().max().item() for name in ours) < 1e-5


@pytest.mark.faults
@pytest.mark.parametrize("method", ["lora", "full"])
def test_preferences_are_learnt_by_two_processes_as_by_one(workspace, tiny_model_in, method):
    parts = {
        "model": tiny_model_in,
        "dataset": write_jsonl(workspace / "pairs.jsonl", pairs(16)),
        "method": method,
        "training": {**QUICK, "learning_rate": 5e-5, "gradient_accumulation_steps": 2},
    }
    together = launch(DpoRequest(**parts, backend_options=TWO))
    alone = prepared(DpoRequest(**parts, backend_options={"device": "cpu"}), "alone")
    one = dpo.work(alone)
    two = finished(together)
    assert two.state == "succeeded"
    assert losses(together) == pytest.approx(losses(alone.run_dir.name), abs=1e-5)
    assert two.result["reward_margin"] == pytest.approx(one.reward_margin, abs=1e-4)
    ours, theirs = weights_of(one.artifact), weights_of(two.result["artifact"])
    assert max((ours[name] - theirs[name]).abs().max().item() for name in ours) < 1e-5


@pytest.mark.faults
def test_log_probabilities_of_a_sharded_model_are_not_rounded_to_16_bits(workspace, tiny_model_in):
    quick = {name: value for name, value in QUICK.items() if name != "bf16"}
    quick |= {"learning_rate": 5e-5, "gradient_accumulation_steps": 2, "num_train_epochs": 1}
    dataset = write_jsonl(workspace / "pairs.jsonl", pairs(32))
    training = {**quick, "warmup_steps": 0, "logging_steps": 1}
    request = DpoRequest(
        model=tiny_model_in, dataset=dataset, training=training, backend_options=TWO
    )
    session = computing_in("bfloat16", prepared(request, "rounded"))
    train_sharded(session.run_dir, "dpo")
    rows = directory.read_metrics(session.run_dir)
    margins = [row["rewards/margins"] for row in rows if "rewards/margins" in row]
    # Sums of 32 and more are multiples of a quarter in bfloat16: rewards, a tenth of it, and means
    # of eight rows of these.
    in_steps = [margin / (0.25 * 0.1 / 8) for margin in margins]
    assert any(abs(one - round(one)) > 0.05 for one in in_steps)


@pytest.mark.faults
def test_an_adapter_goes_on_with_preferences_in_every_rank(workspace, tiny_model_in):
    model = AutoModelForCausalLM.from_pretrained(workspace / tiny_model_in)
    arguments = LoraConfig(r=4, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    get_peft_model(model, arguments).save_pretrained(workspace / "adapter")
    parts = {
        "model": "adapter",
        "dataset": write_jsonl(workspace / "pairs.jsonl", pairs(16)),
        "training": {**QUICK, "learning_rate": 5e-5, "gradient_accumulation_steps": 2},
    }
    alone = prepared(DpoRequest(**parts, backend_options={"device": "cpu"}), "alone")
    one = dpo.work(alone)
    sharded = prepared(DpoRequest(**parts, backend_options=TWO), "sharded").run_dir
    train_sharded(sharded, "dpo")
    assert losses(sharded.name) == pytest.approx(losses(alone.run_dir.name), abs=1e-5)
    ours, theirs = weights_of(one.artifact), weights_of(sharded / "artifacts" / "adapter")
    assert ours.keys() == theirs.keys()
    assert max((ours[name] - theirs[name]).abs().max().item() for name in ours) < 1e-5


@pytest.mark.faults
def test_two_processes_stop_together_and_go_on_from_their_checkpoint(workspace, tiny_model_in):
    request = request_of(workspace, tiny_model_in, TWO, num_train_epochs=40, eval_steps=40)
    run_id = launch(request)
    wait_until(lambda r: r.progress is not None and r.progress.step >= 3, run_id)
    cancel_run(CancelRequest(run_id=run_id))
    cancelled = finished(run_id)
    assert (cancelled.state, cancelled.reason) == ("cancelled", "user")
    step = cancelled.progress.step
    resume_run(ResumeRequest(run_id=run_id))
    report = finished(run_id, seconds=180)
    assert report.state == "succeeded"
    assert any(f"continuing from checkpoint-{step}" in e.message for e in report.events)
