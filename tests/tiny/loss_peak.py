"""How far two ways to measure references raise memory: `python -m tests.tiny.loss_peak`.

A tiny model with the vocabulary of Llama 3, 128,256 words. Prints the growth of the peaks in bytes.
"""

from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from ft_tools.evaluation.worker.transformers_writer import token_losses
from tests.tiny.peaks import print_growths, resident

SHAPE = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}


def ours(model, tokens, mask):
    token_losses(model, tokens, mask, 1)


def whole(model, tokens, mask):
    logits = model(input_ids=tokens, attention_mask=mask).logits.float()[:, :-1]
    return torch.nn.functional.cross_entropy(logits.transpose(1, 2), tokens[:, 1:])


def growth_of(way):
    torch.set_num_threads(1)
    config = LlamaConfig(**SHAPE, num_attention_heads=1, num_key_value_heads=1, vocab_size=128_256)
    model = LlamaForCausalLM(config).eval()
    tokens = torch.arange(4 * 192).view(4, 192)
    mask = torch.ones_like(tokens)
    ours(model, tokens[:1, :4], mask[:1, :4])
    # Resets VmHWM, see proc(5).
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = resident("VmRSS")
    with torch.inference_mode():
        way(model, tokens, mask)
    return resident("VmHWM") - before


if __name__ == "__main__":
    print_growths({"ours": lambda: growth_of(ours), "whole": lambda: growth_of(whole)})
