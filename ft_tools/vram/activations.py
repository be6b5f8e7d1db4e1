"""Bytes per token that a block saves for its backward pass, and needs while it runs one.

Symbols: h hidden size, q and kv widths of all query and key heads, nq and nkv their numbers, d
width of a head, i intermediate size, r rank. All numbers are bytes for one token of one block.

Source: counted tensor by tensor in the modules of transformers 5.24, checked by fake-tensor
traces and against fms-acceleration's measurements; references/memory.md has the table.
"""

from ft_tools.models.shape import Linear
from ft_tools.vram.setup import Setup

# What the textbook eager kernel keeps per head and key: scores, their softmax in fp32 and cast,
# and the gradients of those. Set from the eager rows of fitcheck-llm 0.3.1 (T4).
EAGER_BYTES = 14.3
EAGER_BYTES_FP32_RESIDUAL = 17.3
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
    keeps = setup.sharding == "fsdp1" and setup.method != "full" and setup.reentrant
    if not (keeps and setup.checkpointing):
        return 0.0
    return 2.0 * setup.shape.hidden_size * (setup.shape.num_layers - 2)


def saved_bytes(setup: Setup) -> float:
    """Return what one block saves for the backward pass without checkpointing.

    full: 16h + 4q + 4kv + 4nq + 8i + 8; adapters: 8h + 8 + 4q + 4kv + 4nq + 6i + targets.
    Norms of q and k: 6 (q + kv) where all weights train, else 4 (q + kv).
    """
    shape = setup.shape
    total = _norms(setup) + _attention(setup) + _targets(setup)
    if setup.method != "full":
        total -= 2.0 * shape.normed_width  # what a frozen norm scales is not kept
    per_width = 6.0 if shape.gated else 2.0
    if setup.method == "full":
        per_width += 2.0  # the output projection's input, for the gradient of its weight
    total += per_width * _mlp_width(setup)
    if setup.residual_bytes == 4:
        total += 4.0 * shape.hidden_size
    return total


def working_bytes(setup: Setup) -> float:
    """Return what recomputing one block and running its backward pass needs at its peak.

    It is what the block saves, and the gradients that are alive at the widest point of the MLP.
    """
    shape = setup.shape
    h = shape.hidden_size
    total = _norms(setup) + _attention(setup) + _targets(setup) + _rope(setup)
    total += 2.0 * h  # gradient of the block's output
    total += (12.0 if shape.gated else 6.0) * shape.shared_width
    if shape.num_experts:
        # All chosen experts' tensors are saved; gradients exist for one of them at a time.
        per_expert = 6.0 if shape.gated else 3.0
        total += per_expert * shape.intermediate_size * (shape.experts_per_token + 1)
    else:
        total += (12.0 if shape.gated else 6.0) * shape.intermediate_size
    total += _adapted_mlp(setup)
    if setup.reentrant:
        total += 2.0 * h
    if setup.residual_bytes == 4:
        total += 4.0 * h
    return total


def backward_bytes(setup: Setup) -> float:
    """Return the gradients alive in one block's backward pass, beyond what it saved.

    Where all weights train, what a block saved is freed as fast as gradients appear.
    """
    if setup.method == "full":
        return 0.0
    shape = setup.shape
    width = shape.intermediate_size + shape.shared_width
    return 2.0 * shape.hidden_size + (6.0 if shape.gated else 4.0) * width


def forward_bytes(setup: Setup) -> float:
    """Return what the forward pass of one block holds for a moment beyond what it saves.

    An fp32 adapter casts the output projection's input to fp32 before it is multiplied.
    """
    wide = setup.adapter_bytes == 4 and _adapts(setup, MLP_OUTPUTS)
    return 4.0 * setup.shape.intermediate_size if wide else 0.0


def attention_scores_bytes(setup: Setup) -> float:
    """Return what scores and masks add per token; flash and packed SDPA have none of it.

    A padding mask makes transformers repeat keys and values for every query head, and is itself
    a square of the sequence length.
    """
    shape = setup.shape
    repeated = 4.0 * (shape.q_width - shape.kv_width)
    if setup.attention == "eager":
        per_score = EAGER_BYTES_FP32_RESIDUAL if setup.residual_bytes == 4 else EAGER_BYTES
        return per_score * shape.num_heads * setup.seq_len + repeated
    if setup.attention == "sdpa" and setup.padded:
        return repeated
    return 0.0


def mask_bytes(setup: Setup) -> float:
    """Return the padding mask of SDPA: one 16-bit number per pair of positions."""
    if setup.attention == "sdpa" and setup.padded:
        return 2.0 * setup.sequences * setup.seq_len**2
    return 0.0


def _norms(setup: Setup) -> float:
    """Each norm keeps its input in fp32; a trained one also what it scales."""
    shape = setup.shape
    per_norm = 6.0 if setup.method == "full" else 4.0
    if setup.method == "full" and shape.model_type.startswith("gemma"):
        per_norm += 2.0  # Gemma scales in fp32
    if setup.fused_kernels:
        per_norm -= 2.0
    total = shape.num_norms * (per_norm * shape.hidden_size + 4)
    if shape.normed_width:
        total += 6.0 * shape.normed_width + 4.0 * (shape.num_heads + shape.num_kv_heads)
    return total


def _attention(setup: Setup) -> float:
    """Queries, keys, values and output in 2 bytes, and a 4-byte log-sum per head.

    Values that are a slice of a fused projection keep all of it alive.
    """
    shape = setup.shape
    kept = 4.0 * shape.q_width + 4.0 * shape.kv_width + 4.0 * shape.num_heads
    if any(linear.name in FUSED_ATTENTION for linear in shape.linears):
        kept += 2.0 * shape.q_width + 2.0 * shape.kv_width
    return kept


def _rope(setup: Setup) -> float:
    return 4.0 * setup.shape.head_dim + 16.0


def _mlp_width(setup: Setup) -> float:
    shape = setup.shape
    routed = max(1, shape.experts_per_token) * shape.intermediate_size
    return float(routed + shape.shared_width)


def _targets(setup: Setup) -> float:
    """What the adapters of one block save: their inputs, dropout masks, and A's outputs.

    fp32 adapters without autocast cast each input to 4 bytes; with autocast each keeps a 2-byte
    copy of its own; bf16 adapters share their input with whatever reads the same tensor.
    """
    if setup.method == "full":
        return 4.0 * setup.shape.hidden_size  # q, k, v share one input; gate and up another
    wide = setup.adapter_bytes == 4 and not setup.autocast
    own_copy = setup.adapter_bytes == 4 or setup.dropout
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


def _adapted_mlp(setup: Setup) -> float:
    """Adapters on the MLP move the peak to where their inputs and gradients meet."""
    shape = setup.shape
    if setup.adapter_bytes == 2:
        # The output projection's input is among the 12i already.
        shared = _adapts(setup, MLP_OUTPUTS) and not setup.dropout
        return -2.0 * shape.intermediate_size if shared else 0.0
    if not _adapts(setup, MLP_INPUTS):
        return 0.0
    if setup.autocast:
        return 8.0 * shape.hidden_size
    return 10.0 * shape.hidden_size - 2.0 * shape.intermediate_size


def _adapts(setup: Setup, names: set[str]) -> bool:
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
