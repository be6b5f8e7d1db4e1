"""The MLX engine trains what the torch engine trains: same losses, same adapter, same resume."""

import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("mlx_lm")

import numpy as np
import torch
from datasets import Dataset
from peft import LoraConfig
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    Phi3Config,
    PreTrainedTokenizerFast,
    Qwen3Config,
    set_seed,
)
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

from ft_tools.errors import BadInput, Refused
from ft_tools.evaluation.request import EvaluateRequest
from ft_tools.models.worker.mlx import reading
from ft_tools.models.worker.mlx.model import MlxModel
from ft_tools.models.worker.mlx.peft_adapter import hollow
from ft_tools.models.worker.mlx.reading import require_same_model, rope_overrides
from ft_tools.training.plan import plan_sft
from ft_tools.training.request import SftRequest
from ft_tools.training.worker import sft
from ft_tools.training.worker.mlx.bridge import Bridge
from tests.tiny.evaluating import run_here as evaluated_here
from tests.tiny.test_shipping_merge import check as merge_differences
from tests.tiny.test_shipping_merge import merge, merged_differs
from tests.tiny.trainings import QUICK, conversations, run_here, write_jsonl
from tests.tiny.trainings import pairs as pairs_of

# PEFT reads names that transformers renames; in a worker they are printed to its log.
pytestmark = [pytest.mark.tiny, pytest.mark.filterwarnings("ignore::FutureWarning")]
SIZES = {
    "vocab_size": 160,
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
def tokenizer():
    letters = {chr(33 + at): 3 + at for at in range(90)}
    words = models.WordLevel({"<pad>": 0, "<eos>": 1, "<bos>": 2} | letters, unk_token="!")
    made = Tokenizer(words)
    made.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>"
    )


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Random models of each architecture, saved as transformers saves them."""
    found = {}
    for name, config in CONFIGS.items():
        set_seed(1)
        found[name] = tmp_path_factory.mktemp(name)
        AutoModelForCausalLM.from_config(config).save_pretrained(found[name])
    return found


def trained(engine, folder, tokenizer, out, *, task="sft", steps=4, resume=None, bits=None, **lora):
    """Train a few steps; return the logged rows, the trained tensors and the trainer."""
    set_seed(5)
    config = AutoConfig.from_pretrained(folder)
    if engine == "torch":
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    else:
        model = hollow(config, torch.float32)
        set_seed(5)
    checkpointed = lora.pop("checkpointed", False)
    rate = lora.pop("rate", 1e-3)
    given = {
        "output_dir": str(out), "per_device_train_batch_size": 2, "max_steps": steps,
        "gradient_accumulation_steps": 2, "learning_rate": rate, "logging_steps": 1, "bf16": False,
        "report_to": [], "use_cpu": True, "save_steps": 2, "disable_tqdm": True, "seed": 5,
        "max_length": 48, "gradient_checkpointing": None,
    }  # fmt: skip
    adapter = LoraConfig(
        task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules="all-linear", **lora
    )
    if task == "sft":
        kind, arguments, rows = SFTTrainer, SFTConfig(**given), sequences()
    else:
        kind, arguments, rows = DPOTrainer, DPOConfig(**given), preferences()
    trainer = kind(
        model=model, args=arguments, train_dataset=rows, processing_class=tokenizer,
        peft_config=adapter,
    )  # fmt: skip
    if engine == "mlx":
        base = MlxModel(Path(folder), "float32", bits=bits, config=rope_overrides(config))
        trainer.mlx_bridge = Bridge(
            trainer.model, base, checkpointed=checkpointed, sums=task == "sft"
        )
    trainer.train(resume_from_checkpoint=resume)
    logged = [row for row in trainer.state.log_history if "loss" in row]
    weights = {
        n: p.detach().clone() for n, p in trainer.model.named_parameters() if p.requires_grad
    }
    return logged, weights, trainer


def sequences():
    numbers = np.random.default_rng(3)
    rows = [numbers.integers(3, 160, numbers.integers(6, 30)).tolist() for _ in range(16)]
    return Dataset.from_dict({"input_ids": rows, "labels": [[-100] * 3 + row[3:] for row in rows]})


def preferences():
    return Dataset.from_list(
        [
            {"prompt": f"abc{at}", "chosen": f"good{at}", "rejected": f"bad{at}thing"}
            for at in range(12)
        ]
    )


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
def test_losses_and_adapters_are_those_of_torch(folders, tokenizer, tmp_path, name, task):
    (theirs, their_weights, _), (ours, our_weights, _) = (
        trained(engine, folders[name], tokenizer, tmp_path / engine, task=task)
        for engine in ("torch", "mlx")
    )
    assert their_weights.keys() == our_weights.keys()
    for one, other in zip(theirs, ours, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-4)
        assert other["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-3)
        for metric in ("mean_token_accuracy", "entropy", "num_tokens", "rewards/margins"):
            if metric in one:
                assert other[metric] == pytest.approx(one[metric], rel=1e-3, abs=1e-5), metric
    for key, weight in their_weights.items():
        torch.testing.assert_close(our_weights[key], weight, atol=2e-3, rtol=1e-3)
    # The control: untrained, the adapters would differ.
    assert any(our_weights[key].abs().max() > 0 for key in our_weights if "lora_B" in key)


def test_a_run_that_resumes_ends_with_the_same_bits(folders, tokenizer, tmp_path):
    given = {"lora_dropout": 0.1, "checkpointed": True}
    _, whole, _ = trained("mlx", folders["llama"], tokenizer, tmp_path / "whole", **given)
    shutil.rmtree(tmp_path / "whole" / "checkpoint-4")
    _, resumed, _ = trained(
        "mlx", folders["llama"], tokenizer, tmp_path / "whole",
        resume=str(tmp_path / "whole" / "checkpoint-2"), **given,
    )  # fmt: skip
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


@pytest.fixture
def data(workspace, tiny_model_in):
    write_jsonl(workspace / "train.jsonl", conversations(16))
    write_jsonl(workspace / "held_out.jsonl", conversations(4, first=16))
    write_jsonl(workspace / "pairs.jsonl", pairs_of(8))
    return {"model": tiny_model_in}


ACCEPTED = {
    "accept_findings": ["validation_unwatched", "no_quality_filter"],
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
    assert merged_differs(base, merged)


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
