"""config.json as published files write it, where transformers saves it otherwise.

transformers reads both. Other programs read what is published, and some take their own default for
what they do not find, which loads a wrong model in silence.
"""

from collections.abc import Mapping
from typing import Any

from ft_tools.models.rotary import older_spelling

# Keys that llama.cpp's converter requires of a text model, and that transformers leaves out: it
# rotates the whole head in Cohere 2.
# Source: llama.cpp, conversion/gemma.py, Gemma4Model; conversion/command_r.py, Cohere2Model
UNSAID: dict[str, dict[str, float | None]] = {
    "gemma4_unified_text": {"moe_intermediate_size": None},
    "cohere2": {"rotary_pct": 1.0},
}
# Kinds of layers: saved name -> published name.
# Source: llama.cpp, conversion/granite.py, get_attn_layers
LAYER_KINDS = {"granitemoehybrid": {"linear_attention": "mamba", "full_attention": "attention"}}


def as_published(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config.json, or the part of a text model, with what other programs read.

    What is said already stays. `auto_map` goes: it names code that others would be asked to run.

    >>> rope = {"rope_theta": 1e6, "rope_type": "default"}
    >>> as_published({"auto_map": {}, "rope_parameters": rope})["rope_theta"]
    1000000.0
    """
    kind = str(config.get("model_type"))
    done = {key: value for key, value in config.items() if key != "auto_map"}
    if isinstance(text := done.get("text_config"), Mapping):
        done["text_config"] = as_published(text)
    if isinstance(rope := done.get("rope_parameters"), Mapping):
        done = older_spelling(rope) | done
    names = LAYER_KINDS.get(kind, {})
    if names and isinstance(layers := done.get("layer_types"), list):
        done["layer_types"] = [names.get(one, one) for one in layers]
    return UNSAID.get(kind, {}) | done
