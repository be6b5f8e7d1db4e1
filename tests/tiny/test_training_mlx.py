"""The MLX engine trains what the torch engine trains: same losses, same adapter, same resume."""

import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("mlx_lm")

import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    Phi3Config,
    Qwen3Config,
    set_seed,
)

from ft_tools.errors import BadInput, Refused
from ft_tools.evaluation.request import EvaluateRequest
from ft_tools.models.worker.mlx import reading
from ft_tools.models.worker.mlx.reading import require_same_model
from ft_tools.runs.processes.worker_session import Session
from ft_tools.runs.state import directory
from ft_tools.training.plan import plan_sft
from ft_tools.training.request import DpoRequest, SftRequest
from ft_tools.training.worker import dpo, sft
from tests.tiny.conftest import make_tokenizer
from tests.tiny.evaluating import run_here as evaluated_here
from tests.tiny.test_shipping_merge import check as merge_differences
from tests.tiny.test_shipping_merge import merge
from tests.tiny.trainings import (
    QUICK,
    conversations,
    pairs,
    prepared,
    run_here,
    same_bits,
    stopped_in_step,
    weights_of,
    write_jsonl,
)

# PEFT reads names that transformers renames; in a worker they are printed to its log.
pytestmark = [pytest.mark.tiny, pytest.mark.filterwarnings("ignore::FutureWarning")]
SIZES = {
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
ROPE = {"rope_type": "default", "rope_theta": 100_000.0}
# Values that mlx-lm would not take from a config.json of transformers 5 alone.
CONFIGS = {
    "llama": LlamaConfig(**SIZES, rope_parameters=ROPE, tie_word_embeddings=True),
    "qwen3": Qwen3Config(**SIZES, head_dim=16, rope_parameters=ROPE),
    "gemma3_text": Gemma3TextConfig(**SIZES | {"num_hidden_layers": 6}, head_dim=16),
    "phi3": Phi3Config(**SIZES, rope_parameters=ROPE, pad_token_id=0),
}


def full(*values):
    """Return a case of the full size: `make test-faults`."""
    return pytest.param(*values, marks=pytest.mark.faults)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Random models of each architecture, saved as transformers saves them."""
    found = {}
    for name, config in CONFIGS.items():
        set_seed(1)
        found[name] = tmp_path_factory.mktemp(name)
        AutoModelForCausalLM.from_config(config).save_pretrained(found[name])
        make_tokenizer().save_pretrained(found[name])
    return found


@pytest.mark.parametrize("name", CONFIGS)
def test_mlx_computes_the_logits_of_torch_whatever_rope_base_the_config_has(folders, name):
    require_same_model(folders[name])


def test_a_model_that_is_read_otherwise_is_refused(folders, tmp_path, monkeypatch):
    # What happens without the bridge between the spellings: a default takes the base's place.
    monkeypatch.setattr(reading, "rope_overrides", lambda _: {})
    with pytest.raises(Refused, match="other logits than torch"):
        require_same_model(folders["llama"])


@pytest.mark.parametrize(
    ("name", "task"),
    [("llama", "sft"), ("gemma3_text", "dpo"), full("qwen3", "dpo"), full("phi3", "sft")],
)
def test_losses_and_adapters_are_those_of_torch(data, workspace, folders, name, task):
    shutil.copytree(folders[name], workspace / name)
    kind, work, file = (SftRequest, sft.work, "train.jsonl")
    if task == "dpo":
        kind, work, file = (DpoRequest, dpo.work, "pairs.jsonl")
    given = {"dataset": file, "peft": {"r": 4}}
    training = QUICK | {"max_steps": 4, "logging_steps": 1, "gradient_accumulation_steps": 2}
    logged, weights = {}, {}
    for engine, asked in requests_of({"model": name}, kind, training=training, **given):
        session = prepared(asked, engine)
        weights[engine] = weights_of(work(session).artifact)
        logged[engine] = [r for r in directory.read_metrics(session.run_dir) if "loss" in r]
    for one, other in zip(logged["torch"], logged["mlx"], strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-4)
        assert other["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-3)
        for metric in ("mean_token_accuracy", "entropy", "num_tokens", "rewards/margins"):
            if metric in one:
                assert other[metric] == pytest.approx(one[metric], rel=1e-3, abs=1e-5), metric
    ours = weights["mlx"]
    assert ours.keys() == weights["torch"].keys()
    for key, weight in weights["torch"].items():
        torch.testing.assert_close(ours[key], weight, atol=2e-3, rtol=1e-3)
    # The control: untrained, the adapters would differ.
    assert any(ours[key].abs().max() > 0 for key in ours if "lora_B" in key)


def test_a_run_that_resumes_ends_with_the_same_bits(data):
    training = QUICK | {"max_steps": 4, "gradient_checkpointing": True}
    asked = SftRequest(engine="mlx", dataset="train.jsonl", training=training,
                       peft={"r": 4, "lora_dropout": 0.1}, **data, **ACCEPTED)  # fmt: skip
    whole = sft.work(prepared(asked, "whole"))
    session = prepared(asked, "stopped")
    stopped_in_step(1, session, sft.work, sft.SFTTrainer)
    resumed = sft.work(Session(session.run_dir))
    assert same_bits(weights_of(resumed.artifact), weights_of(whole.artifact))


@pytest.fixture
def data(workspace, tiny_model_in):
    write_jsonl(workspace / "train.jsonl", conversations(16))
    write_jsonl(workspace / "held_out.jsonl", conversations(4, first=16))
    write_jsonl(workspace / "pairs.jsonl", pairs(16))
    return {"model": tiny_model_in}


ACCEPTED = {
    "accept_findings": ["validation_unwatched", "no_quality_filter", "dpo_learning_rate"],
    "accept_reason": "a test",
}


def requests_of(data, kind, **given):
    """Yield an engine and the same request for it."""
    for engine in ("torch", "mlx"):
        yield engine, kind(engine=engine, **data, **ACCEPTED, **given)


def require_same_report(ours, theirs):
    assert ours.data == theirs.data
    assert (ours.steps, ours.num_params) == (theirs.steps, theirs.num_params)
    assert ours.num_trainable_params == theirs.num_trainable_params
    assert ours.first_loss == pytest.approx(theirs.first_loss, rel=1e-4)
    assert ours.train_loss == pytest.approx(theirs.train_loss, rel=1e-3)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_run_of_either_engine_reports_the_same_and_its_adapter_answers_and_merges_alike(
    data, workspace
):
    training = QUICK | {"num_train_epochs": 4, "logging_steps": 1}
    files = {"dataset": "train.jsonl", "validation": "held_out.jsonl"}
    reports = {
        engine: run_here(sft.work, asked, engine)
        for engine, asked in requests_of(data, SftRequest, training=training, **files)
    }
    require_same_report(reports["mlx"], reports["torch"])
    wanted = pytest.approx(reports["torch"].validation_loss, rel=1e-3)
    assert reports["mlx"].validation_loss == wanted
    assert reports["mlx"].train_loss < reports["mlx"].first_loss
    models = {"base": data["model"]} | {
        engine: report.artifact for engine, report in reports.items()
    }
    systems = [{"name": name, "model": model} for name, model in models.items()]
    asked = EvaluateRequest(
        systems=systems, dataset="held_out.jsonl", target={"exact_match": 0.5}, max_new_tokens=16,
        device="mlx",
    )  # fmt: skip
    run_dir, report = evaluated_here(workspace, asked)
    _, theirs, ours = report.systems
    assert (ours.target, ours.scores) == (theirs.target, theirs.scores)
    samples = (run_dir / "samples.jsonl").read_text().splitlines()
    answers = [json.loads(sample)["answers"] for sample in samples]
    assert all(row["mlx"] == row["torch"] for row in answers), answers
    # The control: what is trained answers otherwise than the base.
    assert any(row["mlx"] != row["base"] for row in answers), answers
    base, adapter, merged = workspace / data["model"], Path(models["mlx"]), workspace / "merged"
    assert merge(base, adapter, merged) == "shards"
    assert merge_differences(base, adapter, merged).passed
    assert not same_bits(weights_of(merged), weights_of(base))


def test_what_mlx_cannot_train_is_refused_in_the_plan_and_auto_takes_torch(data):
    given = data | {"dataset": "train.jsonl", "training": dict(QUICK), **ACCEPTED}
    for changed, reason in (
        ({"method": "full"}, "adapters"),
        ({"training": QUICK | {"packing": True}}, "packed"),
        ({"peft": {"modules_to_save": ["lm_head"]}}, "modules_to_save"),
        ({"peft": {"init_lora_weights": "olora"}}, "init_lora_weights"),
    ):
        with pytest.raises(BadInput, match=reason):
            plan_sft(SftRequest(**given | {"engine": "mlx"} | changed))
    assert plan_sft(SftRequest(**given)).engine == "torch"
    assert plan_sft(SftRequest(**given | {"engine": "mlx"})).engine == "mlx"
