"""A shipped config.json has the keys and names of the published files; no torch."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from ft_tools.shipping.published_config import as_published, lacks_predictors


def test_a_minimax_m2_says_how_its_experts_are_scored():
    # Without it llama.cpp aborts when it builds the graph.
    assert as_published({"model_type": "minimax_m2"})["scoring_func"] == "sigmoid"
    kept = as_published({"model_type": "minimax_m2", "scoring_func": "softmax"})
    assert kept["scoring_func"] == "softmax"


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
