"""What writing a batch of completions takes, before the step that trains on them (GRPO).

All completions of a step are written by one call of `generate`: their keys and values are held
until the longest ends. Nothing is kept for a backward pass.

Source: TRL 1.16, grpo_trainer.py, _generate_single_turn; transformers 5.24, cache_utils.py,
DynamicLayer.update (a layer's keys are copied when a token is added), generation/utils.py, _sample
(float32 logits of the last position, and their softmax).
"""

from ft_tools.memory import activations, block_temporaries
from ft_tools.memory.setup import DTYPE_BYTES, Setup

SAMPLED_LOGIT_BYTES = 8
"""Beside the logit itself: its float32 copy and its probability."""


def phases(setup: Setup) -> dict[str, dict[str, float]]:
    """Return the bytes of reading the prompts and of the last token, beyond what is resident.

    prefill: the prompts' keys and values, and one block's tensors for all their tokens;
    generation: keys and values of whole sequences, one layer's copied, and the sampled logits.
    """
    if not setup.generated:
        return {}
    shape, count = setup.shape, setup.generated
    number = 2 if setup.quantization is not None else DTYPE_BYTES[setup.dtype]
    per_layer = 2.0 * shape.kv_width * number
    per_token = per_layer * shape.num_layers
    prompts = count * setup.prompt_len
    in_block = setup.number_bytes * (2.0 * shape.hidden_size + 3.0 * activations.mlp_width(setup))
    in_block += block_temporaries.forward_bytes(setup)
    return {
        "prefill": {"kv_cache": per_token * prompts, "block_working_set": in_block * prompts},
        "generation": {
            "kv_cache": (per_token + per_layer / 2) * count * setup.seq_len,
            "sampled_logits": float((number + SAMPLED_LOGIT_BYTES) * shape.vocab_size * count),
        },
    }
