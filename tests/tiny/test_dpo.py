"""Preference runs over a tiny real model."""

import json
import math
import secrets
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from ft_tools import workspace as workspace_module
from ft_tools.errors import BadInput
from ft_tools.training import arguments
from ft_tools.training.request import DpoRequest, SftRequest
from ft_tools.training.worker import dpo, sft
from tests.tiny.trainings import (
    LIBRARY_WARNINGS,
    QUICK,
    conversations,
    pairs,
    prepared,
    run_here,
    same_bits,
    weights_of,
    weights_of_script,
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


@pytest.fixture(scope="module")
def data(shared_workspace):
    write_jsonl(shared_workspace / "train.jsonl", conversations(24))
    write_jsonl(shared_workspace / "pairs.jsonl", pairs(24))
    return {
        "dataset": "pairs.jsonl",
        "accept_findings": ["validation_unwatched", "dpo_learning_rate"],
        "accept_reason": "a test",
    }


@pytest.fixture(scope="module")
def sft_run(data, one_thread):
    training = {**QUICK, "max_steps": 6}
    request = SftRequest(model="tiny-llama", dataset="train.jsonl", training=training)
    session = prepared(request, "first")
    sft.work(session)
    return session.run_dir.name


def trained(request):
    """Train in a run directory of its own; the report."""
    return run_here(dpo.work, request, secrets.token_hex(4))


def test_a_supervised_run_goes_on_to_preferences_that_raise_the_margin(data, sft_run):
    before = weights_of(workspace_module.runs_dir() / sft_run / "artifacts" / "adapter")
    training = {**PREFERENCE, "learning_rate": 1e-3}
    report = trained(DpoRequest(**data, sft_run=sft_run, training=training))
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


@pytest.mark.parametrize("start", ["sft_run", "model"])
def test_the_reference_is_the_model_before_training(data, sft_run, start):
    still = {**PREFERENCE, "learning_rate": 1e-9, "max_steps": 2}
    begin = {"sft_run": sft_run} if start == "sft_run" else {"model": "tiny-llama"}
    report = trained(DpoRequest(**data, **begin, training=still))
    assert report.first_loss == pytest.approx(0.6931, abs=1e-3)
    assert abs(report.reward_margin) < 1e-4


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: str(loss["loss_type"]))
def test_a_loss_of_the_trainer_lowers_itself(data, loss):
    training = {**PREFERENCE, **loss, "learning_rate": 1e-3}
    report = trained(DpoRequest(**data, model="tiny-llama", training=training))
    assert report.train_loss < report.first_loss
    assert report.reward_margin > 0


# `sft` has no margin m in it. `discopop` is s(m/0.05) exp(-m) - (1 - s(m/0.05)) log s(m), s the
# sigmoid, and rises where training starts: its slope at m = 0 is 5 (1 - log 2) - 0.75 = 0.78.
NOT_APART = {"sft", "discopop"}


@pytest.mark.faults
@pytest.mark.parametrize("first", [True, False], ids=["reference-first", "reference-beside"])
@pytest.mark.parametrize("start", ["model", "sft_run"])
@pytest.mark.parametrize("loss", sorted(arguments.choices("dpo", "loss_type")))
def test_every_loss_of_the_trainer_trains_from_either_start(data, sft_run, loss, start, first):
    further = {"label_smoothing": 1e-3} if loss in {"exo_pair", "robust"} else {}
    training = {**PREFERENCE, **further, "loss_type": [loss], "learning_rate": 1e-3}
    training["precompute_ref_log_probs"] = first
    begin = {"model": "tiny-llama"} if start == "model" else {"sft_run": sft_run}
    report = trained(DpoRequest(**data, **begin, training=training))
    assert math.isfinite(report.train_loss)
    assert report.reward_margin > 0 or loss in NOT_APART


@pytest.mark.parametrize("method", ["full", "qlora"])
def test_the_other_methods_raise_the_margin_too(data, method):
    rate = 1e-4 if method == "full" else 1e-3
    training = {**PREFERENCE, "learning_rate": rate}
    report = trained(DpoRequest(**data, model="tiny-llama", method=method, training=training))
    assert report.reward_margin > 0.01


def test_an_adapter_of_others_is_a_start_unless_it_took_it_out_of_the_base(
    data, sft_run, shared_workspace
):
    made = workspace_module.runs_dir() / sft_run / "artifacts" / "adapter"
    plain = shared_workspace / "plain"
    plain.mkdir()
    # Without a tokenizer that of its base is used.
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (plain / name).write_bytes((made / name).read_bytes())
    assert trained(DpoRequest(**data, model="plain", training=PREFERENCE)).reward_margin > 0
    config = json.loads((plain / "adapter_config.json").read_text())
    config["init_lora_weights"] = "pissa"
    (plain / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(BadInput, match=r"merge_and_quantize .* and pass the merged folder"):
        prepared(DpoRequest(**data, model="plain", training=PREFERENCE), "no")


@pytest.mark.faults
@pytest.mark.parametrize("is_over_adapter", [False, True])
def test_the_exported_script_trains_on_the_same_pairs_bit_for_bit(
    data, sft_run, tmp_path, is_over_adapter
):
    training = {**PREFERENCE, "max_steps": 4}
    start = {"sft_run": sft_run} if is_over_adapter else {"model": "tiny-llama", "peft": {"r": 4}}
    request = DpoRequest(training=training, **start, **data)
    session = prepared(request, f"export {is_over_adapter}")
    report = dpo.work(session)
    assert same_bits(weights_of(report.artifact), weights_of_script(session, tmp_path))
