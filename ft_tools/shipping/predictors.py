"""Layers of a checkpoint that predict further tokens, which training does not load."""

import json
import re
from pathlib import Path

from ft_tools.models import tensors

# Families whose published checkpoints have them, whatever their config.json says.
# Source: llama.cpp, conversion/qwen.py
WITH_PREDICTORS = ("qwen3_5", "qwen3_next")


def lacks_predictors(folder: Path) -> bool:
    """Say whether a model's folder has not the layers for further tokens that its family has.

    transformers leaves them out, so a model that it saved has none; llama.cpp's converter looks for
    them unless it is told.
    """
    config = json.loads((folder / "config.json").read_bytes())
    text = config.get("text_config") or config
    counts = [value for key, value in text.items() if "mtp_num" in key or "nextn" in key]
    if not any(counts) and not str(text.get("model_type", "")).startswith(WITH_PREDICTORS):
        return False
    last = int(text.get("num_hidden_layers") or 0)
    further = re.compile(rf"(.*\.)?(layers\.{last}|mtp)\..*")
    return not any(further.fullmatch(name) for name in tensors.survey(folder))
