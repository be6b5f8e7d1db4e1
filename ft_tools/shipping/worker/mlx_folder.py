"""A merged model quantized for MLX: a folder for mlx-lm and LM Studio, and what it answers.

Source: mlx-lm 0.32.2, utils.py: `quantize_model` packs every linear layer and the embedding, the
head included; `save` writes `quantization` into config.json.
"""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from mlx_lm.generate import generate_step
from mlx_lm.utils import load_model, quantize_model, save_config, save_model

from ft_tools.models.mlx import GROUP_SIZE
from ft_tools.shipping.quality import answered
from ft_tools.shipping.worker import merging


def write(merged: Path, into: Path, bits: int) -> None:
    """Quantize a merged model into a folder that exists, from its own precision."""
    model, config = load_model(merged, lazy=True)
    model, config = quantize_model(model, config, GROUP_SIZE, bits)
    save_model(into, model, donate_model=True)
    save_config(config, into / "config.json")
    merging.copy_small_files(merged, None, into)
    mx.clear_cache()


def opened(folder: Path) -> Any:
    """Load a quantized folder to measure it.

    Without Metal, scales in float32 give the same numbers ten times as fast as 16-bit ones.
    """
    model, _ = load_model(folder)
    if not mx.metal.is_available():
        model.set_dtype(mx.float32)
    return model.eval()


def logits(model: Any, ids: Sequence[int]) -> np.ndarray[Any, Any]:
    """Return the logits of a text, (tokens, vocabulary), in float32."""
    found = model(mx.array([list(ids)]))[0].astype(mx.float32)
    return np.array(found)


def greedy(
    model: Any, prompts: Sequence[list[int]], ends: Collection[int], num_tokens: int
) -> tuple[list[list[int]], float]:
    """Continue each prompt greedily, up to one of `ends`."""

    def answer(ids: list[int]) -> list[int]:
        made: list[int] = []
        for token, _ in generate_step(mx.array(ids), model, max_tokens=num_tokens):
            made.append(int(token))
            if made[-1] in ends:
                break
        return made

    return answered(prompts, answer)
