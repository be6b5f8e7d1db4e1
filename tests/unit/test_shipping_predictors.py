"""A converter is told that the layers for further tokens are not there."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from ft_tools.shipping.multi_token_prediction import lacks_predictors

LAYER = "model.layers.1.mlp.up_proj.weight"
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
    names = [LAYER, *filter(None, [further])]
    save_file({name: np.zeros(1, np.float32) for name in names}, tmp_path / "model.safetensors")
    assert lacks_predictors(tmp_path) == lacks
