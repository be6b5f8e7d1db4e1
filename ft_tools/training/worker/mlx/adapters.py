"""Write an adapter in mlx-lm's layout, for `mlx_lm.generate` and LM Studio.

Source: mlx-lm 0.32.2, tuner/utils.py and tuner/lora.py: `lora_a` is (d_in, rank), `lora_b` is
(rank, d_out); one rank and one scale for the whole model.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import mlx.core as mx

from ft_tools.models.worker.mlx.model import Factors

WEIGHTS = "adapters.safetensors"
CONFIG = "adapter_config.json"
IN_BLOCK = re.compile(r"(?:^|\.)layers\.\d+\.(.+)$")


def write(folder: Path, factors: Mapping[str, Factors], num_layers: int) -> None:
    """Write the adapter into a folder that exists.

    Scales are folded into B, and smaller ranks are padded with zeros: the product stays the same.

    Args:
        folder: Takes `adapters.safetensors` and `adapter_config.json`.
        factors: By the layer's path in mlx-lm's model.
        num_layers: Blocks of the model.
    """
    rank = max(one.a.shape[0] for one in factors.values())
    is_dora = any(one.magnitude is not None for one in factors.values())
    tensors: dict[str, mx.array] = {}
    for path, one in factors.items():
        missing = rank - one.a.shape[0]
        tensors[f"{path}.lora_a"] = mx.pad(one.a.T, [(0, 0), (0, missing)])
        tensors[f"{path}.lora_b"] = mx.pad(one.scale * one.b.T, [(0, missing), (0, 0)])
        if one.magnitude is not None:
            tensors[f"{path}.m"] = one.magnitude
    mx.save_safetensors(str(folder / WEIGHTS), tensors)
    names = {found.group(1) for path in factors if (found := IN_BLOCK.search(path))}
    config = {
        "fine_tune_type": "dora" if is_dora else "lora",
        "num_layers": num_layers,
        "lora_parameters": {"rank": rank, "scale": 1.0, "dropout": 0.0, "keys": sorted(names)},
    }
    (folder / CONFIG).write_text(json.dumps(config, indent=1, sort_keys=True), encoding="utf-8")
