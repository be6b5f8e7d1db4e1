"""What SDPA keeps for packed rows, counted in PyTorch itself, and what the estimate says of it."""

from types import SimpleNamespace

import pytest
import torch
import transformers
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.integrations import sdpa_attention

from ft_tools.models.families import FAMILIES, TRAITS
from ft_tools.models.worker.loading import repeat_heads
from ft_tools.training.worker.packing_check import leaked_fraction

pytestmark = pytest.mark.tiny


def tiny(num_kv_heads):
    config = LlamaConfig(
        hidden_size=32, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2,
        num_key_value_heads=num_kv_heads, vocab_size=64, attn_implementation="sdpa",
    )  # fmt: skip
    return LlamaForCausalLM(config).to(torch.bfloat16)


def test_old_cards_get_keys_for_every_query_head_and_compute_the_same(monkeypatch):
    model, calls = tiny(num_kv_heads=1), []
    usual = torch.nn.functional.scaled_dot_product_attention

    def look(query, key, value, **named):
        calls.append((key.shape[1], named.get("enable_gqa", False)))
        return usual(query, key, value, **named)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", look)
    monkeypatch.setattr(sdpa_attention, "use_gqa_in_sdpa", sdpa_attention.use_gqa_in_sdpa)
    ids = torch.arange(8)[None]
    grouped = model(input_ids=ids).logits
    repeat_heads()
    repeated = model(input_ids=ids).logits
    assert calls[:3] == [(1, True)] * 3
    assert calls[3:] == [(2, False)] * 3
    assert torch.allclose(grouped, repeated, atol=1e-2)


def class_of(model_type):
    """Return the class that loads a text model of this type."""
    config = type(transformers.AutoConfig.for_model(model_type))
    return transformers.AutoModelForCausalLM._model_mapping[config]


@pytest.mark.parametrize(
    "model_type", sorted({*FAMILIES, *TRAITS["keeps_packed_apart"]} - {"qwen3_vl_text"})
)
def test_flash_attention_is_taken_only_by_classes_that_support_it(model_type):
    supports = class_of(model_type)._supports_flash_attn
    assert supports or model_type in TRAITS["refuses_flash"]
    assert transformers.Qwen3VLForConditionalGeneration._supports_flash_attn


def test_the_check_of_packing_computes_as_training_does():
    """Flash attention takes no float32, in which full training keeps its weights."""
    model, seen = tiny(num_kv_heads=1).float(), set()
    model.lm_head.register_forward_hook(lambda module, inputs, output: seen.add(output.dtype))

    def collate(rows):
        lengths = rows[0]["seq_lengths"]
        ids = torch.tensor([rows[0]["input_ids"]])
        positions = torch.cat([torch.arange(n) for n in lengths])[None]
        return {"input_ids": ids, "labels": ids, "position_ids": positions}

    trainer = SimpleNamespace(
        model=model,
        train_dataset=[{"input_ids": list(range(40))}],
        data_collator=collate,
        accelerator=SimpleNamespace(autocast=lambda: torch.autocast("cpu", torch.bfloat16)),
    )
    assert leaked_fraction(trainer) < 0.1
    assert seen == {torch.bfloat16}
