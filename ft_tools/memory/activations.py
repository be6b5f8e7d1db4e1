"""Bytes per token that a block saves for its backward pass.

Symbols: h hidden size, q and kv widths of all query and key heads, nq and nkv their numbers, d
width of a head, i intermediate size, k experts a token passes, r rank. All numbers are bytes for
one token of one block.

Source: counted tensor by tensor in the modules of transformers 5.24, checked by fake-tensor
traces and against fms-acceleration's measurements; benchmarks/trace.json has the differences.
"""

from ft_tools.memory.setup import Setup
from ft_tools.models.shape import Linear

# What the textbook eager kernel keeps from the forward pass per head and key: the softmax in fp32,
# and a 16-bit copy where the residual is of 16 bits. Traced.
EAGER_KEPT = 6.0
EAGER_KEPT_FP32_RESIDUAL = 4.0
# The matrices that read a tensor of their own; all others read the attention's input.
MLP_INPUTS = {"gate_proj", "up_proj", "gate_up_proj", "fc1", "dense_h_to_4h", "c_fc", "mlp.c_fc"}
MLP_OUTPUTS = {"down_proj", "fc2", "dense_4h_to_h", "c_proj", "mlp.c_proj"}
FUSED_ATTENTION = {"qkv_proj"}
ATTENTION_OUTPUTS = {"o_proj", "dense", "attn.c_proj"}


def checkpoint_bytes(setup: Setup) -> float:
    """Return what gradient checkpointing stores for one block: its input."""
    return float(setup.shape.hidden_size * setup.residual_bytes)


def retained_bytes(setup: Setup) -> float:
    """Return the gradient per token that FSDP 1 retains over all blocks; 0 elsewhere.

    With a frozen base and reentrant checkpointing it keeps the gradient of each block's input:
    60.0 h bytes per token for 32 blocks, in three independent pairs of measured runs.
    """
    if not setup.reentrant or setup.method == "full":
        return 0.0
    return 2.0 * setup.shape.hidden_size * (setup.shape.num_layers - 2)


def saved_bytes(setup: Setup) -> float:
    """Return what one block saves for the backward pass without checkpointing.

    full: 16h + 4q + 4kv + 4nq + 8i + 8; adapters: 8h + 8 + 4q + 4kv + 4nq + 6i + targets.
    """
    total = norms_bytes(setup) + attention_bytes(setup) + targets_bytes(setup)
    total += mlp_bytes(setup)
    if setup.residual_bytes == 4 and setup.number_bytes == 2:
        total += 4.0 * setup.shape.hidden_size
    return total


def unsaved_bytes(setup: Setup) -> float:
    """Return what the first block does not save: under adapters its input needs no gradient."""
    if setup.method == "full" or setup.checkpointing:
        return 0.0
    return _norm_input_bytes(setup) * setup.shape.hidden_size


def mlp_bytes(setup: Setup) -> float:
    """Return what the MLP saves: gate, up and their activation, or its one pre-activation.

    Where all weights train, the output projection's input too. A mixture's router needs each
    expert's output, 2kh, and a fused one where all weights train its input in expert order.
    """
    shape = setup.shape
    per_width = 3.0 if shape.gated else 1.0
    if shape.composed_gelu:
        per_width += 3.0  # 0.5 x, the hyperbolic tangent, and that plus one
    if setup.method == "full":
        per_width += 1.0
    total = per_width * mlp_width(setup)
    if shape.num_experts and setup.fused_experts:
        per_expert = 2.0 if setup.method == "full" else 1.0
        total += per_expert * shape.experts_per_token * shape.hidden_size
    return setup.number_bytes * total


def mlp_width(setup: Setup) -> float:
    """Return the intermediate widths that a token passes, over all its experts."""
    shape = setup.shape
    routed = max(1, shape.experts_per_token) * shape.intermediate_size
    return float(routed + shape.shared_width)


def kept_scores_bytes(setup: Setup) -> float:
    """Return what attention scores add to a block's saved bytes per token; 0 with flash.

    A padding mask makes transformers repeat keys and values for every query head in SDPA too.
    """
    shape = setup.shape
    repeated = 2.0 * setup.number_bytes * (shape.q_width - shape.kv_width)
    if setup.attention == "eager":
        per_score = EAGER_KEPT_FP32_RESIDUAL if setup.residual_bytes == 4 else EAGER_KEPT
        return per_score * shape.num_heads * setup.rows[1] + repeated
    return repeated if setup.repeats_kv else 0.0


def mask_bytes(setup: Setup, num_kept: int = 1) -> float:
    """Return SDPA's mask: a boolean for each pair of positions, and the copies of it in numbers.

    Each call makes one in the queries' numbers and keeps it for the backward pass. Packed examples
    are one row, so that pairs grow with the square of all tokens in a pass.

    Source: transformers 5.24, masking_utils.create_causal_mask; PyTorch 2.13,
    aten/src/ATen/native/transformers/attention.cpp, convert_boolean_attn_mask.
    """
    if setup.attention == "flash" or not (setup.padded or setup.packed):
        return 0.0
    num_rows, length = setup.rows
    pairs = float(num_rows * length**2)
    if setup.attention == "eager":
        # Padding was measured with the scores; a packed row's mask is one in the model's numbers.
        return 2.0 * pairs if setup.packed else 0.0
    in_16_bits = setup.autocast or setup.residual_bytes == 2
    return pairs * (1.0 + num_kept * (2.0 if in_16_bits else 4.0))


def norms_bytes(setup: Setup) -> float:
    """Return what the norms save: each its input, and a trained one also what it scales."""
    shape = setup.shape
    per_norm = _norm_input_bytes(setup)
    scaled = 0.0
    if setup.method == "full" and not shape.layer_norms:
        scaled = 4.0 if shape.fp32_norms else float(setup.number_bytes)
    fused = 2.0 if setup.fused_kernels else 0.0
    total = shape.num_norms * ((per_norm + scaled - fused) * shape.hidden_size + 4)
    if shape.normed_width:
        total += (4.0 + scaled) * shape.normed_width
        total += 4.0 * (shape.num_heads + shape.num_kv_heads)
    return total


def _norm_input_bytes(setup: Setup) -> float:
    """An RMSNorm works in fp32; a LayerNorm does under autocast."""
    return 2.0 if setup.shape.layer_norms and not setup.autocast else 4.0


def attention_bytes(setup: Setup) -> float:
    """Return queries, keys, values and output, and a 4-byte log-sum per head.

    Values that are a slice of a fused projection keep all of it alive.
    """
    shape = setup.shape
    width = 2.0 * (shape.q_width + shape.kv_width)
    if any(linear.name in FUSED_ATTENTION for linear in shape.linears):
        width += shape.q_width + shape.kv_width
    return setup.number_bytes * width + 4.0 * shape.num_heads


def targets_bytes(setup: Setup) -> float:
    """Return what the adapters of a block save: inputs, dropout masks, and A's outputs.

    fp32 adapters without autocast cast each input to 4 bytes; with autocast each keeps a 2-byte
    copy of its own; bf16 adapters, and those over a quantized base under autocast, share their
    input with whatever reads the same tensor.
    """
    if setup.method == "full":
        # q, k, v share one input; gate and up another.
        return 2.0 * setup.number_bytes * setup.shape.hidden_size
    wide = setup.adapter_bytes == 4 and not setup.autocast
    own_copy = setup.casts_inputs or setup.dropout
    total = 0.0
    seen: set[str] = set()
    for target in (m for m in setup.targets if m.copies == 1):
        source = _input_of(target)
        if own_copy or source not in seen:
            kept = source == "attention_output" and not own_copy
            total += 0.0 if kept else (4.0 if wide else 2.0) * target.d_in
        seen.add(source)
        if setup.dropout:
            total += 1.0 * target.d_in
        total += (4.0 if wide else 2.0) * setup.rank
    return total


def shares_inputs(setup: Setup) -> bool:
    """Return whether adapters read the very tensors that other layers read."""
    return setup.method != "full" and not setup.casts_inputs and not setup.dropout


def adapts(setup: Setup, names: set[str]) -> bool:
    """Return whether one of these modules has an adapter."""
    return any(_plain_name(target) in names for target in setup.targets)


def _plain_name(target: Linear) -> str:
    return target.name.removeprefix("shared_expert.")


def _input_of(target: Linear) -> str:
    name = _plain_name(target)
    if name in MLP_OUTPUTS:
        return "mlp_product"
    if name in MLP_INPUTS:
        return "mlp_input"
    return "attention_output" if name in ATTENTION_OUTPUTS else "attention_input"
