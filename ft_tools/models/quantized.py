"""Checkpoints that are quantized already: what can be trained on them as they are."""

from collections.abc import Mapping
from typing import Any, Literal

Kind = Literal["bnb_4bit", "bnb_8bit", "gptq", "awq", "fp8", "mxfp4", "other"]
INSTEAD = "use a 16-bit version of the model"
"""Of a quantized copy that cannot be trained."""
# transformers expands these to 16 bits when it loads them for training.
# Source: https://huggingface.co/docs/transformers/quantization/mxfp4, .../finegrained_fp8
DEQUANTIZED: dict[Kind | None, str] = {"fp8": "FineGrainedFP8Config", "mxfp4": "Mxfp4Config"}
"""And the class of its configuration there."""
# Source: QLoRA, arXiv 2305.14314: 4-bit NormalFloat with double quantization.
NF4: dict[str, Any] = {
    "load_in_4bit": True,
    "bnb_4bit_quant_type": "nf4",
    "bnb_4bit_use_double_quant": True,
}
"""Arguments of transformers.BitsAndBytesConfig."""
# Layers whose class computes with the weight itself, which a packed one does not allow, and the
# output layer, which bitsandbytes leaves alone only where nothing is named.
# Source: transformers 5.24, modeling_gemma3n.py: AltUp clamps its coefficients in training.
NEVER_PACKED = {
    kind: ["lm_head", "prediction_coefs", "correction_coefs"]
    for kind in ("gemma3n", "gemma3n_text")
}


def nf4(model_type: str) -> dict[str, Any]:
    """Return how a model's linear layers are quantized for QLoRA."""
    kept = NEVER_PACKED.get(model_type)
    return NF4 | ({"llm_int8_skip_modules": kept} if kept else {})


def prequantized(config: Mapping[str, Any]) -> Kind | None:
    """Return how a config.json says that its weights are quantized; None if they are not."""
    found, text = config.get("quantization_config"), config.get("text_config")
    if found is None and isinstance(text, Mapping):
        found = text.get("quantization_config")
    if not isinstance(found, Mapping):
        return None
    method = str(found.get("quant_method", "")).lower()
    if method == "bitsandbytes" or "load_in_4bit" in found:
        return "bnb_4bit" if found.get("load_in_4bit") else "bnb_8bit"
    kinds: dict[str, Kind] = {"gptq": "gptq", "awq": "awq", "fp8": "fp8", "mxfp4": "mxfp4"}
    return kinds.get(method, "other")
