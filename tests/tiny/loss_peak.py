"""How far measuring references raises memory: `python -m tests.tiny.loss_peak WAY`.

A tiny model with the vocabulary of Llama 3, 128,256 words. Prints the growth of the peak in bytes.
"""

import json
import sys
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from ft_tools.evaluation.worker.token_losses import token_losses

SHAPE = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}


def resident(key):
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


def whole(model, tokens, mask):
    logits = model(input_ids=tokens, attention_mask=mask).logits.float()[:, :-1]
    return torch.nn.functional.cross_entropy(logits.transpose(1, 2), tokens[:, 1:])


if __name__ == "__main__":
    torch.set_num_threads(1)
    config = LlamaConfig(**SHAPE, num_attention_heads=1, num_key_value_heads=1, vocab_size=128_256)
    model = LlamaForCausalLM(config).eval()
    tokens = torch.arange(4 * 192).view(4, 192)
    mask = torch.ones_like(tokens)
    token_losses(model, tokens[:1, :4], mask[:1, :4], 1)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = resident("VmRSS")
    with torch.inference_mode():
        if sys.argv[1] == "ours":
            token_losses(model, tokens, mask, 1)
        else:
            whole(model, tokens, mask)
    sys.stdout.write(json.dumps(resident("VmHWM") - before))
