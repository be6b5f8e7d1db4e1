"""What an adapter folder holds, and whether it belongs to a base: from headers, without torch."""

import math
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from ft_tools.errors import brief
from ft_tools.lora.init_weights import require_repeatable
from ft_tools.models import model_folder, safetensors_headers
from ft_tools.models.safetensors_headers import Tensor
from ft_tools.publish import MANIFEST, sha256, verify
from ft_tools.shipping.findings import refusal

PREFIX = "base_model.model."
LORA_A = ".lora_A.weight"
LORA_B = ".lora_B.weight"
MAGNITUDE = ".lora_magnitude_vector"
VARIANTS = {"use_dora": "dora", "use_rslora": "rslora"}
EMBEDDINGS = ("embed_tokens.weight", "lm_head.weight", "wte.weight")


class AdapterFacts(BaseModel):
    """An adapter as the plan saw it; the worker refuses one that changed since."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str
    sha256: str = Field(description="Of adapter_model.safetensors.")
    rank: int
    num_modules: int = Field(description="Weights that the adapter changes.")
    variant: str = Field(description="lora, rslora or dora.")
    route: str = Field(
        description="shards: each file of the base is merged by itself; whole: through PEFT, with "
        "the model in memory."
    )
    why_whole: str = Field("", description="Why it cannot be merged file by file.")
    bytes: int


def read_config(folder: Path) -> dict[str, Any]:
    """Read adapter_config.json.

    Raises:
        BadInput: It is damaged, or not a LoRA adapter's.
        Refused: It cannot be put on its base again.
    """
    config = model_folder.adapter_config(folder)
    if (kind := config.get("peft_type")) != "LORA":
        raise refusal("other_adapter", folder=folder, kind=kind)
    for name in ("r", "lora_alpha"):
        value = config.get(name, 1)
        if not isinstance(value, int | float) or not 0 < value < math.inf:
            raise refusal("scale_is_no_number", folder=folder, name=name, value=value)
    start = config.get("init_lora_weights")
    cure = 'Train again with "pissa", or merge in the training process.'
    require_repeatable(start, f"{folder}: init_lora_weights={start!r}", cure)
    return config


def inspect(folder: Path, base: dict[str, Tensor], base_config: dict[str, Any]) -> AdapterFacts:
    """Describe an adapter and check that it fits a base.

    Raises:
        BadInput: A file is damaged, or the adapter's shapes are those of another base.
        Refused: Its weights are a pickle file.
    """
    require_unchanged(folder)
    config = read_config(folder)
    file = safetensors_headers.only_file(folder, safetensors_headers.ADAPTER)
    held = safetensors_headers.survey_file(file)
    _require_fit(folder, held, base, bool(config.get("fan_in_fan_out")))
    why = why_whole(held, base, base_config)
    return AdapterFacts(
        path=str(folder),
        sha256=sha256(file),
        rank=int(config.get("r", 0)),
        num_modules=sum(name.endswith(LORA_A) for name in held),
        variant=next((v for key, v in VARIANTS.items() if config.get(key)), "lora"),
        route="whole" if why else "shards",
        why_whole=why,
        bytes=sum(tensor.num_bytes for tensor in held.values()),
    )


def require_unchanged(folder: Path) -> None:
    """Refuse a folder that is not what its manifest says; one without a manifest is as it is.

    Raises:
        BadInput: A file was changed, damaged or lost since the folder was published.
    """
    wrong = verify(folder) if (folder / MANIFEST).is_file() else []
    if wrong:
        raise refusal("changed_since_written", folder=folder, wrong=wrong[0], manifest=MANIFEST)


def require_unquantized(base_config: dict[str, Any]) -> None:
    """Refuse a base whose weights are quantized.

    Raises:
        Refused: It is.
    """
    quantized = base_config.get("quantization_config")
    if quantized:
        method = quantized.get("quant_method", "unknown") if isinstance(quantized, dict) else "?"
        raise refusal("quantized_base", method=brief(method))


def why_whole(held: dict[str, Tensor], base: dict[str, Tensor], base_config: dict[str, Any]) -> str:
    """Return why an adapter cannot be merged file by file; empty when it can.

    Of a base that is not here yet (`base` is empty) only the adapter's own names tell.
    """
    tied = bool(base_config.get("tie_word_embeddings"))
    for name in held:
        target = target_of(name)
        if target is not None and not base:
            continue
        if target is None or (target not in base and not name.endswith(MAGNITUDE)):
            return f"{name.removeprefix(PREFIX)} has no single counterpart in the base's files"
        if tied and target.endswith(EMBEDDINGS):
            return "it changes embeddings that the base ties"
        if (
            not name.endswith((LORA_A, LORA_B, MAGNITUDE))
            and held[name].shape != base[target].shape
        ):
            return "it has more tokens than the base"
    return ""


def target_of(name: str) -> str | None:
    """Return the base's tensor that an adapter's tensor changes; None for an unknown kind.

    >>> target_of("base_model.model.model.layers.0.mlp.up_proj.lora_A.weight")
    'model.layers.0.mlp.up_proj.weight'
    >>> target_of("base_model.model.lm_head.weight")
    'lm_head.weight'
    """
    inner = name.removeprefix(PREFIX)
    for suffix in (LORA_A, LORA_B, MAGNITUDE):
        if inner.endswith(suffix):
            return inner.removesuffix(suffix) + ".weight"
    known = inner.endswith((".weight", ".bias")) and "lora_" not in inner
    return inner if known else None


def _require_fit(
    folder: Path, held: dict[str, Tensor], base: dict[str, Tensor], transposed: bool
) -> None:
    """Refuse matrices whose outer lengths are not those of the weight that they change."""
    for name, tensor in held.items():
        target = base.get(target_of(name) or "")
        if target is None or not name.endswith((LORA_A, LORA_B)):
            continue
        if len(target.shape) != 2 or len(tensor.shape) != 2:
            continue
        d_out, d_in = reversed(target.shape) if transposed else target.shape
        at, wanted = (1, d_in) if name.endswith(LORA_A) else (0, d_out)
        if tensor.shape[at] != wanted:
            fields = {"name": name.removeprefix(PREFIX), "found": tensor.shape[at]}
            raise refusal("adapter_of_another_base", folder=folder, wanted=wanted, **fields)
