"""Whether the models of an evaluation are computed by MLX, and what MLX cannot compute here."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from ft_tools.errors import BadInput, MissingExtra, brief
from ft_tools.evaluation.request import EvaluateRequest
from ft_tools.models import model_folder
from ft_tools.models.mlx import NOT_PLAIN, is_apple_silicon, is_installed, model_types
from ft_tools.models.resolve import ModelSource

MLX = "mlx"
# Further arguments of an adapter that MLX does not compute.
NOT_COMPUTED = ("lora_bias", "alora_invocation_tokens")


def choose(request: EvaluateRequest, sources: Iterable[ModelSource]) -> tuple[bool, str]:
    """Decide whether MLX computes the models of an evaluation.

    Returns:
        Whether it does; and where a Mac's GPU stays idle, why.

    Raises:
        BadInput: MLX was asked for and cannot compute one of them.
        MissingExtra: MLX was asked for and is not installed.
    """
    asked = request.device == MLX
    loaded = [source for source in sources if source.kind != "gguf"]
    if not asked and not (loaded and request.device == "auto" and is_apple_silicon()):
        return False, ""
    missing = None if is_installed() else MissingExtra("mlx", "mlx_lm")
    problem = str(missing) if missing else _problem(request, loaded)
    if not asked:
        return not problem, problem
    if missing:
        raise missing
    if problem:
        raise BadInput(f'device="mlx" cannot be used: {problem}; use device="auto" instead')
    return True, ""


def _problem(request: EvaluateRequest, sources: Sequence[ModelSource]) -> str:
    """Return why MLX cannot compute these; empty if it can."""
    if not sources:
        return "no model of this evaluation is loaded by transformers or MLX"
    if request.lm_eval_tasks:
        return "lm_eval_tasks run with torch only"
    return next((why for source in sources if (why := _against(source))), "")


def _against(source: ModelSource) -> str:
    if source.path is None:
        return f"the files of {source.name} are not on this machine yet"
    config = model_folder.config(Path(source.path))
    kind = config.get("model_type")
    if kind not in model_types():
        return f"mlx-lm has no model type {brief(repr(kind))}"
    if "text_config" in config:
        return f"{source.name} takes more than text"
    if "quantization_config" in config:
        return f"the weights of {source.name} are quantized already"
    adapter = model_folder.adapter_config(Path(source.adapter)) if source.adapter else {}
    if adapter.get("peft_type", "LORA") != "LORA":
        return f"an adapter of type {brief(adapter['peft_type'])} is not supported, only LORA"
    if str(adapter.get("bias", "none")) != "none":
        return "an adapter with bias is not supported"
    name = next((name for name in (*NOT_PLAIN, *NOT_COMPUTED) if adapter.get(name)), "")
    return f"an adapter with {name} is not supported" if name else ""
