"""Bytes of a training step on a Mac: MLX computes base and adapters, PyTorch holds their states.

Processor and GPU share one memory, so both count. Symbols: h hidden size, q and kv widths of all
query and key heads, i intermediate size, L blocks, V vocabulary, T tokens per pass. Activation
numbers are bytes for one token.

Source: `mx.get_peak_memory` of this engine's own steps on MLX 0.32.4's CPU backend (`python -m
benchmarks.apple` prints how far off these formulas are there, and for peaks that others published
from Macs). Metal's kernels were not measured by this project.
"""

from typing import NamedTuple

from ft_tools.memory import activations
from ft_tools.memory.setup import Setup

Components = dict[str, float]
# MLX's affine quantization: 4 bits, and a 16-bit scale and bias for 64 weights; embedding and head
# too. Source: mlx.core.quantize, and mlx-lm's quantize_model.
QUANTIZED_BYTES = 0.5 + 4 / 64
# PyTorch's side of an adapter: the weight, its gradient and AdamW's two moments in float32; MLX's:
# a copy of the weight, and its gradient.
ADAPTER_BYTES = 16 + 8
# Logits are turned into float32 so many at a time, and take so much then.
CHUNK = 2**22
CHUNK_BYTES = 33.0
# What a block's input takes that gradient checkpointing keeps.
CHECKPOINT_BYTES = 5.33
# The last block's transients without checkpointing, of i + h.
TRANSIENT_BYTES = 32.0


class Widths(NamedTuple):
    """Bytes per token and unit of width, of one block in float32."""

    i: float
    h: float
    heads: float
    in_16_bits: float
    """What 16-bit weights take of that: adapters and norms compute in float32 all the same."""

    def of(self, setup: Setup) -> float:
        """Return the bytes of one token."""
        shape = setup.shape
        width = activations.mlp_width(setup)
        attention = self.heads * (shape.q_width + shape.kv_width)
        whole = self.i * width + self.h * shape.hidden_size + attention
        return whole if setup.weight_bytes == 4 else whole * self.in_16_bits


# By whether the MLP has adapters too. Least squares over 26 runs, each within 3%.
KEPT = {True: Widths(18.9, 18.3, 10.4, 0.81), False: Widths(13.5, 14.7, 8.4, 0.69)}
RECOMPUTED = {True: Widths(74.8, 52.7, 28.3, 0.88), False: Widths(42.2, 26.4, 53.1, 0.75)}


def phases(setup: Setup, head_bytes: float | None = None) -> dict[str, Components]:
    """Return what is alive in each phase of a step; `head_bytes` of another trainer."""
    on_mlp = activations.adapts(setup, activations.MLP_INPUTS | activations.MLP_OUTPUTS)
    tokens, blocks = setup.tokens, setup.shape.num_layers
    head = _head(setup) if head_bytes is None else head_bytes
    resident = _resident(setup)
    half = 1.0 if setup.weight_bytes == 4 else 0.5
    if setup.checkpointing:
        saved = half * CHECKPOINT_BYTES * setup.shape.hidden_size * blocks * tokens
        working = RECOMPUTED[on_mlp].of(setup) * tokens
    else:
        saved = KEPT[on_mlp].of(setup) * blocks * tokens
        shape = setup.shape
        width = activations.mlp_width(setup) + shape.hidden_size
        working = half * TRANSIENT_BYTES * width * tokens
    return {
        "loss": resident | {"saved_activations": saved, "loss_head": head},
        "backward": resident | {"saved_activations": saved, "block_working_set": working},
    }


def _resident(setup: Setup) -> Components:
    """Return weights and adapters; embedding and head are quantized too."""
    per_weight = QUANTIZED_BYTES if setup.quantization is not None else setup.weight_bytes
    return {
        "base_weights": float(setup.shape.total_params * per_weight),
        "adapter_states": float(setup.trainable_params * ADAPTER_BYTES),
    }


def _head(setup: Setup) -> float:
    """Return the logits and their gradient in the weights' type, and a chunk of them in float32."""
    logits = setup.tokens * setup.shape.vocab_size
    return 2.0 * setup.weight_bytes * logits + CHUNK_BYTES * min(CHUNK, logits)
