"""Families whose activations or gradients leave float16's range, up to 65504.

No key of config.json says so: a family is here because somebody measured it.
"""

from collections.abc import Mapping
from typing import Any

# Source: https://github.com/unslothai/unsloth-zoo (FORCE_FLOAT32, and the loader's fallback list);
# https://github.com/huggingface/transformers/issues/36822 (Gemma 3).
OVERFLOWING = {
    "gemma3",
    "gemma3_text",
    "gemma3n",
    "gemma3n_text",
    "gemma4",
    "gemma4_text",
    "glm4_moe",
    "glm4_moe_lite",
    "gpt_oss",
    "qwen3_5",
    "qwen3_5_moe",
    "qwen3_5_moe_text",
    "qwen3_5_text",
    "qwen3_moe",
}


def overflows_float16(config: Mapping[str, Any]) -> bool:
    """Return whether a model of this config.json is known to overflow in float16."""
    inner = config.get("text_config")
    types = [one.get("model_type") for one in (config, inner) if isinstance(one, Mapping)]
    # What a damaged file holds instead is refused by whoever loads it.
    return any(kind in OVERFLOWING for kind in types if isinstance(kind, str))
