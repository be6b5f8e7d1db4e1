"""Which engine trains: torch, or MLX on Apple silicon; and what MLX cannot do here."""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ft_tools import facts
from ft_tools.errors import MissingExtra, UnknownName, brief
from ft_tools.models import model_folder
from ft_tools.models.mlx import (
    GROUP_SIZE,
    NOT_PLAIN,
    is_apple_silicon,
    is_installed,
    model_types,
)
from ft_tools.models.quantized import prequantized
from ft_tools.models.resolve import ModelSource
from ft_tools.training.findings import message_and_cure, refusal, warning
from ft_tools.training.request import TrainingRequest
from ft_tools.training.training_plan import Engine

BITS = 4
QUANTIZATION = {"bits": BITS, "group_size": GROUP_SIZE, "mode": "affine"}
"""Of mlx.nn.quantize, for qlora."""
STARTS = ("true", "gaussian", "none")
"""Starts of an adapter that need no weight of the base."""


def require_machine(request: TrainingRequest) -> None:
    """Refuse what a Mac has to train itself, before anything else is asked of the caller."""
    gpu = request.backend_options.get("gpu")
    is_mac = False
    with contextlib.suppress(UnknownName):
        is_mac = isinstance(gpu, str) and facts.gpu(gpu).is_apple
    if is_mac:
        raise refusal("mac_elsewhere", gpu=gpu)
    if request.engine == "mlx" and not request.is_here:
        raise refusal("mlx_elsewhere")
    if request.engine == "mlx" and not is_apple_silicon() and not is_installed():
        raise refusal("mlx_not_here")


def choose(
    request: TrainingRequest, source: ModelSource, peft: Mapping[str, Any], training: dict[str, Any]
) -> tuple[Engine, list[str]]:
    """Return the engine of a run, and warnings."""
    on_mac = is_apple_silicon() and request.is_here
    if request.engine == "torch" or (request.engine == "auto" and not on_mac):
        return "torch", []
    problem = _against_mlx(request, source, peft, training)
    if request.engine == "mlx":
        if not is_installed():
            raise MissingExtra("mlx", "mlx_lm")
        if problem:
            raise refusal("mlx_cannot", problem=problem)
    if not is_installed():
        problem = str(MissingExtra("mlx", "mlx_lm"))
    if problem:
        return "torch", [warning("not_mlx", problem=problem)]
    return "mlx", [] if is_apple_silicon() else [warning("mlx_on_cpu")]


def _against_mlx(
    request: TrainingRequest, source: ModelSource, peft: Mapping[str, Any], training: dict[str, Any]
) -> str:
    """Return why MLX cannot train this; empty if it can."""
    start = str(peft.get("init_lora_weights", True)).lower()
    config = model_folder.config(Path(source.path)) if source.path else {}
    kind, known, stored = config.get("model_type"), model_types(), prequantized(config)
    odd = next((name for name in NOT_PLAIN if peft.get(name)), "")
    reasons = {
        "mlx_full": request.method == "full",
        "mlx_packed": training.get("packing") or training.get("padding_free"),
        "mlx_start": start not in STARTS,
        "mlx_not_plain": odd,
        "mlx_bias": str(peft.get("bias", "none")) != "none" or peft.get("lora_bias"),
        "mlx_reference": training.get("precompute_ref_log_probs"),
        "mlx_type": kind and known and kind not in known,
        "mlx_quantized": stored,
    }
    row = next((name for name, holds in reasons.items() if holds), "")
    if not row:
        return ""
    fields = {"start": start, "odd": odd, "kind": brief(repr(kind))}
    fields |= {"stored": stored or ""}
    problem, cure = message_and_cure(row, **fields)
    return f"{problem}; {cure}" if cure else problem
