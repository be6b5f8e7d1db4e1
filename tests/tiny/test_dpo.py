"""Preference runs over a tiny real model."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from ft_tools import workspace as workspace_module
from ft_tools.errors import BadInput
from ft_tools.training import arguments
from ft_tools.training.worker import dpo, sft
from tests.tiny.trainings import (
    LIBRARY_WARNINGS,
    QUICK,
    DpoRequest,
    SftRequest,
    conversations,
    pairs,
    prepared,
    run_here,
    same_bits,
    weights_of,
    write_jsonl,
)

pytestmark = [pytest.mark.tiny, pytest.mark.usefixtures("one_thread"), *LIBRARY_WARNINGS]
PREFERENCE = {**QUICK, "learning_rate": 1e-4, "max_steps": 8, "save_steps": 50}
# Some in the plain suite: a target, a smoothing, a mixture, a reference that is computed first.
LOSSES = [
    ({"loss_type": "ipo"}),
    ({"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.2]}),
    ({"loss_type": ["apo_zero"], "precompute_ref_log_probs": True}),
]


@pytest.fixture
def data(workspace, tiny_model_in):
    write_jsonl(workspace / "train.jsonl", conversations(24))
    write_jsonl(workspace / "pairs.jsonl", pairs(24))
    return {
        "dataset": "pairs.jsonl",
        "accept_findings": ["validation_unwatched", "dpo_learning_rate"],
        "accept_reason": "a test",
    }


def trained_first(data, method="lora"):
    request = SftRequest(
        model="tiny-llama", dataset="train.jsonl", method=method, training={**QUICK, "max_steps": 6}
    )
    session = prepared(request, f"first-{method}")
    sft.work(session)
    return session.run_dir.name


def test_a_supervised_run_goes_on_to_preferences_that_raise_the_margin(data):
    sft_run = trained_first(data)
    before = weights_of(workspace_module.runs_dir() / sft_run / "artifacts" / "adapter")
    request = DpoRequest(**data, sft_run=sft_run, training={**PREFERENCE, "learning_rate": 1e-3})
    report = run_here(dpo.work, request, "chain")
    assert report.reward_margin > 0.1
    assert report.reward_accuracy > 0.9
    artifact = Path(report.artifact)
    assert not (artifact / "ref").exists()
    after = weights_of(artifact)
    assert after.keys() == before.keys()
    assert any(not torch.equal(after[name], before[name]) for name in after)
    base = AutoModelForCausalLM.from_pretrained(workspace_module.roots()[0] / "tiny-llama")
    loaded = PeftModel.from_pretrained(base, artifact)
    assert list(loaded.peft_config) == ["default"]


def test_the_reference_is_the_model_before_training(data):
    sft_run = trained_first(data)
    still = {**PREFERENCE, "learning_rate": 1e-9, "max_steps": 2}
    for start in ({"sft_run": sft_run}, {"model": "tiny-llama"}):
        report = run_here(dpo.work, DpoRequest(**data, **start, training=still), str(len(start)))
        assert report.first_loss == pytest.approx(0.6931, abs=1e-3)
        assert abs(report.reward_margin) < 1e-4


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: str(loss["loss_type"]))
def test_a_loss_of_the_trainer_lowers_itself(data, loss):
    training = {**PREFERENCE, **loss, "learning_rate": 1e-3}
    request = DpoRequest(**data, model="tiny-llama", training=training)
    report = run_here(dpo.work, request, "loss")
    assert report.train_loss < report.first_loss
    assert report.reward_margin > 0


# `sft` has no margin m in it. `discopop` is s(m/0.05) exp(-m) - (1 - s(m/0.05)) log s(m), s the
# sigmoid, and rises where training starts: its slope at m = 0 is 5 (1 - log 2) - 0.75 = 0.78.
NOT_APART = {"sft", "discopop"}


@pytest.mark.faults
@pytest.mark.parametrize("first", [True, False], ids=["reference-first", "reference-beside"])
@pytest.mark.parametrize("start", ["model", "sft_run"])
@pytest.mark.parametrize("loss", sorted(arguments.choices("dpo", "loss_type")))
def test_every_loss_of_the_trainer_trains_from_either_start(data, loss, start, first):
    further = {"label_smoothing": 1e-3} if loss in {"exo_pair", "robust"} else {}
    training = {**PREFERENCE, **further, "loss_type": [loss], "learning_rate": 1e-3}
    training["precompute_ref_log_probs"] = first
    begin = {"model": "tiny-llama"} if start == "model" else {"sft_run": trained_first(data)}
    report = run_here(dpo.work, DpoRequest(**data, **begin, training=training), "all")
    assert math.isfinite(report.train_loss)
    assert report.reward_margin > 0 or loss in NOT_APART


@pytest.mark.parametrize("method", ["full", "qlora"])
def test_the_other_methods_raise_the_margin_too(data, method):
    rate = 1e-4 if method == "full" else 1e-3
    training = {**PREFERENCE, "learning_rate": rate}
    request = DpoRequest(**data, model="tiny-llama", method=method, training=training)
    report = run_here(dpo.work, request, method)
    assert report.reward_margin > 0.01


def test_an_adapter_that_took_its_start_out_of_the_base_is_no_start_for_preferences(data):
    request = SftRequest(
        model="tiny-llama",
        dataset="train.jsonl",
        peft={"init_lora_weights": "pissa"},
        training={**QUICK, "max_steps": 2},
    )
    session = prepared(request, "pissa")
    sft.work(session)
    with pytest.raises(BadInput, match=r"merge_and_quantize .* and pass the merged folder"):
        prepared(DpoRequest(**data, sft_run=session.run_dir.name, training=PREFERENCE), "no")


def test_an_adapter_without_a_tokenizer_is_trained_with_that_of_its_base(data, workspace):
    made = workspace_module.runs_dir() / trained_first(data) / "artifacts" / "adapter"
    plain = workspace / "plain"
    plain.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (plain / name).write_bytes((made / name).read_bytes())
    report = run_here(dpo.work, DpoRequest(**data, model="plain", training=PREFERENCE), "plain")
    assert report.reward_margin > 0


@pytest.mark.faults
def test_the_exported_script_trains_on_the_same_pairs_bit_for_bit(data, tmp_path):
    training = {**PREFERENCE, "max_steps": 4}
    request = DpoRequest(model="tiny-llama", training=training, peft={"r": 4}, **data)
    session = prepared(request, "export")
    report = dpo.work(session)
    script = session.run_dir / "exports" / "train.py"
    subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, check=True)
    assert same_bits(weights_of(report.artifact), weights_of(tmp_path / "trl-output" / "final"))
