"""Which engine trains: torch, or MLX on Apple silicon; and what MLX cannot do here."""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from ft_tools import facts
from ft_tools.errors import BadInput, Missing, MissingExtra, UnknownName, brief
from ft_tools.models import model_folder
from ft_tools.models.mlx import (
    GROUP_SIZE,
    NOT_PLAIN,
    is_apple_silicon,
    is_installed,
    model_types,
)
from ft_tools.models.quantized import prequantized, use_unquantized
from ft_tools.models.resolve import ModelSource
from ft_tools.training.findings import warning
from ft_tools.training.request import TrainingRequest

Engine = Literal["torch", "mlx"]
BITS = 4
QUANTIZATION = {"bits": BITS, "group_size": GROUP_SIZE, "mode": "affine"}
"""Of mlx.nn.quantize, for qlora."""
STARTS = ("true", "gaussian", "none")
"""Starts of an adapter that need no weight of the base."""


def _on_the_mac(gpu: str = "") -> str:
    """Say how to train on a Mac elsewhere, by the name that the caller gave it."""
    named = f"gpu={gpu!r}" if gpu else "the Mac's chip and memory as `gpu`"
    return (
        f"check its memory here (suggest_lora_config or estimate_vram with {named}), then copy the "
        "dataset to the Mac, install fine-tuning-llm with its extra mlx there, and make this call "
        "there, where plan and run belong"
    )


def require_machine(request: TrainingRequest) -> None:
    """Refuse what a Mac has to train itself, before anything else is asked of the caller.

    Raises:
        BadInput: The plan is for a Mac elsewhere.
        Missing: MLX was asked for on a machine that is no Mac and does not have it.
    """
    gpu = request.backend_options.get("gpu")
    is_mac = False
    with contextlib.suppress(UnknownName):
        is_mac = isinstance(gpu, str) and facts.gpu(gpu).is_apple
    named = gpu if isinstance(gpu, str) else ""
    if is_mac:
        raise BadInput(
            f"backend_options.gpu={gpu!r} is a Mac, which trains with MLX on itself; "
            f"{_on_the_mac(named)}"
        )
    if request.engine != "mlx":
        return
    if not request.is_here:
        raise BadInput(f'engine="mlx": a Mac trains with MLX on itself; {_on_the_mac()}')
    if not is_apple_silicon() and not is_installed():
        raise Missing(
            f'engine="mlx": this machine is no Mac with an Apple chip, and MLX is not installed; '
            f"{_on_the_mac()}"
        )


def choose(
    request: TrainingRequest, source: ModelSource, peft: Mapping[str, Any], training: dict[str, Any]
) -> tuple[Engine, list[str]]:
    """Choose the engine of a run.

    Returns:
        The engine, and warnings.

    Raises:
        BadInput: MLX was asked for and cannot train this.
        MissingExtra: MLX was asked for and is not installed.
    """
    on_mac = is_apple_silicon() and request.is_here
    if request.engine == "torch" or (request.engine == "auto" and not on_mac):
        return "torch", []
    problem = _against_mlx(request, source, peft, training)
    if request.engine == "mlx":
        if not is_installed():
            raise MissingExtra("mlx", "mlx_lm")
        if problem:
            raise BadInput(f'engine="mlx": {problem}; change it, or use engine="torch"')
    if not is_installed():
        problem = str(MissingExtra("mlx", "mlx_lm"))
    if problem:
        return "torch", [warning("not_mlx", problem=problem)]
    return "mlx", [] if is_apple_silicon() else [warning("mlx_on_cpu")]


def _against_mlx(
    request: TrainingRequest, source: ModelSource, peft: Mapping[str, Any], training: dict[str, Any]
) -> str:
    """Say why MLX cannot train this; empty if it can."""
    start = str(peft.get("init_lora_weights", True)).lower()
    config = model_folder.config(Path(source.path)) if source.path else {}
    kind = config.get("model_type")
    stored = prequantized(config)
    known = model_types()
    reasons = {
        "it trains adapters; use method lora or qlora": request.method == "full",
        "packed examples would see each other; remove training.packing and padding_free": bool(
            training.get("packing") or training.get("padding_free")
        ),
        f"peft.init_lora_weights={start!r} needs the base's weights in torch": start not in STARTS,
        f"peft.{next((n for n in NOT_PLAIN if peft.get(n)), '')} is not supported": any(
            map(peft.get, NOT_PLAIN)
        ),
        "peft.bias and lora_bias are not supported": str(peft.get("bias", "none")) != "none"
        or bool(peft.get("lora_bias")),
        "training.precompute_ref_log_probs runs before MLX is ready": bool(
            training.get("precompute_ref_log_probs")
        ),
        f"mlx-lm has no model type {brief(repr(kind))}": bool(kind and known and kind not in known),
        f"the weights are quantized already ({stored.kind if stored else ''}), and only 16-bit "
        f"ones are loaded; {use_unquantized(source.name)}": stored is not None,
    }
    return next((reason for reason, holds in reasons.items() if holds), "")
