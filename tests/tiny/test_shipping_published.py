"""What llama.cpp makes of a shipped folder: an abort costs its format; names as published."""

import json
import re

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
)

from benchmarks import family_rows
from ft_tools.models import safetensors_headers
from ft_tools.publish import sha256
from ft_tools.shipping import formats
from ft_tools.shipping.worker import shipped_formats
from ft_tools.shipping.worker.expert_layout import publish_layout
from tests.tiny.measuring_gguf import proof_of, shipment_in, write_gguf

pytestmark = pytest.mark.tiny


def test_a_file_that_llama_cpp_aborts_on_costs_its_format_and_not_the_run(tmp_path, tiny_model):
    shipment = shipment_in(tmp_path, tiny_model, "gguf:F32", "safetensors")
    # A token goes to more experts than there are.
    write_gguf(tmp_path / "scratch" / "source-f32.gguf", width=32, experts=(4, 5))
    proof = proof_of(tmp_path, AutoTokenizer.from_pretrained(tiny_model))
    aborted, said = shipped_formats.ship_format(shipment, formats.find("gguf:F32"), proof)
    assert (aborted.state, said) == ("failed", [])
    assert re.match(r"llama.cpp \(.*\) aborted at [\w-]+\.cpp:\d+: ", aborted.error), aborted.error
    # What a run of an older version recorded is made again.
    old = {"format": "safetensors", "state": "made", "path": "gone", "fallback_tensors": {}}
    record = tmp_path / "scratch" / "safetensors.json"
    record.write_text(json.dumps({"result": old, "samples": []}))
    kept, _ = shipped_formats.ship_format(shipment, formats.find("safetensors"), proof)
    assert (kept.state, kept.path) == ("made", str(tmp_path / "out" / "merged"))


def test_dense_blocks_of_kimi_linear_are_named_as_in_the_published_files(tmp_path):
    config = AutoConfig.for_model(**family_rows.config("kimi_linear"))
    model = AutoModelForCausalLM.from_config(config).eval()
    model.save_pretrained(tmp_path, max_shard_size="200KB")
    ids = torch.tensor([[5, 6, 7, 8]])
    expected = model(ids).logits
    saved = safetensors_headers.survey(tmp_path)
    publish_layout(tmp_path, stop=lambda: None)
    published = safetensors_headers.survey(tmp_path)
    assert "model.layers.0.mlp.gate_proj.weight" in published.keys() - saved.keys()
    assert "model.layers.1.block_sparse_moe.shared_experts.gate_proj.weight" in published
    assert len(published) == len(saved)
    again = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert torch.equal(again(ids).logits, expected)


def test_experts_are_shipped_in_the_layout_of_the_published_files(tmp_path):
    whole = AutoConfig.for_model(**family_rows.config("qwen3_vl_moe"))
    model = AutoModelForImageTextToText.from_config(whole).eval()
    model.save_pretrained(tmp_path)
    ids = torch.tensor([[5, 6, 7, 8]])
    expected = model(ids).logits
    saved = safetensors_headers.survey(tmp_path)
    publish_layout(tmp_path, stop=lambda: None)
    published = safetensors_headers.survey(tmp_path)
    path = "model.language_model.layers.0.mlp.experts."
    assert saved[path + "gate_up_proj"].shape == (8, 32, 64)
    assert published[path + "gate_up_proj"].shape == (8, 64, 32)
    assert published[path + "down_proj"].shape == (8, 16, 64)
    again = AutoModelForImageTextToText.from_pretrained(tmp_path).eval()
    assert torch.equal(again(ids).logits, expected)
    before = sha256(tmp_path / safetensors_headers.SINGLE)
    publish_layout(tmp_path, stop=lambda: None)
    assert sha256(tmp_path / safetensors_headers.SINGLE) == before
