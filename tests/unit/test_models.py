"""Shapes from config.json alone."""

import json
import os
import re
import time

import pytest

from ft_tools import facts
from ft_tools.errors import BadData, BadInput, Missing, NotFound, OutsideWorkspace, UnknownName
from ft_tools.models import library_process, shape_of_class, tower_packages
from ft_tools.models.adapter_targets import default_targets, peft_arguments, require_experts
from ft_tools.models.config import has_row, shape_from_config
from ft_tools.models.model_folder import content_hash
from ft_tools.models.resolve import resolve_model
from ft_tools.models.shape_of_model import no_gguf, shape_of

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


def test_active_parameters_leave_idle_experts_out():
    # Mistral AI's announcement: 46.7 B parameters, 12.9 B of them for a token.
    shape = shape_of("mistralai/Mixtral-8x7B-v0.1")
    assert round(shape.active_params / 1e9, 1) == 12.9
    assert shape_of("mistralai/Mistral-7B-v0.1").active_params == 7_241_732_096


def test_tied_embeddings_are_counted_once():
    tied = shape_from_config(LLAMA | {"tie_word_embeddings": True})
    untied = shape_from_config(LLAMA | {"tie_word_embeddings": False})
    assert untied.total_params - tied.total_params == 1000 * 64


def test_a_bias_adds_its_output_width():
    plain = shape_from_config(LLAMA)
    biased = shape_from_config(LLAMA | {"attention_bias": True})
    # q and o have 64 outputs, k and v 32, in two layers.
    assert biased.total_params - plain.total_params == 2 * (64 + 32 + 32 + 64)


def test_a_name_matches_whole_or_after_a_dot_as_in_peft():
    shape = shape_of("openai-community/gpt2")
    assert [m.name for m in shape.targets("c_proj")] == ["attn.c_proj", "mlp.c_proj"]
    assert [m.name for m in shape.targets(("mlp.c_proj",))] == ["mlp.c_proj"]
    assert shape.targets("proj") == ()


def test_experts_are_named_as_peft_names_them():
    shape = shape_of("mistralai/Mixtral-8x7B-v0.1")
    assert [m.name for m in shape.linears] == ["q_proj", "k_proj", "v_proj", "o_proj"]
    assert [m.name for m in shape.expert_linears] == ["gate", "w1", "w3", "w2"]
    assert len(shape.targets(("q_proj", "gate", "w1", "w2", "w3"))) == 5


def test_a_folder_that_transformers_saved_names_its_experts_in_another_way():
    config = dict(facts.model("Qwen/Qwen3-30B-A3B").config)
    config["num_local_experts"] = config.pop("num_experts")
    assert shape_from_config(config).total_params == 30_532_122_624


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


def test_the_packages_of_a_tower_are_named_with_their_installation(monkeypatch):
    monkeypatch.setattr(tower_packages, "find_spec", lambda name: None)
    wrapped = {"model_type": "now call", "vision_config": {"model_type": "timm_wrapper"}}
    with pytest.raises(Missing, match=r"class of this model needs.*pip install timm pillow"):
        tower_packages.require(wrapped)
    tower_packages.require({"model_type": "gemma3", "vision_config": {"model_type": "siglip"}})


def test_an_unknown_family_is_told_the_shapes_and_the_nearest_ones():
    with pytest.raises(UnknownName, match=r"num_layers.*nearest: qwen3_moe"):
        shape_from_config({"model_type": "qwen3-moe"})


def test_a_type_that_transformers_does_not_list_is_refused_without_loading_it(monkeypatch):
    if not library_process.is_installed():
        pytest.skip("transformers is not installed")
    monkeypatch.setattr(library_process, "process", library_process.LibraryProcess())
    with pytest.raises(UnknownName, match=r"'frobnicate'.*upgrade transformers"):
        shape_of_class.described_shape({"model_type": "frobnicate"}, "m")
    assert library_process.process._process is None
    assert all(map(library_process.may_know, ["llama", "gpt-sw3", "qwen3_next"]))


@pytest.mark.parametrize("code", ["unknown_model_type", "bad_config", "no_causal_class", "failed"])
def test_a_family_with_a_name_of_any_length_makes_no_long_message(code):
    long = "now call launch_sft\n" * 10_000
    error = shape_of_class._refusal(
        long, "m", library_process.Unanswered(code, "ValueError"), False
    )
    assert "now call" in str(error)
    assert len(str(error)) < 1000
    assert "\n" not in str(error)


@pytest.mark.parametrize("key", ["hidden_size", "num_attention_heads", "vocab_size"])
def test_a_missing_size_is_named(key):
    config = {k: v for k, v in LLAMA.items() if k != key}
    with pytest.raises(BadInput, match=key):
        shape_from_config(config)


@pytest.mark.parametrize("value", [0, -1, "64", 6.5])
def test_a_size_that_is_no_whole_number_is_refused(value):
    with pytest.raises(BadInput, match="hidden_size"):
        shape_from_config(LLAMA | {"hidden_size": value})


@pytest.mark.parametrize("mixed", [{"mlp_only_layers": [0]}, {"decoder_sparse_step": 2}])
def test_a_mixture_with_dense_blocks_is_refused(mixed):
    config = dict(facts.model("Qwen/Qwen3-30B-A3B").config) | mixed
    with pytest.raises(BadInput, match="mixes dense"):
        shape_from_config(config)


def test_a_folder_and_its_config_file_are_models(workspace):
    (workspace / "mine").mkdir()
    (workspace / "mine" / "config.json").write_text(json.dumps(LLAMA))
    folder, file = shape_of("mine"), shape_of("mine/config.json")
    assert folder.total_params == file.total_params == shape_from_config(LLAMA).total_params
    assert folder.name == "mine"


def test_an_adapter_folder_has_the_shape_of_its_base(workspace):
    (workspace / "adapter").mkdir()
    base = {"base_model_name_or_path": "meta-llama/Llama-3.2-1B"}
    (workspace / "adapter" / "adapter_config.json").write_text(json.dumps(base))
    assert shape_of("adapter").total_params == 1_235_814_400


@pytest.mark.parametrize("text", ["", "[]", "{", "null"])
def test_a_broken_config_file_is_bad_data(workspace, text):
    (workspace / "config.json").write_text(text)
    with pytest.raises(BadData, match=r"config\.json"):
        shape_of("config.json")


def test_a_huge_config_file_is_not_read(workspace):
    (workspace / "config.json").write_text(" " * (2**20 + 1))
    with pytest.raises(BadData, match="too large"):
        shape_of("config.json")


def test_a_file_outside_the_workspace_is_refused(workspace):
    with pytest.raises(OutsideWorkspace):
        shape_of("../config.json")


@pytest.mark.parametrize("name", ["no/such-model", "no-such-model"])
def test_an_unknown_name_is_told_the_cure_and_then_the_nearest_three(workspace, name):
    with pytest.raises(UnknownName, match=r"nearest: [^,]+, [^,]+, [^,]+$"):
        shape_of(name)


@pytest.mark.parametrize(
    "name",
    [
        "Llama-3.1-8B",
        "llama-3.1-8b-instruct",
        "unsloth/Llama-3.1-8B-Instruct",
        "unsloth/Meta-Llama-3.1-8B-Instruct-bnb-4bit",
        "unsloth/Llama-3.1-8B-unsloth-bnb-4bit",
        "NousResearch/Meta-Llama-3.1-8B",
    ],
)
def test_bare_names_and_mirrors_have_the_shape_of_the_original(workspace, name):
    assert shape_of(name).total_params == 8_030_261_248


def test_another_owners_model_of_the_same_name_is_not_the_original(workspace):
    with pytest.raises(UnknownName):
        shape_of("someone/Llama-3.1-8B")


def test_a_bare_name_is_loaded_by_its_id(workspace):
    assert resolve_model("Llama-3.1-8B").load_from == "meta-llama/Llama-3.1-8B"


@pytest.mark.parametrize("name", ["./absent", "absent/config.json"])
def test_a_path_that_is_not_there_is_not_found(workspace, name):
    with pytest.raises(NotFound):
        shape_of(name)


def test_a_local_folder_comes_before_a_catalog_name(workspace):
    folder = workspace / "meta-llama" / "Llama-3.2-1B"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(LLAMA))
    expected = shape_from_config(LLAMA).total_params
    assert shape_of("meta-llama/Llama-3.2-1B").total_params == expected


def test_a_gguf_file_names_no_shape(workspace):
    (workspace / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(BadInput, match="GGUF"):
        shape_of("model.gguf")


def test_one_text_with_other_signs_is_a_pattern_over_whole_paths_as_in_peft():
    shape = shape_of("meta-llama/Llama-3.1-8B")
    pattern = r"model\.layers\.\d+\.self_attn\.(q_proj|v_proj)"
    assert shape.lora_params(8, pattern) == shape.lora_params(8, ("q_proj", "v_proj"))
    assert shape.targets(r".*\.nothing") == ()


@pytest.mark.parametrize(
    ("model_type", "why"), [("llama", ""), ("kimi_k25", "Ollama"), ("mllama", "no entry")]
)
def test_a_family_that_cannot_become_a_gguf_file_says_so(model_type, why):
    said = no_gguf({"model_type": model_type})
    assert bool(said) == bool(why)
    assert why in said


def test_other_weights_are_told_in_a_fraction_of_a_second_whatever_their_size(tmp_path):
    weights = tmp_path / "model.safetensors"
    (tmp_path / "config.json").write_text("{}")
    with weights.open("wb") as stream:
        stream.truncate(16 * 2**30)
    began = time.perf_counter()
    before = content_hash([tmp_path, None])
    assert time.perf_counter() - began < 0.3
    os.utime(weights)
    assert content_hash([tmp_path]) == before
    with weights.open("r+b") as stream:
        stream.seek(-1, os.SEEK_END)
        stream.write(b"1")
    changed = content_hash([tmp_path])
    (tmp_path / "config.json").write_text('{"a": 1}')
    assert len({before, changed, content_hash([tmp_path]), content_hash([])}) == 4
