"""Read a model folder with mlx-lm, and make sure that it is the model that torch reads."""

from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig

from ft_tools.errors import Refused
from ft_tools.models.rotary import older_spelling
from ft_tools.models.worker.loading import NO_HUB_KERNELS
from ft_tools.models.worker.mlx.model import TORCH_INSTEAD, MlxModel

CHECKED_TOKENS = 64
CHECKED_LAYERS = 4
"""Blocks that are compared with torch's before the first step: what differs, differs in each."""
MOST_DIFFERENCE = 2e-3
"""Of logits in float32, relative to their largest: rounding alone gives 1e-5."""


def open_model(folder: Path, dtype: str, bits: int | None = None) -> MlxModel:
    """Load a model in MLX.

    Raises:
        Missing: mlx-lm cannot build this architecture.
        Refused: MLX computes another model than torch.
    """
    require_same_model(folder)
    return MlxModel(folder, dtype, bits, rope_overrides(AutoConfig.from_pretrained(folder)))


def rope_overrides(config: PretrainedConfig) -> dict[str, Any]:
    """Return the rotary base in the spelling of before transformers 5, which mlx-lm reads.

    Of a config.json with the new spelling alone, most of its models take a default instead.
    """
    return older_spelling(getattr(config.get_text_config(), "rope_parameters", None) or {})


def require_same_model(folder: Path) -> None:
    """Refuse a model that MLX reads otherwise than transformers, by the logits of its first blocks.

    Raises:
        Refused: The logits differ.
    """
    config = AutoConfig.from_pretrained(folder)
    text = config.get_text_config()
    kinds = list(getattr(text, "layer_types", None) or [])
    # At least one block of each kind.
    least = max((kinds.index(kind) + 1 for kind in kinds), default=0)
    layers = min(max(CHECKED_LAYERS, least), text.num_hidden_layers)
    text.num_hidden_layers = layers
    if kinds:
        text.layer_types = kinds[:layers]
    numbers = np.random.default_rng(0)
    ids = numbers.integers(0, text.vocab_size, (1, CHECKED_TOKENS))
    model = AutoModelForCausalLM.from_pretrained(
        folder, config=config, dtype=torch.float32, **NO_HUB_KERNELS
    )
    with torch.inference_mode():
        wanted = model.eval()(input_ids=torch.from_numpy(ids)).logits.float().numpy()
    del model
    theirs = _first_blocks(folder, config, layers)
    found = np.array(theirs.logits(mx.array(ids)))
    difference = float(np.abs(found - wanted).max() / max(1e-6, np.abs(wanted).max()))
    if not difference < MOST_DIFFERENCE:
        raise Refused(
            f"MLX computes other logits than torch for the model in {folder}: they differ by "
            f"{difference:.2g} of their largest, {MOST_DIFFERENCE:g} is allowed; {TORCH_INSTEAD}"
        )


def _first_blocks(folder: Path, config: PretrainedConfig, layers: int) -> MlxModel:
    overrides = rope_overrides(config) | {"num_hidden_layers": layers}
    kinds = getattr(config.get_text_config(), "layer_types", None)
    overrides |= {"layer_types": kinds} if kinds else {}
    return MlxModel(folder, "float32", config=overrides, strict=False)
