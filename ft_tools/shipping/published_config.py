"""config.json as published files write it, where transformers saves it otherwise.

transformers reads both. Other programs read what is published, and some take their own default for
what they do not find, which loads a wrong model in silence.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ft_tools.models import model_folder, safetensors_headers
from ft_tools.models.rotary import older_spelling

Config = dict[str, Any]

# Keys that llama.cpp's converter requires of a text model, and that transformers leaves out: it
# rotates the whole head in Cohere 2, and has one way to score the experts of MiniMax M2.
# Source: llama.cpp, conversion/gemma.py, Gemma4Model; conversion/command_r.py, Cohere2Model;
# conversion/base.py, `scoring_func`, without which its MiniMax M2 aborts
UNSAID: dict[str, Config] = {
    "gemma4_unified_text": {"moe_intermediate_size": None},
    "cohere2": {"rotary_pct": 1.0},
    "minimax_m2": {"scoring_func": "sigmoid"},
}
# Kinds of layers: saved name -> published name.
# Source: llama.cpp, conversion/granite.py, get_attn_layers
LAYER_KINDS = {"granitemoehybrid": {"linear_attention": "mamba", "full_attention": "attention"}}
# Families whose published checkpoints have layers for multi-token prediction, whatever their
# config.json says. Source: llama.cpp, conversion/qwen.py
WITH_PREDICTORS = ("qwen3_5", "qwen3_next")


def as_published(config: Mapping[str, Any]) -> Config:
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


def lacks_predictors(folder: Path) -> bool:
    """Return whether a model folder lacks the multi-token prediction layers of its family.

    transformers drops them, so a model that it saved has none; llama.cpp's converter requires them
    unless it gets `--no-mtp`.
    """
    config = model_folder.config(folder)
    text = config.get("text_config") or config
    counts = [value for key, value in text.items() if "mtp_num" in key or "nextn" in key]
    if not any(counts) and not str(text.get("model_type", "")).startswith(WITH_PREDICTORS):
        return False
    last = int(text.get("num_hidden_layers") or 0)
    further = re.compile(rf"(.*\.)?(layers\.{last}|mtp)\..*")
    return not any(further.fullmatch(name) for name in safetensors_headers.survey(folder))
