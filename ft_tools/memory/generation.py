"""What writing a batch of completions takes, before the step that trains on them (GRPO).

All completions of a step are written by one call of `generate`: their keys and values are held
until the longest ends; a block with a window holds those of the last tokens. Nothing is kept for a
backward pass. benchmarks/grpo_memory.json has the differences from traces of `generate` itself.

Source: TRL 1.16, grpo_trainer.py, _generate_single_turn; transformers 5.24, cache_utils.py,
DynamicLayer.update (a layer's keys are copied when a token is added), generation/utils.py, _sample
(float32 logits of the last position, and their probabilities, which stay until the next token's);
PyTorch 2.13, aten/src/ATen/native/Distributions.cpp, multinomial (as many random numbers).
"""

from ft_tools.memory import activations, block_temporaries
from ft_tools.memory.setup import DTYPE_BYTES, Setup

KEPT_LOGIT_BYTES = 8
"""From one token to the next: a float32 logit and its probability."""
SAMPLED_LOGIT_BYTES = 12
"""Beside the logit itself while a token is sampled."""


def phases(setup: Setup) -> dict[str, dict[str, float]]:
    """Return the bytes of reading the prompts and of the last token, beyond what is resident.

    prefill: the prompts' keys and values, and one block's tensors for all their tokens;
    generation: keys and values of whole sequences, and one layer's copied beside what is left of
    the last token's logits, or the next ones sampled.
    """
    if not setup.generated:
        return {}
    shape, count = setup.shape, setup.generated
    number = 2 if setup.quantization is not None else DTYPE_BYTES[setup.dtype]
    per_layer = 2.0 * shape.kv_width * number * count
    prompts = count * setup.prompt_len
    is_masked = setup.attention == "sdpa" and setup.padded
    mask = (1.0 + number) * prompts * setup.prompt_len if is_masked else 0.0
    full = shape.num_layers - shape.num_windowed
    held = full * setup.seq_len + shape.num_windowed * min(setup.seq_len, shape.window)
    longest = setup.seq_len if full else min(setup.seq_len, shape.window)
    logits = float(shape.vocab_size * count)
    copied = {
        "kept_logits": KEPT_LOGIT_BYTES * logits,
        "block_working_set": per_layer / 2 * longest,
    }
    sampled = {"sampled_logits": (number + SAMPLED_LOGIT_BYTES) * logits}
    at_token = max(copied, sampled, key=lambda parts: sum(parts.values()))
    return {
        "prefill": {
            "kv_cache": per_layer * shape.num_layers * setup.prompt_len,
            "block_working_set": _block_bytes(setup) * prompts,
            "attention_mask": mask,
        },
        "generation": {"kv_cache": per_layer * held} | at_token,
    }


def _block_bytes(setup: Setup) -> float:
    """Return what one block holds for each token of a forward pass alone.

    Gate, up and their product; with adapters in float32, which answers are written with outside
    autocast, the gate, the other's output, the adapter's in float32, and that scaled: 12i.
    """
    h, width = setup.shape.hidden_size, activations.mlp_width(setup)
    is_wide = setup.method != "full" and setup.adapter_bytes == 4
    if is_wide and activations.adapts(setup, activations.MLP_INPUTS):
        return 12.0 * (h + width)
    plain = setup.number_bytes * (2.0 * h + 3.0 * width)
    return plain + block_temporaries.forward_bytes(setup)
