"""Bases in FP8 or MXFP4 are loaded in 16 bits for training; others stay as they are."""

import json

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from ft_tools.training.worker.loading import in_16_bits
from tests.tiny.trainings import LIBRARY_WARNINGS

pytestmark = [pytest.mark.tiny, *LIBRARY_WARNINGS]
BLOCK = 128
LARGEST = 448.0
"""Of float8_e4m3fn."""


@pytest.fixture(scope="module")
def plain():
    torch.manual_seed(0)
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 64}
    sizes = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2}
    config = LlamaConfig(**sizes, **heads, vocab_size=256, tie_word_embeddings=False)
    return LlamaForCausalLM(config).to(torch.bfloat16)


@pytest.fixture(scope="module")
def in_fp8(plain, tmp_path_factory):
    """Save the model with the blocks' weights in FP8, a scale for each 128 x 128 of them."""
    folder = tmp_path_factory.mktemp("fp8")
    plain.save_pretrained(folder)
    found = {}
    for name, weight in load_file(folder / "model.safetensors").items():
        if "layers" not in name or weight.dim() != 2:
            found[name] = weight
            continue
        rows, columns = (size // BLOCK for size in weight.shape)
        blocks = weight.float().reshape(rows, BLOCK, columns, BLOCK)
        scales = blocks.abs().amax(dim=(1, 3)) / LARGEST
        packed = (blocks / scales[:, None, :, None]).reshape(weight.shape)
        found[name] = packed.to(torch.float8_e4m3fn)
        found[f"{name}_scale_inv"] = scales
    save_file(found, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {
        "quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [BLOCK, BLOCK],
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_an_fp8_base_is_loaded_in_16_bits_and_an_adapter_trains_over_it(plain, in_fp8):
    arguments = in_16_bits(AutoConfig.from_pretrained(in_fp8))
    model = AutoModelForCausalLM.from_pretrained(in_fp8, dtype=torch.bfloat16, **arguments)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    ids = torch.arange(20)[None]
    with torch.inference_mode():
        wanted, found = plain(ids).logits, model(ids).logits
    assert (found - wanted).abs().max() < 0.1 * wanted.abs().max()
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear"))
    adapted(input_ids=ids, labels=ids).loss.backward()
    # B starts at zero, so that A has no gradient yet.
    starts = [p.grad for n, p in adapted.named_parameters() if "lora_B" in n]
    assert len(starts) == 14
    assert all(g is not None and torch.isfinite(g).all() and g.abs().max() > 0 for g in starts)
