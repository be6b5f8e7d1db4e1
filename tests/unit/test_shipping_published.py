"""A shipped config.json has the keys and names of the published files; no torch."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from ft_tools import facts
from ft_tools.shipping import converter_script
from ft_tools.shipping.published_config import (
    as_published,
    for_converter,
    lacks_predictors,
)

DENSE = {
    "model_type": "nemotron_h",
    "layers_block_type": ["linear_attention", "mlp", "full_attention", "mlp"],
    "num_experts_per_tok": 2,
    "n_routed_experts": 8,
    "n_group": 1,
    "moe_intermediate_size": 7688,
    "head_dim": 16,
}


def test_a_minimax_m2_says_how_its_experts_are_scored():
    # Without it llama.cpp aborts when it builds the graph.
    assert as_published({"model_type": "minimax_m2"})["scoring_func"] == "sigmoid"
    kept = as_published({"model_type": "minimax_m2", "scoring_func": "softmax"})
    assert kept["scoring_func"] == "softmax"


def test_a_dense_nemotron_is_converted_without_experts():
    found = for_converter(DENSE)
    assert found == {
        "model_type": "nemotron_h_dense",
        "layers_block_type": DENSE["layers_block_type"],
        "hybrid_override_pattern": "M-*-",
        "head_dim": 16,
    }
    # What is shipped stays what transformers loads.
    assert as_published(DENSE) == DENSE


def test_a_text_models_part_of_a_config_is_published_as_a_whole_one_is():
    text = {"model_type": "cohere2", "auto_map": {"AutoModel": "evil.Model"}, "rotary_pct": 0.5}
    text["rope_parameters"] = {"rope_type": "default", "rope_theta": 777.0}
    published = as_published(text)
    assert "auto_map" not in published
    assert (published["rope_theta"], published["rotary_pct"]) == (777.0, 0.5)
    whole = as_published({"model_type": "seeing", "auto_map": {}, "text_config": text})
    assert whole == {"model_type": "seeing", "text_config": published}


QWEN = {"model_type": "qwen3_5_text", "num_hidden_layers": 2}
GLM = {"model_type": "glm4_moe", "num_hidden_layers": 2, "num_nextn_predict_layers": 1}


@pytest.mark.parametrize(
    ("config", "further", "lacks"),
    [
        (QWEN, None, True),
        (QWEN, "mtp.fc.weight", False),
        ({"model_type": "qwen3_5", "text_config": QWEN}, None, True),
        (GLM, None, True),
        (GLM, "model.layers.2.eh_proj.weight", False),
        (GLM | {"num_nextn_predict_layers": 0}, None, False),
        ({"model_type": "llama", "num_hidden_layers": 2}, None, False),
    ],
)
def test_layers_for_further_tokens_are_missed_where_the_family_has_them(
    tmp_path, config, further, lacks
):
    (tmp_path / "config.json").write_text(json.dumps(config))
    names = ["model.layers.1.mlp.up_proj.weight", *filter(None, [further])]
    save_file({name: np.zeros(1, np.float32) for name in names}, tmp_path / "model.safetensors")
    assert lacks_predictors(tmp_path) == lacks


@pytest.mark.parametrize("kind", ["mllama", "lfm3", "kimi_k25", "deepseek_v4"])
def test_a_family_that_the_converter_does_not_carry_is_known_before_it_is_fetched(
    workspace, monkeypatch, kind
):
    monkeypatch.delenv(converter_script.VARIABLE, raising=False)
    tried = facts.not_converted()[kind].llama_cpp_python
    monkeypatch.setattr("importlib.metadata.version", lambda _: tried)
    monkeypatch.setenv("FINE_TUNING_LLM_CACHE", str(workspace / "empty"))
    assert converter_script.why_not({"model_type": kind})
    assert converter_script.why_not({"model_type": "llama"}) == ""
    # Another version may carry it.
    monkeypatch.setattr("importlib.metadata.version", lambda _: "9.9")
    assert converter_script.why_not({"model_type": kind}) == ""
