"""Bytes per token that one block needs while it runs, beyond what is stored between blocks.

A block's backward pass has several wide moments; the widest counts. Symbols as in activations.py.

Source: what is alive at the peak of fake-tensor traces of the classes of transformers 5.24
(ft_tools/memory/worker/trace.py), tensor by tensor; benchmarks/trace.json has the differences.
"""

from typing import NamedTuple

from ft_tools.memory import activations
from ft_tools.memory.setup import Setup

# What the textbook eager kernel holds per head and key while it runs backward: scores, softmax in
# fp32 and cast, and the gradients of those. Set from the eager rows of fitcheck-llm 0.3.1 (T4).
EAGER_BYTES = 14.3
EAGER_BYTES_FP32_RESIDUAL = 17.3
# An RMSNorm's backward pass in fp32, its input not among it: five tensors, and a 16-bit gradient.
RMS_BACKWARD = 20.0
# A fused norm's: the gradient that comes in and the one that goes out.
FUSED_NORM_BACKWARD = 4.0


class Moment(NamedTuple):
    """A wide moment of one block's backward pass."""

    per_token: float
    """Bytes per token."""
    gradient_params: int
    """Parameters of the block whose gradients are made by then, were all weights trained; 0 before
    its first product."""


def moments(setup: Setup) -> list[Moment]:
    """Return the wide moments of a block that is recomputed and then run backward."""
    shape = setup.shape
    down = _down_params(setup)
    base = _recomputed(setup)
    in_mlp = base + _mlp_widest(setup) + _adapted_mlp(setup)
    if setup.method == "full" and shape.num_experts and setup.fused_experts:
        in_order = 4.0 * shape.experts_per_token * (shape.intermediate_size + shape.hidden_size)
        return [Moment(in_mlp, down), Moment(base + in_order, shape.layer_expert_weights)]
    if not shape.post_norms:
        return [Moment(in_mlp, down)]
    # The norm after the MLP is done when the MLP runs backward; before that, nothing is freed. With
    # fp32 adapters the forward pass is wider still, beside the gradient in fp32.
    in_mlp += 2.0 * shape.hidden_size if _wide_adapters(setup) else -4.0 * shape.hidden_size
    in_norm = base + activations.mlp_bytes(setup) + _norm_backward(setup)
    in_norm += setup.number_bytes * shape.intermediate_size if setup.method != "full" else 0.0
    if activations.shares_inputs(setup) and activations.adapts(setup, activations.MLP_OUTPUTS):
        in_norm -= setup.number_bytes * shape.intermediate_size
    return [Moment(in_mlp, down), Moment(in_norm, 0)]


def kept_moments(setup: Setup) -> list[Moment]:
    """Return the wide moments of the last block that kept everything, beyond what it kept.

    The final norm runs backward while every block is whole: 24h. The MLP's gradients come later.
    """
    shape = setup.shape
    h = shape.hidden_size
    in_norm = 4.0 * h + _norm_backward(setup)
    down = _down_params(setup)
    if shape.num_experts and setup.fused_experts:
        of_mlp = max(6.0 * activations.mlp_width(setup), 6.0 * shape.experts_per_token * h)
    elif shape.num_experts:
        of_mlp = 6.0 * shape.intermediate_size
    else:
        full_plain = setup.method == "full" and not shape.gated
        of_mlp = (2.0 if full_plain else 4.0) * shape.intermediate_size
    in_mlp = (2.0 * h + of_mlp) * setup.number_bytes / 2 + running_scores_bytes(setup)
    return [Moment(in_norm, 0), Moment(in_mlp, down)]


def forward_bytes(setup: Setup) -> float:
    """Return what the forward pass of the last block holds for a moment beyond what it saves.

    An fp32 adapter casts the output projection's input to fp32, 4i, beside the input itself, 2i,
    and the branches' and the adapters' outputs. Fused experts hold four tensors of all copies of
    their input, 8kh.
    """
    shape = setup.shape
    if not _wide_adapters(setup):
        fused = shape.num_experts > 0 and setup.fused_experts
        return 8.0 * shape.experts_per_token * shape.hidden_size if fused else 0.0
    normed = 4.0 if shape.layer_norms and setup.autocast else 0.0
    return 6.0 * shape.intermediate_size + (14.0 + normed) * shape.hidden_size


def running_scores_bytes(setup: Setup) -> float:
    """Return what scores add while one block runs backward, beyond what it kept of them."""
    if setup.attention != "eager":
        return 0.0
    wide = setup.residual_bytes == 4
    running = EAGER_BYTES_FP32_RESIDUAL if wide else EAGER_BYTES
    kept = activations.EAGER_KEPT_FP32_RESIDUAL if wide else activations.EAGER_KEPT
    return (running - kept) * setup.shape.num_heads * setup.rows[1]


def _wide_adapters(setup: Setup) -> bool:
    """Return whether fp32 adapters lie on the MLP's output projection."""
    return setup.casts_inputs and activations.adapts(setup, activations.MLP_OUTPUTS)


def _down_params(setup: Setup) -> int:
    """Return the parameters of the output projection, whose gradient is a block's first."""
    shape = setup.shape
    fused = shape.num_experts if setup.fused_experts else 1
    return shape.hidden_size * shape.intermediate_size * max(1, fused)


def _recomputed(setup: Setup) -> float:
    """Return all but the MLP: norms, attention, adapters' inputs, scores, residual gradients."""
    shape = setup.shape
    h = shape.hidden_size
    total = activations.norms_bytes(setup) + activations.attention_bytes(setup)
    total += activations.targets_bytes(setup)
    total += activations.kept_scores_bytes(setup) + running_scores_bytes(setup)
    total += 4.0 * shape.head_dim + 16.0  # rotary embeddings
    total += 2.0 * h  # gradient of the block's output
    if shape.post_norms and not shape.pre_norms and activations.shares_inputs(setup):
        total -= 2.0 * h  # attention reads the checkpoint itself
    if setup.reentrant:
        total += 2.0 * h
    if setup.residual_bytes == 4:
        # The norms' outputs and the gradient in fp32; with everything in it, the gradient alone.
        total += 4.0 * h if setup.number_bytes == 2 else 2.0 * h
    return total


def _mlp_widest(setup: Setup) -> float:
    """Return the MLP's saved tensors and the gradients alive at its widest point.

    Before transformers 5 a block's experts ran one by one, so that gradients existed for one of
    them at a time; fused ones run together, and hold four tensors of all copies of the input.
    """
    shape = setup.shape
    per_width = (6.0 if shape.gated else 3.0) * setup.number_bytes
    if shape.composed_gelu:
        per_width += 3.0 * setup.number_bytes
    if not shape.num_experts:
        return per_width * shape.intermediate_size
    shared = per_width * shape.shared_width
    half = per_width / 2
    k = shape.experts_per_token
    if setup.fused_experts:
        in_order = 4.0 * setup.number_bytes * k * shape.hidden_size
        gradients = half * shape.intermediate_size * k
        return shared + half * shape.intermediate_size * k + max(gradients, in_order)
    return shared + half * shape.intermediate_size * (k + 1)


def _adapted_mlp(setup: Setup) -> float:
    """Adapters on the MLP move the peak to where their inputs and gradients meet."""
    shape = setup.shape
    if setup.method == "full":
        return 0.0
    if not setup.casts_inputs:
        # The output projection's input is among the 12i already.
        output = activations.adapts(setup, activations.MLP_OUTPUTS)
        shared = output and shape.gated and not setup.dropout
        return -float(setup.number_bytes * shape.intermediate_size) if shared else 0.0
    if not activations.adapts(setup, activations.MLP_INPUTS):
        return 0.0
    if setup.autocast and not shape.gated:
        # The forward pass is wider: the output projection's input in fp32, and LayerNorm's output.
        return 2.0 * shape.intermediate_size + 10.0 * shape.hidden_size
    if setup.autocast:
        return 8.0 * shape.hidden_size
    return 10.0 * shape.hidden_size - 2.0 * shape.intermediate_size


def _norm_backward(setup: Setup) -> float:
    shape = setup.shape
    fused = setup.fused_kernels or shape.layer_norms
    return (FUSED_NORM_BACKWARD if fused else RMS_BACKWARD) * shape.hidden_size
