"""Whether the models of an evaluation are computed by MLX, and what MLX cannot compute here."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ft_tools.errors import BadInput, MissingExtra
from ft_tools.evaluation.request import EvaluateRequest
from ft_tools.models.mlx import is_apple_silicon, is_installed, model_types
from ft_tools.models.resolve import ModelSource

MLX = "mlx"
# Settings of an adapter that change more than the linear layers' A and B.
NOT_PLAIN = (
    *("modules_to_save", "target_parameters", "trainable_token_indices", "layer_replication"),
    *("lora_bias", "alora_invocation_tokens"),
)


def choose(request: EvaluateRequest, sources: Iterable[ModelSource]) -> tuple[bool, str]:
    """Decide whether MLX computes the models of an evaluation.

    Returns:
        Whether it does; and where a Mac's GPU stays idle, why.

    Raises:
        BadInput: MLX was asked for and cannot compute one of them.
        MissingExtra: MLX was asked for and is not installed.
    """
    asked = request.device == MLX
    if not asked and not (request.device == "auto" and is_apple_silicon()):
        return False, ""
    loaded = [source for source in sources if source.kind != "gguf"]
    problem = _problem(request, loaded)
    if not asked:
        if loaded and not is_installed():
            problem = str(MissingExtra("mlx", "mlx_lm"))
        return bool(loaded) and not problem, problem if loaded else ""
    if not is_installed():
        raise MissingExtra("mlx", "mlx_lm")
    if not loaded:
        problem = "no model of this evaluation is loaded by transformers or MLX"
    if problem:
        raise BadInput(f'device="mlx" cannot be used: {problem}; use device="cpu" instead')
    return True, ""


def _problem(request: EvaluateRequest, sources: Sequence[ModelSource]) -> str:
    """Say why MLX cannot compute these; empty if it can."""
    if request.lm_eval_tasks:
        return "lm_eval_tasks run with torch only"
    return next((said for source in sources if (said := _against(source))), "")


def _against(source: ModelSource) -> str:
    config = _read(source.path, "config.json")
    if config is None:
        return f"the files of {source.name} are not on this machine yet"
    kind = config.get("model_type")
    if kind not in model_types():
        return f"mlx-lm has no model type {kind!r}"
    if "text_config" in config:
        return f"{source.name} takes more than text"
    if "quantization_config" in config:
        return f"the weights of {source.name} are quantized already"
    adapter = _read(source.adapter, "adapter_config.json") or {}
    if adapter.get("peft_type", "LORA") != "LORA":
        return f"an adapter of type {adapter['peft_type']} is not supported, only LORA"
    if str(adapter.get("bias", "none")) != "none":
        return "an adapter with bias is not supported"
    name = next((name for name in NOT_PLAIN if adapter.get(name)), "")
    return f"an adapter with {name} is not supported" if name else ""


def _read(folder: str | None, name: str) -> Mapping[str, Any] | None:
    file = Path(folder or "") / name
    if folder is None or not file.is_file():
        return None
    found = json.loads(file.read_bytes())
    return found if isinstance(found, dict) else None
