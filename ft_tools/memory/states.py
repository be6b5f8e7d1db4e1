"""Bytes that live from step to step: weights, adapters, gradients, optimizer, and their shards."""

from ft_tools.memory.setup import Setup

# bitsandbytes NF4: half a byte, and a 4-byte absmax per block of 64; double quantization stores
# the absmax in one byte with a 4-byte scale per 256 of them. GPTQ: groups of 128 with a 16-bit
# scale and a 4-bit zero point, or one group a column. int8: one byte; fp16 outliers come extra.
# Source: https://github.com/bitsandbytes-foundation/bitsandbytes (functional.py),
# https://arxiv.org/abs/2305.14314 section 3, https://arxiv.org/abs/2210.17323
QUANTIZED_BYTES = {
    "nf4": 0.5 + 4 / 64,
    "nf4_double": 0.5 + 1 / 64 + 4 / (64 * 256),
    "gptq4": 0.5 + 2.5 / 128,
    "gptq4_column": 0.5,
    "int8": 1.0,
}
# Moments per trainable parameter, in units of the parameter's own bytes.
MOMENTS = {
    "adamw_torch": 2.0,
    "adamw_torch_fused": 2.0,
    "paged_adamw_32bit": 0.0,
    "paged_adamw_8bit": 0.0,
    "sgd": 0.0,
    "adafactor": 0.0,
}
# Two 1-byte moments, and an 8-byte pair of scales per block of 256. Embeddings keep 32 bits.
# Source: bitsandbytes optim/optimizer.py; transformers trainer.py registers the override.
EIGHT_BIT_BYTES = 2 + 8 / 256
EIGHT_BIT_EMBEDDING_BYTES = 8
# torch's foreach AdamW holds one temporary list of the parameters' size in its step.
FOREACH = {"adamw_torch"}
FSDP = {"fsdp", "fsdp1"}


def base_weight_bytes(setup: Setup) -> float:
    """Return the bytes of the base model's weights, before sharding.

    Quantization covers the block's nn.Linear weights (and the experts, where they are modules);
    embedding, head, norms and biases stay as loaded, or fp32 after kbit preparation.
    """
    shape = setup.shape
    if setup.quantization is None:
        return float(shape.total_params * setup.weight_bytes)
    quantized = shape.linear_weights if setup.linears_quantized else 0
    if setup.experts_quantized:
        quantized += shape.expert_weights
    kept = shape.total_params - quantized
    return quantized * QUANTIZED_BYTES[setup.quantization] + kept * setup.residual_bytes


def optimizer_bytes(setup: Setup) -> float:
    """Return the bytes of the optimizer's state, before sharding.

    AdamW keeps two moments in the parameter's own type: 8 bytes for an fp32 parameter, 4 for
    bf16. Paged states can spill to the host and are not counted. Adafactor keeps row and column
    statistics only.
    """
    trainable = setup.trainable_params
    if setup.optimizer == "adamw_8bit":
        embedding = setup.shape.embedding_params if setup.method == "full" else 0
        rest = trainable - embedding
        return rest * EIGHT_BIT_BYTES + embedding * EIGHT_BIT_EMBEDDING_BYTES
    return trainable * setup.trainable_bytes * MOMENTS[setup.optimizer]


def resident_bytes(setup: Setup) -> dict[str, float]:
    """Return what stays on one GPU all through the step, by component, after sharding.

    FSDP keeps the trainable shards in fp32 under mixed precision.

    Source: its 20 bytes per parameter measured in fms-acceleration, references/memory.md.
    """
    n = setup.num_gpus
    base = base_weight_bytes(setup)
    trainable = setup.trainable_params
    adapters = 0.0 if setup.method == "full" else float(trainable * setup.adapter_bytes)
    states = optimizer_bytes(setup)
    if setup.sharding in FSDP:
        if setup.method == "full":
            base = float(trainable * setup.trainable_bytes)
        base, adapters, states = base / n, adapters / n, states / n
    components = {"base_weights": base}
    if adapters:
        components["adapter_weights"] = adapters
    if states:
        components["optimizer_states"] = states
    if setup.reference_model:
        whole = float(setup.shape.total_params * setup.weight_bytes)
        # TRL shards it as one unit: gathered for a pass, all of it is on each GPU, in 16 bits.
        # Source: TRL 1.16, models/utils.py, prepare_fsdp.
        gathered = float(setup.shape.total_params * setup.number_bytes)
        sharded = whole / n + gathered
        components["reference_weights"] = sharded if setup.sharding in FSDP else whole
    if setup.sharding == "ddp":
        components["ddp_buckets"] = float(trainable * setup.trainable_bytes)
    return components


def gradient_bytes(setup: Setup) -> float:
    """Return the bytes of all gradients on one GPU, after sharding."""
    whole = float(setup.trainable_params * setup.trainable_bytes)
    return whole / setup.num_gpus if setup.sharding in FSDP else whole


def step_temporary_bytes(setup: Setup) -> float:
    """Return what the optimizer step holds on top of states and gradients."""
    return gradient_bytes(setup) if setup.optimizer in FOREACH else 0.0


def expanded_bytes(setup: Setup) -> float:
    """Return a block's largest quantized weight, expanded to 16 bits for its product."""
    return 2.0 * max((linear.d_out * linear.d_in for linear in setup.shape.linears), default=0)


def cast_weight_bytes(setup: Setup) -> float:
    """Return the 16-bit copies of one block's fp32 weights that autocast makes for its products.

    The backward pass needs them, so blocks that recompute nothing keep them. FSDP gathers weights
    in 16 bits as it is.

    Source: fake-tensor traces of torch 2.13's autocast.
    """
    is_cast = setup.autocast and setup.dtype == "float32" and setup.quantization is None
    if not is_cast or setup.sharding in FSDP:
        return 0.0
    return 2.0 * (setup.shape.layer_linear_weights + setup.shape.layer_expert_weights)


def root_unit_bytes(setup: Setup) -> float:
    """Return the unsharded root unit of FSDP: embedding and head, gathered for the whole step."""
    if setup.sharding not in FSDP:
        return 0.0
    shape = setup.shape
    return float((shape.embedding_params + shape.head_params) * setup.residual_bytes)


def layer_unit_bytes(setup: Setup) -> float:
    """Return one block's weights, gathered for its forward and backward pass.

    One block is gathered at a time with a frozen base, and two (this one, and the next
    prefetched) when all weights train.
    """
    if setup.sharding not in FSDP:
        return 0.0
    shape = setup.shape
    linear = shape.layer_linear_weights if setup.linears_quantized else 0
    linear += shape.layer_expert_weights if setup.experts_quantized else 0
    kept = shape.layer_params - linear
    if setup.quantization is None:
        one = float(shape.layer_params * setup.weight_bytes)
    else:
        one = linear * QUANTIZED_BYTES[setup.quantization] + kept * setup.residual_bytes
    return one * (2 if setup.method == "full" else 1)
