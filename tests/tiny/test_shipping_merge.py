"""A merge equals what was trained, for each architecture and kind of adapter, to the dtype."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    Gemma4TextConfig,
    Gemma4UnifiedConfig,
    GraniteMoeHybridConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from ft_tools import facts
from ft_tools.models import safetensors_headers
from ft_tools.models.placement import Placement
from ft_tools.models.worker.loading import load
from ft_tools.shipping import adapter as adapters
from ft_tools.shipping.worker import merge_check, merging
from ft_tools.shipping.worker.shipment import DTYPES, outtype

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
    "llama": (LlamaConfig, LlamaForCausalLM, {"tie_word_embeddings": True}),
    "llama-untied": (LlamaConfig, LlamaForCausalLM, {"tie_word_embeddings": False}),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, {}),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, {}),
    "gemma3": (Gemma3TextConfig, Gemma3ForCausalLM, {}),
    "mistral": (MistralConfig, MistralForCausalLM, {}),
    "phi3": (Phi3Config, Phi3ForCausalLM, {}),
    "mixtral": (MixtralConfig, MixtralForCausalLM, {"num_local_experts": 4}),
}
IN_FLOAT32 = Placement("cpu", "float32", 0)
PROMPTS = [[5, 17, 99, 3, 64, 20, 11, 42], [7, 8, 9, 10]]


def make_base(folder, architecture, dtype=torch.bfloat16, **save):
    config, model, extra = ARCHITECTURES[architecture]
    torch.manual_seed(1)
    model(config(**SMALL | extra)).to(dtype).save_pretrained(folder, **save)


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


def merge(base, adapter, into, change=None):
    """Merge the way the plan would; returns that way."""
    into.mkdir()
    config = json.loads((base / "config.json").read_bytes())
    about = adapters.inspect(adapter, safetensors_headers.survey(base), config)
    if about.route == "shards":
        merging.merge_by_shards(base, adapter, into, change, lambda: None)
    else:
        own = replace(IN_FLOAT32, dtype=DTYPES[outtype(base)])
        merging.merge_whole(base, adapter, into, own)
    merging.copy_small_files(base, adapter, into)
    return about.route


def check(base, adapter, merged, dtype=torch.float32):
    place = replace(IN_FLOAT32, dtype=str(dtype).removeprefix("torch."))
    expected = merge_check.adapted_outputs(base, adapter, PROMPTS, place)
    model = load(merged, place)
    return merge_check.compare(
        expected, merge_check.outputs(model, PROMPTS), place, "base with adapter"
    )


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_merge_in_float32_is_exact_to_the_dtype(tmp_path, architecture, record_property):
    base, adapter, merged = tmp_path / "base", tmp_path / "adapter", tmp_path / "merged"
    make_base(base, architecture, torch.float32)
    make_adapter(base, adapter, torch.float32)
    # Mixtral's files hold each expert by itself, its modules all of them in one.
    assert merge(base, adapter, merged) == ("whole" if architecture == "mixtral" else "shards")
    found = check(base, adapter, merged)
    record_property("largest difference of a logit", found.max_abs_logit_difference)
    assert found.max_abs_logit_difference < 2e-5, found
    assert found.same_greedy_texts == len(PROMPTS)
    assert found.passed


@pytest.mark.parametrize("architecture", ["llama", "gemma3", "qwen3"])
def test_a_merge_in_bfloat16_rounds_once(tmp_path, architecture):
    base, adapter, merged = tmp_path / "base", tmp_path / "adapter", tmp_path / "merged"
    make_base(base, architecture)
    make_adapter(base, adapter)
    merge(base, adapter, merged)
    weights = load_file(merged / "model.safetensors")
    assert {w.dtype for w in weights.values()} == {torch.bfloat16}
    name = "model.layers.1.self_attn.q_proj.weight"
    held = load_file(adapter / safetensors_headers.ADAPTER)
    inner = f"base_model.model.{name.removesuffix('.weight')}"
    delta = 2.0 * held[f"{inner}.lora_B.weight"].float() @ held[f"{inner}.lora_A.weight"].float()
    exact = load_file(base / "model.safetensors")[name].float() + delta
    assert torch.equal(weights[name], exact.bfloat16())
    assert check(base, adapter, merged).passed


@pytest.mark.parametrize(
    ("lora", "route"),
    [
        ({"use_rslora": True}, "shards"),
        ({"use_dora": True}, "shards"),
        ({"alpha_pattern": {"q_proj": 32}, "rank_pattern": {"q_proj": 8}}, "shards"),
        ({"modules_to_save": ["lm_head", "embed_tokens"]}, "shards"),
        ({"trainable_token_indices": [3, 5, 64]}, "whole"),
        ({"target_modules": ["q_proj", "embed_tokens"]}, "whole"),
    ],
    ids=["rslora", "dora", "patterns", "modules_to_save", "token_indices", "embeddings"],
)
def test_every_kind_of_lora_merges_to_what_it_was(tmp_path, lora, route):
    base, adapter, merged = tmp_path / "base", tmp_path / "adapter", tmp_path / "merged"
    make_base(base, "llama-untied", torch.float32)
    make_adapter(base, adapter, torch.float32, **lora)
    assert merge(base, adapter, merged) == route
    found = check(base, adapter, merged)
    assert found.max_abs_logit_difference < 5e-5, found
    assert merged_differs(base, merged)


def test_added_tokens_come_along(tmp_path):
    base, adapter, merged = tmp_path / "base", tmp_path / "adapter", tmp_path / "merged"
    make_base(base, "llama-untied", torch.float32)
    make_adapter(
        base, adapter, torch.float32, add_tokens=6, modules_to_save=["lm_head", "embed_tokens"]
    )
    assert merge(base, adapter, merged) == "whole"
    rows = safetensors_headers.survey(merged)["model.embed_tokens.weight"].shape[0]
    assert rows == SMALL["vocab_size"] + 6
    assert check(base, adapter, merged).max_abs_logit_difference < 5e-5


def test_tied_embeddings_that_were_trained_are_merged_in_memory(tmp_path):
    base, adapter, merged = tmp_path / "base", tmp_path / "adapter", tmp_path / "merged"
    make_base(base, "llama", torch.float32)
    make_adapter(base, adapter, torch.float32, trainable_token_indices=[3, 5, 64])
    assert merge(base, adapter, merged) == "whole"
    assert check(base, adapter, merged).max_abs_logit_difference < 5e-5
    assert json.loads((merged / "config.json").read_bytes())["tie_word_embeddings"]


def test_shards_give_the_same_weights_as_one_file(tmp_path):
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    make_base(base, "llama", max_shard_size="40KB")
    assert len(safetensors_headers.weight_files(base)) >= 4
    make_adapter(base, adapter)
    merge(base, adapter, tmp_path / "sharded")
    assert len(safetensors_headers.weight_files(tmp_path / "sharded")) == len(
        safetensors_headers.weight_files(base)
    )
    peft = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), adapter
    ).merge_and_unload()
    found = AutoModelForCausalLM.from_pretrained(tmp_path / "sharded", dtype=torch.float32)
    for name, weight in found.state_dict().items():
        assert torch.equal(weight, peft.state_dict()[name].bfloat16().float()), name


def test_a_merge_that_forgot_the_adapter_does_not_pass(tmp_path):
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    make_base(base, "llama", torch.float32)
    make_adapter(base, adapter, torch.float32)
    found = check(base, adapter, base)
    assert not found.passed
    assert found.mean_kl > 1e-3


def test_a_weak_adapter_that_was_forgotten_is_told_from_one_that_was_rounded(tmp_path):
    base, adapter, merged = tmp_path / "base", tmp_path / "adapter", tmp_path / "merged"
    make_base(base, "llama")
    make_adapter(base, adapter, scale=0.01)
    merge(base, adapter, merged)
    rounded, forgotten = check(base, adapter, merged), check(base, adapter, base)
    # By the absolute limits alone both would pass.
    assert forgotten.mean_kl < facts.number("ship.merge_kl"), forgotten
    assert forgotten.top1_agreement >= facts.number("ship.merge_top1"), forgotten
    assert rounded.mean_kl > 0.02 * rounded.adapter_kl, rounded
    assert rounded.passed, rounded
    assert forgotten.applied_fraction == pytest.approx(0.0, abs=1e-6)
    assert not forgotten.passed


def test_an_adapter_that_was_never_trained_loses_nothing(tmp_path):
    base, adapter, merged = tmp_path / "base", tmp_path / "adapter", tmp_path / "merged"
    make_base(base, "llama")
    make_adapter(base, adapter, scale=0.0)
    merge(base, adapter, merged)
    found = check(base, adapter, merged)
    assert (found.adapter_kl, found.applied_fraction, found.passed) == (0.0, None, True)


@pytest.mark.parametrize("lora", [{}, {"use_rslora": True}, {"use_dora": True}])
def test_a_merge_can_be_checked_weight_by_weight(tmp_path, lora):
    base, adapter, merged = tmp_path / "base", tmp_path / "adapter", tmp_path / "merged"
    make_base(base, "llama-untied")
    make_adapter(base, adapter, **lora)
    merge(base, adapter, merged)
    right = merge_check.compare_weights(base, adapter, merged, None)
    assert right.num_weights == 14
    assert right.applied_fraction == pytest.approx(1.0, abs=0.05)
    assert right.passed, right
    forgotten = merge_check.compare_weights(base, adapter, base, None)
    assert forgotten.applied_fraction == pytest.approx(0.0, abs=1e-6)
    assert not forgotten.passed


def test_a_merge_needs_less_memory_than_two_files_and_the_adapter(tmp_path):
    """Measured over what the libraries take, in a process of its own; with a negative control."""
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    shapes = {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 8}
    heads = {"num_attention_heads": 8, "num_key_value_heads": 8, "head_dim": 64}
    LlamaForCausalLM(LlamaConfig(**SMALL | shapes | heads)).bfloat16().save_pretrained(
        base, max_shard_size="18MB"
    )
    make_adapter(base, adapter)
    files = safetensors_headers.weight_files(base)
    assert len(files) == 4
    argv = [sys.executable, "-m", "tests.tiny.merge_peak", str(base), str(adapter), str(tmp_path)]
    peaks = json.loads(subprocess.run(argv, check=True, stdout=subprocess.PIPE).stdout)
    largest = max(file.stat().st_size for file in files)
    bound = 2 * largest + (adapter / safetensors_headers.ADAPTER).stat().st_size
    assert peaks["ours"] < bound, (peaks, bound)
    assert peaks["a file at a time"] > bound, (peaks, bound)


def test_a_merge_with_the_wrong_scale_does_not_pass(tmp_path):
    base, adapter, merged = tmp_path / "base", tmp_path / "adapter", tmp_path / "merged"
    make_base(base, "llama", torch.float32)
    make_adapter(base, adapter, torch.float32, use_rslora=True)
    wrong = tmp_path / "wrong"
    shutil.copytree(adapter, wrong)
    config = json.loads((wrong / "adapter_config.json").read_bytes())
    (wrong / "adapter_config.json").write_text(json.dumps(config | {"use_rslora": False}))
    merge(base, wrong, merged)
    assert not check(base, adapter, merged).passed


def test_a_merge_into_the_dequantized_base_is_what_4_bit_training_saw(tmp_path):
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    make_base(base, "llama", torch.float32)
    make_adapter(base, adapter, torch.float32)
    nf4 = {"bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}
    trained = merge_check.adapted_outputs(
        base, adapter, PROMPTS, IN_FLOAT32, {"load_in_4bit": True, **nf4}
    )
    kls = {}
    changes = {
        "original": None,
        "dequantized": merging.as_nf4_training_saw_it(base, nf4),
    }
    for name, change in changes.items():
        merge(base, adapter, tmp_path / name, change)
        model = AutoModelForCausalLM.from_pretrained(tmp_path / name).eval()
        kls[name] = merge_check.mean_kl(trained.logits, merge_check.outputs(model, PROMPTS).logits)
    assert kls["dequantized"] < 1e-6, kls
    assert kls["original"] > 100 * kls["dequantized"], kls


def test_code_that_a_config_names_is_not_passed_on(tmp_path):
    base, into = tmp_path / "base", tmp_path / "into"
    base.mkdir()
    into.mkdir()
    config = {"model_type": "llama", "auto_map": {"AutoModelForCausalLM": "evil--x.Model"}}
    for name in ("config.json", "tokenizer_config.json"):
        (base / name).write_text(json.dumps(config))
    (base / "x.py").write_text("raise SystemExit")
    (base / "tokenizer.model").write_bytes(b"spm")
    merging.copy_small_files(base, None, into)
    names = {"config.json", "tokenizer_config.json", "tokenizer.model"}
    assert {path.name for path in into.iterdir()} == names
    assert json.loads((into / "config.json").read_bytes()) == {"model_type": "llama"}


def merged_differs(base, merged):
    before, after = load_file(base / "model.safetensors"), load_file(merged / "model.safetensors")
    return any(not torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_a_merged_folder_has_its_rotary_base_in_both_spellings(tmp_path, architecture):
    base, merged = tmp_path / "base", tmp_path / "merged"
    config, model, extra = ARCHITECTURES[architecture]
    theta = {"rope_theta": 123456.0, "rope_type": "default"}
    scaled = theta | {"rope_type": "linear", "factor": 4.0}
    rope = {"full_attention": scaled, "sliding_attention": theta | {"rope_theta": 777.0}}
    torch.manual_seed(1)
    parameters = scaled if architecture == "llama" else rope
    made = model(config(**SMALL | extra, rope_parameters=parameters)).eval()
    made.save_pretrained(base)
    # What transformers 5 writes: older programs find nothing and take a default.
    assert "rope_theta" not in json.loads((base / "config.json").read_bytes())
    merged.mkdir()
    merging.copy_whole(base, merged)
    merging.copy_small_files(base, None, merged)
    written = json.loads((merged / "config.json").read_bytes())
    assert written["rope_theta"] == 123456.0
    assert written["rope_scaling"] == {"rope_type": "linear", "factor": 4.0}
    if architecture == "gemma3":
        assert written["rope_local_base_freq"] == 777.0
    again = load(merged, IN_FLOAT32)
    assert torch.equal(merge_check.logits_of(again, PROMPTS), merge_check.logits_of(made, PROMPTS))


def test_a_rotary_type_that_came_with_the_newer_spelling_stays_as_it_is(tmp_path):
    path = tmp_path / "config.json"
    made = Gemma4TextConfig(num_hidden_layers=2)
    path.write_text(made.to_json_string(use_diff=False), encoding="utf-8")
    merging.for_every_reader(path)
    again = Gemma4TextConfig.from_dict(json.loads(path.read_bytes()))
    assert again.rope_parameters == made.rope_parameters


def test_a_key_that_converters_ask_for_is_written(tmp_path):
    path = tmp_path / "config.json"
    made = Gemma4UnifiedConfig(text_config={"num_hidden_layers": 2})
    path.write_text(made.to_json_string(), encoding="utf-8")
    assert "moe_intermediate_size" not in json.loads(path.read_bytes())["text_config"]
    merging.for_every_reader(path)
    written = json.loads(path.read_bytes())["text_config"]
    assert written["moe_intermediate_size"] is None
    again = Gemma4UnifiedConfig.from_dict(json.loads(path.read_bytes()))
    assert again.text_config.num_hidden_layers == 2
    for said, kept in (({}, 1.0), ({"rotary_pct": 0.5}, 0.5)):
        path.write_text(json.dumps({"model_type": "cohere2"} | said))
        merging.for_every_reader(path)
        assert json.loads(path.read_bytes())["rotary_pct"] == kept


def test_kinds_of_layers_are_named_as_in_published_files(tmp_path):
    path = tmp_path / "config.json"
    published = ["mamba", "attention"]
    made = GraniteMoeHybridConfig(num_hidden_layers=2, layer_types=published)
    path.write_text(made.to_json_string(), encoding="utf-8")
    assert json.loads(path.read_bytes())["layer_types"] != published
    merging.for_every_reader(path)
    written = json.loads(path.read_bytes())
    assert written["layer_types"] == published
    assert GraniteMoeHybridConfig.from_pretrained(tmp_path).layer_types == made.layer_types
