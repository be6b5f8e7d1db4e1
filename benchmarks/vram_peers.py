"""Public estimators of training memory, each from the rule that it publishes.

They take what they ask for, so a rule that knows no batch or sequence gives one number for all.
Each returns GiB per GPU, or None for a setup that it does not claim to cover. fitcheck-llm is asked
itself, where it is installed (`pip install fitcheck-llm`).
"""

from collections.abc import Callable

from ft_tools.memory.setup import Setup

try:
    import fitcheck
except ImportError:
    fitcheck = None

GIB = 2**30
BILLION_GB = 1e9 / GIB
Estimator = Callable[[Setup], float | None]


def llama_factory(setup: Setup) -> float | None:
    """LLaMA-Factory README, "Hardware Requirement": 8, 2 and 0.5 GB per billion parameters.

    18 GB where an fp32 master copy is kept.
    """
    billions = setup.shape.total_params / 1e9
    per_billion = {"full": 8.0, "lora": 2.0, "qlora": 0.5}[setup.method]
    if setup.method == "full" and setup.trainable_bytes == 4:
        per_billion = 18.0
    return per_billion * billions * BILLION_GB / setup.num_gpus


def accelerate(setup: Setup) -> float | None:
    """Accelerate's estimate-memory: training with Adam takes four times the model."""
    if setup.method != "full":
        return None
    return 4 * setup.shape.total_params * setup.weight_bytes / GIB / setup.num_gpus


def deepspeed(setup: Setup) -> float | None:
    """DeepSpeed's estimate_zero3_model_states_mem_needs: 18 P / N and 4 bytes of a layer."""
    if setup.method != "full":
        return None
    states = 18 * setup.shape.total_params / setup.num_gpus
    return (states + 4 * setup.shape.layer_params) / GIB


def eleuther(setup: Setup) -> float | None:
    """EleutherAI's calc_transformer_mem: 2 + 4 + 12 bytes a parameter, activations, 5 GiB.

    Activations are 2 s b h bytes a block with recomputation and 34 s b h without.
    """
    if setup.method != "full":
        return None
    shape = setup.shape
    states = 18 * shape.total_params / setup.num_gpus
    per_token = (2 if setup.checkpointing else 34) * shape.hidden_size * shape.num_layers
    return (states + per_token * setup.tokens) / GIB + 5


def train_memory(setup: Setup) -> float | None:
    """Hugging Face's train_memory post: activations from a line fitted to eight models.

    Model, optimizer, and the larger of gradients and activations; 4.6894e-4 N + 1.8494e6 bytes
    of activation a token, with N parameters.
    """
    if setup.method != "full":
        return None
    params = setup.shape.total_params
    of_params = params * setup.trainable_bytes / setup.num_gpus
    activations = (4.6894e-4 * params + 1.8494e6) * setup.tokens
    return (3 * of_params + max(of_params, activations)) / GIB


def unsloth_studio(setup: Setup) -> float | None:
    """Unsloth Studio's vram_estimation.py: weights, states, and two layers of activations.

    Activations are (S B (h + 2 kv) + 2 S B + 2 S B i) * 2 * 1.25 bytes, and gradients at least 15%
    of the weights; 1.4 GB for CUDA is left out, as allocations are compared.
    """
    shape = setup.shape
    per_weight = {"full": 2.0, "lora": 2.0, "qlora": 0.516}[setup.method]
    weights = shape.total_params * per_weight / setup.num_gpus
    trainable = setup.trainable_params / setup.num_gpus
    width = shape.hidden_size + 2 * shape.kv_width + 2 + 2 * shape.intermediate_size
    activations = setup.tokens * width * 2 * 1.25
    gradients = max(2.0 * trainable, 0.15 * weights)
    return (weights + gradients + 4.0 * trainable + activations) / GIB


def fitcheck_llm(setup: Setup) -> float | None:
    """fitcheck-llm's own estimate of the package, less what it adds for CUDA and fragmentation.

    For one GPU, a dense model and full logits; set from its own runs on a T4, which are among the
    rows.
    """
    shape = setup.shape
    if setup.num_gpus > 1 or shape.num_experts or setup.head != "full_logits":
        return None
    model = fitcheck.ModelConfig(
        name=shape.name, num_params=shape.total_params, hidden_size=shape.hidden_size,
        num_layers=shape.num_layers, num_attention_heads=shape.num_heads,
        num_kv_heads=shape.num_kv_heads, intermediate_size=shape.intermediate_size,
        vocab_size=shape.vocab_size, head_dim=shape.head_dim, tie_word_embeddings=shape.tied,
    )  # fmt: skip
    training = fitcheck.TrainingConfig(
        precision={"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}[setup.dtype],
        quantization="nf4" if setup.method == "qlora" else "none",
        batch_size=setup.micro_batch,
        seq_len=setup.seq_len,
        lora_rank=setup.rank if setup.method != "full" else None,
        lora_targets=[target.name for target in setup.targets],
        grad_checkpoint=setup.checkpointing,
        flash_attn=setup.attention != "eager",
    )
    try:
        found = fitcheck.estimate(model, training, fitcheck.get_gpu("t4"))
    except ValueError:
        return None
    return (found.total_mib - found.overhead_mib) / 1024


PEERS: dict[str, Estimator] = {
    "LLaMA-Factory table": llama_factory,
    "Unsloth Studio rule": unsloth_studio,
    "accelerate x4": accelerate,
    "DeepSpeed ZeRO-3 rule": deepspeed,
    "EleutherAI rule": eleuther,
    "HF train_memory post": train_memory,
}
if fitcheck is not None:
    PEERS["fitcheck-llm"] = fitcheck_llm
