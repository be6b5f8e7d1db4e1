"""Shapes from config.json alone, against the real model classes on the meta device."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

from ft_tools import facts
from ft_tools.models.adapter_targets import default_targets, peft_arguments
from ft_tools.models.config import has_row, shape_from_config
from ft_tools.models.families import FAMILIES
from ft_tools.models.shape_of_model import shape_of
from ft_tools.models.worker.build import build as build_class

pytestmark = [
    pytest.mark.tiny,
    # gpt2's fused projections are stored transposed; PEFT notes that it took that into account.
    pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False"),
    # PEFT names a doubled rank for fused experts, and then does not find its own pattern.
    pytest.mark.filterwarnings("ignore:The following (rank|alpha)_pattern keys did not match"),
    # PEFT 0.21 asks transformers 5.24 for a property that will go in version 6.
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
]
RANK = 16
# One of each family and size; the largest ones have most layers and cost most time to build.
WITH_ADAPTERS = [
    "meta-llama/Llama-2-7b-hf",
    "meta-llama/Meta-Llama-3-8B",
    "meta-llama/Llama-3.2-1B",
    "TinyLlama/TinyLlama-1.1B-Chat-v1.0",
    "mistralai/Mistral-7B-v0.1",
    "mistralai/Mistral-Nemo-Base-2407",
    "mistralai/Mixtral-8x7B-v0.1",
    "Qwen/Qwen2.5-0.5B",
    "Qwen/Qwen2.5-7B",
    "Qwen/Qwen3-4B",
    "Qwen/Qwen3-30B-A3B",
    "Qwen/Qwen1.5-MoE-A2.7B",
    "google/gemma-2b",
    "google/gemma-2-2b",
    "google/gemma-3-1b-pt",
    "microsoft/Phi-3-mini-4k-instruct",
    "microsoft/phi-4",
    "microsoft/phi-2",
    "HuggingFaceTB/SmolLM2-135M",
    "HuggingFaceTB/SmolLM3-3B",
    "ibm-granite/granite-3.3-2b-instruct",
    "allenai/OLMo-2-0425-1B",
    "allenai/OLMoE-1B-7B-0924",
    "tiiuae/falcon-7b",
    "tiiuae/falcon-40b",
    "bigcode/starcoder2-3b",
    "EleutherAI/pythia-1.4b",
    "openai-community/gpt2",
]


def build(config):
    """Instantiate a model's real class without memory."""
    real = AutoConfig.for_model(**config)
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(real)


def num_params(model, *, trainable_only=False):
    return sum(p.numel() for p in model.parameters() if p.requires_grad or not trainable_only)


def counts(config, **targets):
    """Total parameters, and those that adapters over all linear layers add."""
    model = build(config)
    total = num_params(model)
    targets = peft_arguments(shape_from_config(config)) | targets
    adapted = get_peft_model(model, LoraConfig(r=RANK, task_type="CAUSAL_LM", **targets))
    return total, num_params(adapted, trainable_only=True)


def with_layers(config, num_layers):
    """Give the same model with fewer blocks; every block of these models is alike."""
    return config | {"n_layer" if "n_layer" in config else "num_hidden_layers": num_layers}


@pytest.mark.parametrize(
    "name", [name for name, row in facts.models().items() if not has_row(row.config)]
)
def test_the_published_parameter_count_is_that_of_the_class(name):
    if "gemma-3n" in name:  # whose towers timm builds
        pytest.importorskip("timm")
    _, model = build_class(facts.model(name).config)
    assert num_params(model) == facts.model(name).total_params


@pytest.mark.parametrize("name", WITH_ADAPTERS)
def test_parameter_counts_equal_those_of_the_real_model_with_peft(name):
    # Two blocks tell what a block adds from what surrounds it, and take seconds less than all.
    config = dict(facts.model(name).config)
    shapes = {n: shape_from_config(with_layers(config, n), name) for n in (1, 2)}
    real = {n: counts(with_layers(config, n)) for n in (1, 2)}
    ours = {n: (s.total_params, s.lora_params(RANK)) for n, s in shapes.items()}
    assert ours == real
    num_layers = shape_of(name).num_layers
    block = real[2][1] - real[1][1]
    assert shape_of(name).lora_params(RANK) == real[1][1] + (num_layers - 1) * block


def test_a_tower_is_counted_and_left_alone_by_either_way_to_name_the_modules():
    rows = facts.model("google/gemma-3-4b-pt").config
    text, vision = rows["text_config"], rows["vision_config"]
    config = rows | {"text_config": with_layers(text, 1), "vision_config": with_layers(vision, 2)}
    shape = shape_from_config(config)
    named = {"target_modules": default_targets(shape).modules}
    for arguments in (peft_arguments(shape), named):
        _, model = build_class(config)
        assert num_params(model) == shape.total_params
        adapted = get_peft_model(model, LoraConfig(r=RANK, task_type="CAUSAL_LM", **arguments))
        assert num_params(adapted, trainable_only=True) == shape.lora_params(RANK)


def test_every_family_is_checked_against_its_real_class():
    checked = {facts.model(name).config["model_type"] for name in WITH_ADAPTERS}
    # These have a test of their own below.
    small = {"olmo", "olmo3", "gpt_bigcode", "granitemoe", "ministral3", "glm4", "ernie4_5"}
    assert set(FAMILIES) - checked == small | {"hunyuan_v1_dense", "exaone4"}


PLAIN = {"num_attention_heads": 4, "intermediate_size": 96}
GROUPED = PLAIN | {"num_key_value_heads": 2}


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "ministral3", "head_dim": 16} | GROUPED,
        {"model_type": "glm4"} | GROUPED,
        {"model_type": "ernie4_5", "use_bias": True} | GROUPED,
        {"model_type": "hunyuan_v1_dense", "head_dim": 32} | GROUPED,
        {"model_type": "exaone4", "sliding_window_pattern": 2} | GROUPED,
        {"model_type": "olmo"} | PLAIN,
        {"model_type": "olmo3", "layer_types": ["sliding_attention", "full_attention"]} | GROUPED,
        {"model_type": "granitemoe", "num_local_experts": 4, "num_experts_per_tok": 2} | GROUPED,
        {"model_type": "gpt_bigcode", "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 128},
        {"model_type": "llama", "attention_bias": True, "mlp_bias": True} | PLAIN,
        {"model_type": "falcon", "num_attention_heads": 4, "bias": True}
        | {"multi_query": False, "parallel_attn": False},
    ],
    ids=lambda config: config["model_type"],
)
@pytest.mark.parametrize("tied", [True, False])
def test_small_models_of_the_other_families_count_alike(config, tied):
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 256}
    if "n_embd" in config:
        sizes = {"vocab_size": 256}
    config = sizes | config | {"tie_word_embeddings": tied, "pad_token_id": None}
    ids = {"bos_token_id": 1, "eos_token_id": 2}
    shape = shape_from_config(config)
    assert (shape.total_params, shape.lora_params(RANK)) == counts(config | ids)
