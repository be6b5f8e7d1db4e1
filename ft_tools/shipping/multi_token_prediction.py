"""Layers of a checkpoint for multi-token prediction, which transformers does not load."""

import re
from pathlib import Path

from ft_tools.models import model_folder, safetensors_headers

# Families whose published checkpoints have them, whatever their config.json says.
# Source: llama.cpp, conversion/qwen.py
WITH_PREDICTORS = ("qwen3_5", "qwen3_next")


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
