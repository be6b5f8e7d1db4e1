"""Checkpoints that are quantized already: recognised, sized as they are, never ignored."""

import json

import pytest

from ft_tools.errors import BadInput
from ft_tools.lora.request import LoraRequest
from ft_tools.memory.request import VramRequest
from ft_tools.memory.tool import estimate_vram
from ft_tools.models.quantized import prequantized
from ft_tools.training.suggestion import suggest_lora_config

LLAMA = {
    "model_type": "llama",
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 32000,
}
BNB = {"quant_method": "bitsandbytes", "load_in_4bit": True}


@pytest.fixture
def checkpoint(workspace):
    """Give a function that writes a quantized model's folder and returns its name."""

    def write(quantization):
        config = LLAMA | {"quantization_config": quantization}
        (workspace / "mine").mkdir()
        (workspace / "mine" / "config.json").write_text(json.dumps(config))
        return "mine"

    return write


@pytest.mark.parametrize(
    ("quantization", "kind"),
    [
        (BNB, "bnb_4bit"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "bnb_8bit"),
        ({"quant_method": "gptq", "bits": 4}, "gptq"),
        ({"quant_method": "awq"}, "awq"),
        ({"quant_method": "fp8"}, "fp8"),
        ({"quant_method": "mxfp4"}, "mxfp4"),
        ({"quant_method": "modelopt"}, "other"),
        ({}, "other"),
    ],
)
def test_every_way_to_quantize_is_recognised(quantization, kind):
    assert prequantized({"quantization_config": quantization}) == kind
    assert prequantized({"text_config": {"quantization_config": quantization}}) == kind
    assert prequantized({}) is None


def test_adapters_over_four_bits_take_what_qlora_takes(checkpoint, workspace):
    name = checkpoint(BNB)
    (workspace / "plain").mkdir()
    (workspace / "plain" / "config.json").write_text(json.dumps(LLAMA))
    qlora = estimate_vram(VramRequest(model="plain", method="qlora")).peak_allocated_gib
    for method in ("lora", "qlora"):
        report = estimate_vram(VramRequest(model=name, method=method))
        assert report.peak_allocated_gib == qlora
        assert any("quantized already (bnb_4bit)" in text for text in report.assumptions)


@pytest.mark.parametrize(
    ("quantization", "method", "cure"),
    [
        (BNB, "full", "use method 'qlora'"),
        ({"quant_method": "mxfp4"}, "qlora", "use method 'lora'"),
        ({"quant_method": "modelopt"}, "lora", "use a 16-bit version"),
    ],
)
def test_what_cannot_be_trained_is_refused_with_the_cure(checkpoint, quantization, method, cure):
    with pytest.raises(BadInput, match=cure):
        estimate_vram(VramRequest(model=checkpoint(quantization), method=method))


@pytest.mark.parametrize(
    ("quantization", "method"), [(BNB, "qlora"), ({"quant_method": "mxfp4"}, "lora")]
)
def test_a_suggestion_quantizes_nothing_twice(checkpoint, quantization, method):
    report = suggest_lora_config(LoraRequest(model=checkpoint(quantization), gpu="RTX 4090"))
    assert (report.method, report.quantization) == (method, None)
    assert "prequantized" in {reason.id for reason in report.reasons}
