"""Bytes of the loss head: from the last hidden state to the loss, and back.

Symbols: V vocabulary, h hidden size, T tokens of one forward pass.

Source: transformers `loss/loss_utils.py` by version, Liger-Kernel, and TRL 1.16
`kernels/chunked_logprob.py`; the bytes per logit confirmed by fms-acceleration's slopes.
"""

from ft_tools.memory.setup import Setup

# bf16 logits, fp32 copy, log-softmax and gradient (14); before transformers 4.46 the copy was made
# in the model's forward (12). Without autocast the logits of an fp32 head are 4 bytes themselves.
FULL_LOGITS_BYTES = 14
FULL_LOGITS_OLD_BYTES = 12
FULL_LOGITS_FP32_BYTES = 16
# Gemma 2 caps its logits too, and the hyperbolic tangent keeps what it made.
SOFTCAP_BYTES = 2
# TRL's fused head works on tiles of at most 4,096 tokens and 32,768 entries of the vocabulary.
TILE_TOKENS = 4096
TILE_VOCAB = 32768


def head_bytes(setup: Setup) -> float:
    """Return the peak of the loss head on one GPU: its forward and its backward, the larger."""
    vocab, h, tokens = setup.shape.vocab_size, setup.shape.hidden_size, setup.tokens
    if setup.head == "full_logits":
        fp32_head = setup.residual_bytes == 4 and not setup.autocast
        per_logit: float = FULL_LOGITS_FP32_BYTES if fp32_head else FULL_LOGITS_BYTES
        per_logit += SOFTCAP_BYTES if setup.shape.softcap else 0
        return (per_logit * vocab + 6.0 * h) * tokens
    if setup.head == "full_logits_old":
        return (FULL_LOGITS_OLD_BYTES * vocab + 8.0 * h) * tokens
    if setup.head == "fused_logits":
        return (setup.fused_logits_bytes * vocab + 4.0 * h) * tokens
    if setup.head == "fused_linear":
        # Chunks hold about h logits per token of the batch; gradients of input and head follow.
        return 8.0 * h * tokens + _head_gradient(setup, 2.0)
    tile = 2.0 * min(tokens, TILE_TOKENS) * min(vocab, TILE_VOCAB)
    # Final norm 4h, hidden state and its unmasked copy 4h, fp32 gradient 4h and its cast 2h.
    return tile + (14.0 * h + 28.0) * tokens + _head_gradient(setup, 6.0)


def _head_gradient(setup: Setup, per_weight: float) -> float:
    """A trained head gets its gradient before any block: fp32 and cast in TRL's, 16-bit else."""
    if setup.method != "full":
        return 0.0
    return per_weight * setup.shape.embedding_params
