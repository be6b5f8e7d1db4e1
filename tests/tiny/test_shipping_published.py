"""What llama.cpp makes of a shipped folder: an abort costs its format; names as published."""

import re
import shutil

import gguf
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from benchmarks import family_rows
from ft_tools import publish
from ft_tools.models import safetensors_headers
from ft_tools.shipping import formats
from ft_tools.shipping.estimates import PlannedFormat
from ft_tools.shipping.plan import ShipPlan
from ft_tools.shipping.worker import proving, shipped_formats
from ft_tools.shipping.worker.expert_layout import publish_layout
from ft_tools.shipping.worker.shipment import Shipment
from tests.tiny.measuring_gguf import Quiet

pytestmark = pytest.mark.tiny


def write_unexpected(path):
    """Write a GGUF file that gives a token to more experts than there are."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(32)
    writer.add_head_count(2)
    writer.add_expert_count(4)
    writer.add_expert_used_count(5)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_file_that_llama_cpp_aborts_on_costs_its_format_and_not_the_run(tmp_path, tiny_model):
    merged, scratch = tmp_path / "out" / "merged", tmp_path / "scratch"
    shutil.copytree(tiny_model, merged)
    publish.seal(merged)
    scratch.mkdir()
    write_unexpected(scratch / "source-f32.gguf")
    planned = [
        PlannedFormat(
            format=name, estimated_bytes=2**24, published_kl=None, expected="unknown", source=""
        )
        for name in ("gguf:F32", "safetensors")
    ]
    plan = ShipPlan.model_construct(name="m", source="m", adapter=None, formats=planned)
    shipment = Shipment(Quiet(), plan, tiny_model, tmp_path / "out", scratch)
    tokenizer = AutoTokenizer.from_pretrained(merged)
    text = proving.held_out_text(tokenizer, None, "", len(tokenizer))
    reference = proving.Reference(tmp_path / "rows.f32", text, len(tokenizer))
    proof = proving.Proof(tokenizer, reference, None)
    aborted, said = shipped_formats.ship_format(shipment, formats.find("gguf:F32"), proof)
    assert (aborted.state, said) == ("failed", [])
    assert re.match(r"llama.cpp \(.*\) aborted at [\w-]+\.cpp:\d+: ", aborted.error), aborted.error
    assert "take safetensors" in aborted.error
    kept, _ = shipped_formats.ship_format(shipment, formats.find("safetensors"), proof)
    assert kept.state == "made"


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
