"""Reinforcement of a tiny real model: what it earns, keeps, shows and refuses."""

import json
import os
import signal
from hashlib import sha256

import pytest
import torch
from transformers import GenerationMixin, LlamaModel

from ft_tools import workspace as workspace_module
from ft_tools.errors import BadInput
from ft_tools.runs.processes.worker_session import Again, Session
from ft_tools.runs.state import directory
from ft_tools.training.grpo.request import GrpoRequest
from ft_tools.training.tool import launch_grpo
from ft_tools.training.worker import grpo, grpo_probe
from tests.tiny.killing import attempt, ended
from tests.tiny.trainings import (
    LIBRARY_WARNINGS,
    computing_in,
    finished,
    prepared,
    same_bits,
    stopped_in_step,
    weights_of,
    write_jsonl,
)

pytestmark = [pytest.mark.tiny, pytest.mark.usefixtures("one_thread"), *LIBRARY_WARNINGS]

DIGIT = {"kind": "pattern", "pattern": r"(?s).*[0-9].*", "name": "digit"}
QUICK = {
    "max_completion_length": 8,
    "per_device_train_batch_size": 32,
    "gradient_accumulation_steps": 1,
    "learning_rate": 3e-3,
    "max_steps": 24,
    "eval_steps": 4,
    "bf16": False,
}
WORDS = ["parcel", "order", "invoice", "bicycle", "refund", "letter", "cart", "shop"]


def prompts(count, first=0):
    return [
        {
            "prompt": [
                {"role": "user", "content": f"Where is the {WORDS[i % 8]} {'of it ' * (i // 8)}?"}
            ]
        }
        for i in range(first, first + count)
    ]


@pytest.fixture
def data(workspace, tiny_model_in):
    write_jsonl(workspace / "prompts.jsonl", prompts(32))
    write_jsonl(workspace / "held_out.jsonl", prompts(8, first=32))
    return {"model": tiny_model_in, "dataset": "prompts.jsonl", "validation": "held_out.jsonl"}


def request(data, **changed):
    given = {"rewards": [DIGIT], "method": "full", "probe": False, "stop_rules": False}
    training = {**QUICK, **changed.pop("training", {})}
    return GrpoRequest(**data | given | changed, training=training)


def logged(session, metric):
    rows = directory.read_metrics(session.run_dir)
    return {row["step"]: row[metric] for row in rows if metric in row}


def test_a_reward_that_can_be_earned_is_earned_on_held_out_prompts_too(data):
    session = prepared(request(data), "earns")
    report = grpo.work(session)
    held_out = logged(session, "eval_reward")
    assert held_out[0] < 0.5
    assert report.held_out_gain.start == pytest.approx(held_out[0], abs=1e-3)
    assert report.held_out_gain.low > 0.1
    assert report.diagnosis == []
    assert logged(session, "rewards/digit/mean") == logged(session, "reward")
    assert set(logged(session, "zero_spread_fraction")) == set(range(1, 25))
    # The checkpoint with the highest held-out reward is the one that is kept.
    assert report.best_step == min(
        s for s in held_out if s and held_out[s] == max(held_out.values())
    )
    page = (session.run_dir / "report.html").read_text()
    assert "[reward 1.00: digit 1]" in page
    assert "<script" not in page


@pytest.fixture(scope="module")
def uninterrupted(shared_workspace, one_thread):
    """Train four steps, which go through few prompts twice, in orders of their own."""
    write_jsonl(shared_workspace / "few.jsonl", prompts(8))
    write_jsonl(shared_workspace / "held_out.jsonl", prompts(8, first=32))
    files = {"model": "tiny-llama", "dataset": "few.jsonl", "validation": "held_out.jsonl"}
    asked = request(files, training={"max_steps": 4, "eval_steps": 2})
    whole = prepared(asked, "whole")
    return asked, whole, grpo.work(whole)


def stop_in_the_third_step(session):
    stopped_in_step(2, session, grpo.work, grpo.GRPOTrainer)


def kill_in_the_fourth_step(session):
    def prepare():
        usual = grpo.GRPOTrainer.training_step

        def step(self, *arguments, **named):
            if self.state.global_step == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            return usual(self, *arguments, **named)

        grpo.GRPOTrainer.training_step = step

    assert ended(attempt(session.run_dir, prepare), 60) == signal.SIGKILL
    assert max(logged(session, "reward")) == 3


@pytest.mark.parametrize("end", [stop_in_the_third_step, kill_in_the_fourth_step])
def test_a_run_that_was_ended_goes_on_from_its_checkpoint_to_the_same_bits(uninterrupted, end):
    asked, whole, wanted = uninterrupted
    session = prepared(asked, end.__name__[:4])
    end(session)
    resumed = grpo.work(Session(session.run_dir))
    assert resumed.steps == 4
    for metric in ("reward", "eval_reward", "completions/mean_length"):
        assert logged(session, metric) == logged(whole, metric)
    assert resumed.held_out_gain == wanted.held_out_gain
    assert resumed.diagnosis == wanted.diagnosis
    assert same_bits(weights_of(resumed.artifact), weights_of(wanted.artifact))


def test_an_adapter_of_an_earlier_run_is_trained_further_without_a_second_copy(data):
    first = request(data, method="lora", peft={"r": 4}, training={"max_steps": 2})
    report = grpo.work(prepared(first, "first"))
    further = request({**data, "model": report.artifact}, method="lora", training={"max_steps": 2})
    again = grpo.work(prepared(further, "further"))
    assert again.num_trainable_params == report.num_trainable_params
    assert not same_bits(weights_of(again.artifact), weights_of(report.artifact))


def test_answers_are_written_with_a_16_bit_base_outside_autocast(data):
    few = {"max_steps": 2, "eval_steps": 2, "model_init_kwargs": {"dtype": "bfloat16"}}
    session = prepared(request(data, method="lora", training=few), "outside")
    assert grpo.work(computing_in("bfloat16", session)).steps == 2


def test_an_evaluation_scores_no_more_answers_at_once_than_a_micro_batch(data, monkeypatch):
    usual, passed = LlamaModel.forward, set()

    def forward(self, *arguments, **named):
        # Not while answers are written, with a cache.
        if "cache" not in named:
            passed.add((self.training, len(named["input_ids"])))
        return usual(self, *arguments, **named)

    monkeypatch.setattr(LlamaModel, "forward", forward)
    small = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 8, "max_steps": 1}
    session = prepared(request(data, training=small), "evaluates")
    assert grpo.work(session).steps == 1
    assert passed == {(True, 4), (False, 4)}


def test_a_reward_that_nothing_earns_ends_the_run(data):
    never = {"kind": "contains", "texts": ["a text that this model never writes"]}
    few = {"max_steps": 60, "per_device_train_batch_size": 16, "max_completion_length": 4}
    asked = request(data, rewards=[never], stop_rules=True, training=few)
    session = prepared(asked, "dead")
    report = grpo.work(session)
    assert report.stopped_early
    assert report.steps < 30
    assert "no_reward" in {one.signal for one in report.health}
    assert [one.id for one in report.diagnosis] == ["nothing_gained"]


def test_a_check_that_can_score_no_held_out_answer_is_named(data, workspace):
    code = (
        "def score(answer, row):\n"
        "    held_out = row['prompt'].count('of it') > 3\n"
        "    return None if held_out else float(any(map(str.isdigit, answer)))\n"
    )
    (workspace / "digit.py").write_text(code)
    own = {"kind": "python", "path": "digit.py", "sha256": sha256(code.encode()).hexdigest()}
    session = prepared(request(data, rewards=[own], training={"max_steps": 4}), "unscored")
    with pytest.raises(BadInput, match="no answer to the held-out prompts"):
        grpo.work(session)


@pytest.mark.parametrize("worker", [grpo, grpo_probe])
def test_answers_that_do_not_fit_in_memory_together_are_written_by_fewer(data, worker):
    # A step sees four of seven prompts; of two that are written together, three fill an epoch.
    write_jsonl(workspace_module.roots()[0] / "seven.jsonl", prompts(7))
    epochs = {"max_steps": -1, "num_train_epochs": 2, "eval_steps": 2}
    asked = request({**data, "dataset": "seven.jsonl"}, training=epochs)
    session = prepared(asked, worker.__name__[-5:])
    usual, written = GenerationMixin.generate, []

    def at_most_sixteen(self, *arguments, **named):
        written.append(len(named["input_ids"]))
        if written[-1] > 16:
            raise torch.OutOfMemoryError("CUDA out of memory (injected)")
        return usual(self, *arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GenerationMixin, "generate", at_most_sixteen)
        with pytest.raises(Again):
            worker.work(session)
        written.clear()
        report = worker.work(Session(session.run_dir))
    assert max(written) == 16
    if worker is grpo:
        assert (report.steps, report.micro_batch, report.accumulation) == (2, 16, 2)


def test_a_probe_keeps_what_it_measured_until_its_budget_ends(data):
    session = prepared(request(data, budget_hours=1e-6), "budget")
    report = grpo_probe.work(session)
    # A micro-batch of 32 holds four prompts with eight answers each.
    assert (report.result.prompts, report.result.generations) == (4, 8)
    assert [step.tool for step in report.next_steps] == ["launch_grpo"]


def test_the_first_call_measures_the_model_and_the_next_plans_by_it(data):
    # This model ends hardly an answer, which the probe would refuse.
    accepted = {"accept_findings": ["rl_zero_reward"], "accept_reason": "a test"}
    asked = request(data, probe=True, **accepted)
    begun = launch_grpo(asked)
    assert (begun.plan_hash, begun.started) == ("", False)
    assert [step.tool for step in begun.next_steps] == ["get_run"]
    probe = finished(begun.run_id)
    assert probe.state == "succeeded"
    assert probe.kind == "grpo_probe"
    (step,) = probe.next_steps
    planned = launch_grpo(GrpoRequest(**step.arguments))
    assert planned.plan_hash
    measured = planned.plan["probe"]
    assert measured["run_id"] == begun.run_id
    assert measured["prompts"] == 32
    assert 0 < measured["pass_at_1"] < measured["pass_at_k"] <= 1
    assert planned.plan["estimate"]["duration"]["low_seconds"] > 0
    # Other sampling is another probe.
    hotter = launch_grpo(request(data, training={"temperature": 1.5}))
    assert hotter.plan["probe_key"] != planned.plan["probe_key"]


def test_vllm_reserves_room_for_the_longest_row_instead_of_the_models_context(
    data, tmp_path, monkeypatch
):
    (tmp_path / "installed" / "vllm").mkdir(parents=True)
    monkeypatch.syspath_prepend(tmp_path / "installed")

    def context(**training):
        training |= {"use_vllm": True, "max_completion_length": 200}
        request = GrpoRequest(**data, rewards=[DIGIT], method="full", training=training)
        planned = launch_grpo(request.model_copy(update={"probe": False}))
        return planned.plan["training"]["vllm_max_model_length"]

    short = context()
    assert 200 < short < 512
    assert context(vllm_max_model_length=900) == 900
    # A held-out prompt is answered, too; vLLM takes no more than the model's context.
    folder = workspace_module.roots()[0]
    long = [{"prompt": [{"role": "user", "content": "of it " * 300}]}]
    write_jsonl(folder / "held_out.jsonl", prompts(7, first=32) + long)
    assert context() > short
    path = folder / data["model"] / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"max_position_embeddings": 300}))
    assert context() == 300
