"""A merge equals what was trained, for each architecture and kind of adapter, to the dtype."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
)

from ft_tools import facts
from ft_tools.errors import Refused
from ft_tools.models import safetensors_headers
from ft_tools.models.placement import Placement
from ft_tools.models.worker.loading import load
from ft_tools.shipping import adapter as adapters
from ft_tools.shipping import quality
from ft_tools.shipping.plan import ShipPlan
from ft_tools.shipping.worker import merging, proof, ship
from ft_tools.shipping.worker.proof import HeldOut, Proof
from ft_tools.shipping.worker.shipment import Shipment, own_types
from tests.tiny.measuring_gguf import Quiet

pytestmark = [
    pytest.mark.tiny,
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:The following (rank|alpha)_pattern keys:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*tie_word_embeddings.*:UserWarning"),
    pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers` to `True`:UserWarning"),
]

SMALL = {
    "vocab_size": 128,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
ARCHITECTURES = {
    "llama": {"tie_word_embeddings": True},
    "llama-untied": {"tie_word_embeddings": False},
    **{key: {} for key in ("qwen2", "qwen3", "gemma3_text", "mistral", "phi3")},
    "mixtral": {"num_local_experts": 4},
}
IN_FLOAT32 = Placement("cpu", "float32", 0)
PROMPTS = [[5, 17, 99, 3, 64, 20, 11, 42], [7, 8, 9, 10]]


def make_model(architecture, **more):
    given = SMALL | ARCHITECTURES[architecture] | more
    config = AutoConfig.for_model(architecture.removesuffix("-untied"), **given)
    torch.manual_seed(1)
    return AutoModelForCausalLM.from_config(config).eval()


def make_base(folder, architecture, dtype=torch.bfloat16, **save):
    make_model(architecture).to(dtype).save_pretrained(folder, **save)


def make_adapter(base, folder, dtype=torch.bfloat16, add_tokens=0, scale=1.0, **lora):
    model = AutoModelForCausalLM.from_pretrained(base, dtype=dtype)
    if add_tokens:
        model.resize_token_embeddings(SMALL["vocab_size"] + add_tokens, mean_resizing=False)
    options = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
    torch.manual_seed(2)
    adapted = get_peft_model(model, LoraConfig(**options | lora))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name or "lora_embedding_A" in name:
            torch.nn.init.normal_(parameter, std=0.05 * scale)
        elif parameter.requires_grad and ("modules_to_save" in name or "magnitude" in name):
            parameter.data += 0.05 * torch.rand_like(parameter)
        elif "trainable_tokens_delta" in name:
            parameter.data += 0.3
    adapted.save_pretrained(folder)


def inspected(base, adapter):
    config = json.loads((base / "config.json").read_bytes())
    return adapters.inspect(adapter, safetensors_headers.survey(base), config)


def merge(base, adapter, into):
    """Merge the way the plan would; returns that way."""
    into.mkdir()
    route = inspected(base, adapter).route
    if route == "shards":
        merging.merge_by_shards(base, adapter, into, lambda: None)
    else:
        own = replace(IN_FLOAT32, dtype=own_types(base)[1])
        merging.merge_whole(base, adapter, into, own)
    merging.copy_small_files(base, adapter, into)
    return route


def check(base, adapter, merged):
    model = load(merged, IN_FLOAT32)
    text = HeldOut("given", PROMPTS, [], [])
    found = Proof(None, text, base.parent / "rows.f32", model.config.vocab_size)
    found.fill(model)
    return found.check_merge(merging.adapted(base, adapter, IN_FLOAT32), "float32", "base")


@pytest.fixture
def parts(tmp_path):
    """Give a function that makes base and adapter, and returns both with a folder to merge into."""

    def make(architecture, dtype=torch.float32, **options):
        base, adapter = tmp_path / "base", tmp_path / "adapter"
        make_base(base, architecture, dtype)
        make_adapter(base, adapter, dtype, **options)
        return base, adapter, tmp_path / "merged"

    return make


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_merge_in_float32_is_exact_to_the_dtype(parts, architecture, record_property):
    base, adapter, merged = parts(architecture)
    # Mixtral's files hold each expert by itself, its modules all of them in one.
    assert merge(base, adapter, merged) == ("whole" if architecture == "mixtral" else "shards")
    found = check(base, adapter, merged)
    record_property("largest difference of a logit", found.max_abs_logit_difference)
    assert found.max_abs_logit_difference < 2e-5, found
    assert found.passed


@pytest.mark.parametrize(
    ("architecture", "options", "route"),
    [
        ("llama-untied", {"use_rslora": True}, "shards"),
        ("llama-untied", {"use_dora": True}, "shards"),
        (
            "llama-untied",
            {"alpha_pattern": {"q_proj": 32}, "rank_pattern": {"q_proj": 8}},
            "shards",
        ),
        ("llama-untied", {"modules_to_save": ["lm_head", "embed_tokens"]}, "shards"),
        ("llama", {"trainable_token_indices": [3, 5, 64]}, "whole"),
        ("llama-untied", {"target_modules": ["q_proj", "embed_tokens"]}, "whole"),
        (
            "llama-untied",
            {"add_tokens": 6, "modules_to_save": ["lm_head", "embed_tokens"]},
            "whole",
        ),
    ],
)
def test_every_kind_of_lora_merges_to_what_it_was(parts, architecture, options, route):
    base, adapter, merged = parts(architecture, **options)
    assert merge(base, adapter, merged) == route
    assert check(base, adapter, merged).max_abs_logit_difference < 5e-5
    held = safetensors_headers.survey(merged)["model.embed_tokens.weight"]
    assert held.shape[0] == SMALL["vocab_size"] + options.get("add_tokens", 0)


def test_a_merge_in_bfloat16_rounds_once_whatever_the_number_of_files(tmp_path):
    base, adapter, merged = tmp_path / "base", tmp_path / "adapter", tmp_path / "merged"
    make_base(base, "llama", max_shard_size="40KB")
    make_adapter(base, adapter)
    merge(base, adapter, merged)
    files = safetensors_headers.weight_files(base)
    assert len(safetensors_headers.weight_files(merged)) == len(files) >= 4
    whole = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    exact = PeftModel.from_pretrained(whole, adapter).merge_and_unload().state_dict()
    found = AutoModelForCausalLM.from_pretrained(merged, dtype="auto").state_dict()
    assert {weight.dtype for weight in found.values()} == {torch.bfloat16}
    for name, weight in found.items():
        assert torch.equal(weight, exact[name].bfloat16()), name
    assert check(base, adapter, merged).passed


def test_a_merge_without_the_adapter_or_with_the_wrong_scale_does_not_pass(parts, tmp_path):
    base, adapter, merged = parts("llama", use_rslora=True)
    forgotten = check(base, adapter, base)
    assert not forgotten.passed
    assert forgotten.mean_kl > 1e-3
    wrong = tmp_path / "wrong"
    shutil.copytree(adapter, wrong)
    config = json.loads((wrong / "adapter_config.json").read_bytes())
    (wrong / "adapter_config.json").write_text(json.dumps(config | {"use_rslora": False}))
    merge(base, wrong, merged)
    assert not check(base, adapter, merged).passed


def test_a_weak_adapter_that_was_forgotten_is_told_from_one_that_was_rounded(parts):
    base, adapter, merged = parts("llama", torch.bfloat16, scale=0.01)
    merge(base, adapter, merged)
    rounded, forgotten = check(base, adapter, merged), check(base, adapter, base)
    # By the absolute limits alone both would pass.
    assert forgotten.mean_kl < facts.number("ship.merge_kl"), forgotten
    assert forgotten.top1_agreement >= facts.number("ship.merge_top1"), forgotten
    assert rounded.mean_kl > 0.02 * rounded.adapter_kl, rounded
    assert rounded.passed, rounded
    assert forgotten.applied_fraction == pytest.approx(0.0, abs=1e-6)
    assert not forgotten.passed


def test_models_that_run_in_16_bits_are_judged_by_their_weights(parts, tmp_path):
    base, adapter, merged = parts("llama", torch.bfloat16, scale=0.1)
    merge(base, adapter, merged)
    place = replace(IN_FLOAT32, dtype="bfloat16")
    plan = ShipPlan.model_construct(adapter=inspected(base, adapter), quantization=None)
    shipment = Shipment(Quiet(), plan, base, tmp_path, tmp_path)

    def applied(folder):
        found = Proof(None, HeldOut("given", PROMPTS, [], []), tmp_path / "rows.f32", 128)
        found.fill(load(folder, place))
        return ship.check_merge(shipment, adapter, found, place, folder).applied_fraction

    assert applied(merged) == pytest.approx(1.0, abs=0.05)
    # Of logits in bfloat16 it would seem to be half there.
    with pytest.raises(Refused, match=r"[^\d]0% of the adapter's effect"):
        applied(base)


@pytest.mark.parametrize(
    ("architecture", "lora", "has_check"),
    [
        *(("llama-untied", lora, True) for lora in ({}, {"use_rslora": True}, {"use_dora": True})),
        # Its names are not those of the base's files.
        ("mixtral", {}, False),
        ("llama", {"trainable_token_indices": [3, 5]}, False),
    ],
)
def test_a_merge_can_be_checked_weight_by_weight_where_the_files_have_the_adapters_names(
    parts, tmp_path, architecture, lora, has_check
):
    base, adapter, merged = parts(architecture, torch.bfloat16, **lora)
    merge(base, adapter, merged)
    plan = ShipPlan.model_construct(adapter=inspected(base, adapter))
    right = ship.check_weights(Shipment(Quiet(), plan, base, tmp_path, tmp_path), adapter, merged)
    assert (right is not None) is has_check
    if right is not None:
        assert (right.num_weights, right.passed) == (14, True)
        assert right.applied_fraction == pytest.approx(1.0, abs=0.05)
        forgotten = proof.compare_weights(base, adapter, base)
        assert forgotten.applied_fraction == pytest.approx(0.0, abs=1e-6)
        assert not forgotten.passed


@pytest.mark.parametrize("architecture", ["llama", "gemma3_text"])
def test_a_merged_folder_has_its_rotary_base_in_both_spellings(tmp_path, architecture):
    base, merged = tmp_path / "base", tmp_path / "merged"
    theta = {"rope_theta": 123456.0, "rope_type": "default"}
    scaled = theta | {"rope_type": "linear", "factor": 4.0}
    rope = {"full_attention": scaled, "sliding_attention": theta | {"rope_theta": 777.0}}
    parameters = scaled if architecture == "llama" else rope
    made = make_model(architecture, rope_parameters=parameters)
    made.save_pretrained(base)
    # What transformers 5 writes: older programs find nothing and take a default.
    assert "rope_theta" not in json.loads((base / "config.json").read_bytes())
    merged.mkdir()
    merging.copy_whole(base, merged)
    merging.copy_small_files(base, None, merged)
    written = json.loads((merged / "config.json").read_bytes())
    assert written["rope_theta"] == 123456.0
    assert written["rope_scaling"] == {"rope_type": "linear", "factor": 4.0}
    if architecture == "gemma3_text":
        assert written["rope_local_base_freq"] == 777.0
    again = load(merged, IN_FLOAT32)
    rows = zip(proof.logits_of(again, PROMPTS), proof.logits_of(made, PROMPTS), strict=True)
    assert all(np.array_equal(after, before) for after, before in rows)


# --- what a format keeps of the adapter's effect --------------------------------------------------

WORDS, IDS = 32, list(range(24))


class Table(torch.nn.Module):
    """A model whose logits are a table, one row per token."""

    device = torch.device("cpu")

    def __init__(self, rows):
        super().__init__()
        self.rows = torch.tensor(rows)

    def forward(self, batch):
        return SimpleNamespace(logits=self.rows[batch])


@pytest.fixture
def measured(tmp_path):
    """Give what measures a format that keeps a share of the adapter's effect."""
    random = np.random.default_rng(0)
    base = random.normal(size=(WORDS, WORDS)).astype(np.float32)
    effect = random.normal(size=(WORDS, WORDS)).astype(np.float32)
    found = Proof(None, HeldOut("given", [IDS], [], []), tmp_path / "rows.f32", WORDS)
    found.fill(Table(base + effect))
    found.fill(Table(base), found.base_path)

    def measure(share, noise=0.0):
        drawn = noise * np.random.default_rng(1).normal(size=base.shape).astype(np.float32)
        rows = base + share * effect + drawn
        return quality.summarise(found.measure([rows[IDS]]), True)

    return measure


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_share_of_the_adapters_effect_that_a_format_keeps_is_measured(measured, share):
    found, why = measured(share)
    assert found.effect_kept_fraction == pytest.approx(share, abs=1e-3)
    assert (why.id == "adapter_erased") == (share == 0.0)


def test_rounding_noise_is_no_lost_effect(measured):
    (found, _), (exact, _) = measured(1.0, noise=0.1), measured(1.0)
    assert found.effect_kept_fraction == pytest.approx(1.0, abs=0.02)
    assert found.mean_kl > exact.mean_kl
