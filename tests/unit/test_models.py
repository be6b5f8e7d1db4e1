"""Shapes from config.json alone."""

import json
import re

import pytest

from ft_tools import facts
from ft_tools.errors import BadData, BadInput, NotFound, OutsideWorkspace, UnknownName
from ft_tools.models.adapter_targets import default_targets, peft_arguments, require_experts
from ft_tools.models.config import has_row, shape_from_config
from ft_tools.models.shape_of_model import shape_of

LLAMA = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 176,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 1000,
}


@pytest.mark.parametrize(
    ("model", "rank", "targets", "count"),
    [
        # Printed by PEFT for these models; the second is what often passes for the first.
        ("meta-llama/Meta-Llama-3-8B", 16, "all-linear", 41_943_040),
        ("meta-llama/Meta-Llama-3-8B", 32, "all-linear", 83_886_080),
        # litgpt, tutorials/resource-tables.md: q and v at rank 8.
        ("meta-llama/Llama-2-7b-hf", 8, ("q_proj", "v_proj"), 4_194_304),
        ("meta-llama/Llama-2-13b-hf", 8, ("q_proj", "v_proj"), 6_553_600),
        # peft, method_comparison: q and v at rank 32.
        ("meta-llama/Llama-3.2-3B", 32, ("q_proj", "v_proj"), 9_175_040),
        ("meta-llama/Llama-3.2-3B", 64, ("q_proj", "v_proj"), 18_350_080),
    ],
)
def test_adapters_count_as_published(model, rank, targets, count):
    assert shape_of(model).lora_params(rank, targets) == count


@pytest.mark.parametrize("name", [n for n, row in facts.models().items() if has_row(row.config)])
def test_every_catalog_model_has_its_published_size(name):
    assert shape_of(name).total_params == facts.model(name).total_params


def test_a_name_matches_whole_or_after_a_dot_as_in_peft():
    shape = shape_of("openai-community/gpt2")
    assert [m.name for m in shape.targets("c_proj")] == ["attn.c_proj", "mlp.c_proj"]
    assert [m.name for m in shape.targets(("mlp.c_proj",))] == ["mlp.c_proj"]
    assert shape.targets("proj") == ()


def test_experts_and_routers_are_adapted_only_where_they_are_named():
    shape = shape_of("Qwen/Qwen3-30B-A3B")
    attention = ["q_proj", "k_proj", "v_proj", "o_proj"]
    assert [m.name for m in shape.targets()] == attention
    assert peft_arguments(shape) == {"target_modules": attention}
    plain = shape.lora_params(16)
    # Each of 48 blocks has 128 experts of 1,536 x 2,048 and 2,048 x 768.
    one = 16 * 128 * (1536 + 2048)
    assert shape.lora_params(16, target_parameters=("gate_up_proj",)) == plain + 48 * one
    with pytest.raises(BadInput, match=r"experts.w1: .*it has mlp.experts.down_proj, mlp.experts"):
        require_experts(shape, ("experts.w1",))
    with pytest.raises(BadInput, match="it has none; remove"):
        require_experts(shape_of("Qwen/Qwen3-4B"), ("experts.down_proj",))
    shared = shape_of("Qwen/Qwen1.5-MoE-A2.7B")
    assert "shared_expert_gate" not in [m.name for m in shared.targets()]
    assert "shared_expert.up_proj" in [m.name for m in shared.targets()]


def test_a_multimodal_config_is_read_through_its_text_part():
    # gemma-3-4b's config.json leaves out what Gemma3TextConfig has defaults for.
    config = {
        "model_type": "gemma3",
        "text_config": {
            "model_type": "gemma3_text",
            "hidden_size": 2560,
            "intermediate_size": 10240,
            "num_hidden_layers": 34,
        },
        "vision_config": facts.model("google/gemma-3-4b-pt").config["vision_config"],
    }
    shape = shape_from_config(config)
    assert (shape.num_heads, shape.num_kv_heads, shape.head_dim) == (8, 4, 256)
    assert "vision" in shape.notes[0]
    # google/gemma-3-4b-pt, as published: 3.88 B parameters of text model, and the tower's.
    assert shape.total_params == 4_300_079_472


def test_adapters_go_on_the_language_model_and_not_on_a_tower_of_the_same_names():
    shape = shape_of("google/gemma-3-4b-pt")
    text = "model.language_model.layers.7.self_attn.q_proj"
    tower = "model.vision_tower.encoder.layers.7.self_attn.q_proj"
    named = default_targets(shape).modules
    assert re.fullmatch(named, text)
    assert not re.fullmatch(named, tower)
    excluded = peft_arguments(shape)["exclude_modules"]
    assert re.fullmatch(excluded, tower)
    assert not re.fullmatch(excluded, text)


def test_a_folder_a_config_file_and_the_base_of_an_adapter_are_models(workspace):
    # A folder comes before a catalog name.
    folder = workspace / "meta-llama" / "Llama-3.2-3B"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(LLAMA))
    (workspace / "adapter").mkdir()
    base = {"base_model_name_or_path": "meta-llama/Llama-3.2-1B"}
    (workspace / "adapter" / "adapter_config.json").write_text(json.dumps(base))
    name = "meta-llama/Llama-3.2-3B"
    found = [shape_of(each).total_params for each in (name, f"{name}/config.json", "adapter")]
    assert found == [shape_from_config(LLAMA).total_params] * 2 + [1_235_814_400]


def test_one_text_with_other_signs_is_a_pattern_over_whole_paths_as_in_peft():
    shape = shape_of("meta-llama/Llama-3.1-8B")
    pattern = r"model\.layers\.\d+\.self_attn\.(q_proj|v_proj)"
    assert shape.lora_params(8, pattern) == shape.lora_params(8, ("q_proj", "v_proj"))
    assert shape.targets(r".*\.nothing") == ()


QWEN_MOE = dict(facts.model("Qwen/Qwen3-30B-A3B").config)


@pytest.mark.parametrize(
    ("config", "error", "said"),
    [
        ({"model_type": "qwen3-moe"}, UnknownName, r"config\.json.*nearest: qwen3_moe"),
        (LLAMA | {"num_key_value_heads": 3}, BadInput, "divisor of the"),
        (LLAMA | {"hidden_size": 65}, BadInput, "multiple of the"),
        (LLAMA | {"num_hidden_layers": 10**12}, BadInput, "num_hidden_layers"),
        (QWEN_MOE | {"num_experts_per_tok": 999}, BadInput, "num_experts_per_tok"),
        ({k: v for k, v in LLAMA.items() if k != "vocab_size"}, BadInput, "vocab_size"),
        (LLAMA | {"hidden_size": "64"}, BadInput, "hidden_size"),
        (QWEN_MOE | {"mlp_only_layers": [0]}, BadInput, "mixes dense"),
    ],
)
def test_a_config_without_a_shape_is_refused_by_what_is_wrong(config, error, said):
    with pytest.raises(error, match=said):
        shape_from_config(config)


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("config.json", "", BadInput),
        ("config.json", "[]", BadData),
        ("config.json", " " * (2**20 + 1), BadData),
        ("model.gguf", "GGUF", BadInput),
        ("../config.json", None, OutsideWorkspace),
        ("./absent", None, NotFound),
        ("no/such-model", None, UnknownName),
        ("someone/Llama-3.1-8B", None, UnknownName),
    ],
)
def test_a_model_argument_without_a_shape_is_refused(workspace, name, content, error):
    if content is not None:
        (workspace / name).write_text(content)
    with pytest.raises(error):
        shape_of(name)
