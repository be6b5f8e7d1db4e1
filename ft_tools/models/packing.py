"""Whether examples that are packed into one row see one another, by family."""

import importlib.util
from collections.abc import Mapping
from typing import Any

from ft_tools.models.shape import ModelShape

# Families without a formula row whose packed logits equal those of each example alone. Checked with
# two sequences in one row, told apart by position_ids, on transformers 5.24.
# Source: https://github.com/huggingface/transformers/tree/v5.24.0/src/transformers/models
KEPT_APART = {"gemma4_text", "llama4_text", "ministral3", "qwen3_vl_text"}
# Those that mix them silently: linear attention, state space and convolutions without their
# kernels carry their state on, and eager masks are made without position_ids.
MIXED = {
    "deepseek_v4",
    "falcon_h1",
    "gpt_oss",
    "granitemoehybrid",
    "kimi_linear",
    "lfm2",
    "lfm2_moe",
    "lfm3",
    "nemotron_h",
    "qwen3_5_moe_text",
    "qwen3_5_text",
    "qwen3_next",
}


def mixes_packed(config: Mapping[str, Any]) -> bool:
    """Return whether a model of this config.json mixes packed examples without kernels."""
    inner = config.get("text_config")
    types = {
        config.get("model_type"),
        *([inner.get("model_type")] if isinstance(inner, dict) else []),
    }
    return bool(types & MIXED)


# Classes that refuse flash attention, or heads of more than 256 dimensions, which it has no kernel
# for. Source: `_supports_flash_attn` of the classes of transformers 5.24.
NO_FLASH = {"gemma4_text", "llama4_text"}
MOST_HEAD_DIM = 256
FLASH = "flash_attention_2"
FLASH_CAPABILITY = 8.0
FLASH_PACKAGES = ("flash_attn", "kernels")
"""One of which is enough. Source: https://github.com/Dao-AILab/flash-attention, README."""


def flash_packages() -> list[str]:
    """Return the installed packages that attend to packed rows without a mask of all positions."""
    return [name for name in FLASH_PACKAGES if importlib.util.find_spec(name) is not None]


def takes_flash(shape: ModelShape) -> bool:
    """Return whether a model's class is known to compute with flash attention.

    Composites with a row are no text models alone: Gemma 3's attends both ways between the tokens
    of an image, which flash attention has no mask for.
    """
    is_text = shape.is_described or shape.text_path == "model"
    return is_text and shape.model_type not in NO_FLASH and shape.head_dim <= MOST_HEAD_DIM


def may_be_packed(shape: ModelShape) -> bool:
    """Return whether packed examples are known not to see one another.

    True for families with a row, which attend through masks made of position_ids alone; for others
    only where it was checked.
    """
    return not shape.is_described or shape.model_type in KEPT_APART
