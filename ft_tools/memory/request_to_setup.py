"""From a request to a Setup: what the libraries do where the caller left it open."""

import re
from dataclasses import replace

from ft_tools import facts
from ft_tools.errors import BadInput
from ft_tools.memory import traced
from ft_tools.memory.bounds import by_card
from ft_tools.memory.request import VramRequest, has_trl_head, version
from ft_tools.memory.setup import DTYPE_BYTES, Quantization, Setup, Sharding
from ft_tools.models.adapter_targets import default_targets, peft_arguments, require_experts
from ft_tools.models.quantized import DEQUANTIZED, INSTEAD
from ft_tools.models.shape import ALL_LINEAR, Linear, ModelShape

DEFAULT_RANK = 16
MIB = 2**20
# cuBLAS keeps a workspace for each of the two threads. Measured: 16.25 MiB on A100 (fms), 8.125
# on T4 (fitcheck); Hopper and later are set to 32 MiB a thread by PyTorch's CUDABlas.cpp.
WORKSPACE_MIB = {"T4": 8.125, "V100": 8.125, "H100": 64.0, "H200": 64.0, "GH200": 64.0}
DEFAULT_WORKSPACE_MIB = 16.25
# How large the weights of a quantized checkpoint are; AWQ's as GPTQ's, groups of 128.
STORED: dict[str, Quantization] = {
    "bnb_4bit": "nf4_double",
    "bnb_8bit": "int8",
    "gptq": "gptq4",
    "awq": "gptq4",
}


def setup_of(request: VramRequest, shape: ModelShape) -> Setup:
    """Decide everything that the request left to the libraries.

    Raises:
        BadInput: No module of the model has one of the target names.
    """
    adapters, is_dpo = request.method != "full", request.task == "dpo"
    transformers = version(request.transformers_version)
    is_old, is_new = transformers < (4, 46), transformers >= (5, 0)
    quantization = _quantization(request, shape)
    quantized = quantization is not None
    # Before transformers 5 `fsdp` meant version 1, which ran reentrant by default.
    sharding: Sharding = request.sharding
    sharding = "fsdp1" if sharding == "fsdp" and not is_new else sharding
    head = request.loss_head
    if head == "auto":
        head = "trl_fused" if has_trl_head(request.trl_version) else "full_logits"
    on_apple = request.gpu is not None and facts.gpu(request.gpu).is_apple
    setup = Setup(
        shape=shape,
        method=request.method,
        task=request.task,
        seq_len=request.seq_len,
        micro_batch=request.micro_batch,
        rank=(request.lora_rank or DEFAULT_RANK) if adapters else 0,
        targets=_targets(request, shape) if adapters else (),
        target_modules=_modules(request, shape) if adapters else (),
        target_parameters=request.target_parameters if adapters else (),
        dtype=request.dtype,
        quantization=quantization,
        experts_quantized=quantized and not is_new,
        fused_experts=is_new,
        # Falcon's linear layers are a class of its own; transformers 5 quantizes nn.Linear only.
        linears_quantized=quantized and not (is_new and shape.model_type == "falcon"),
        residual_bytes=4 if request.kbit_prepared or request.dtype == "float32" else 2,
        adapter_bytes=DTYPE_BYTES[request.adapter_dtype],
        autocast=request.mixed_precision,
        dropout=request.lora_dropout > 0,
        fused_kernels=request.fused_kernels,
        checkpointing=request.gradient_checkpointing,
        attention=request.attention,
        padded=request.padded_batches,
        packed=request.packed_batches,
        head="full_logits_old" if head == "full_logits" and is_old else head,
        fused_logits_bytes=8 if is_old else 10,
        optimizer=request.optimizer,
        accumulation=request.gradient_accumulation_steps,
        reference_model=is_dpo and not adapters and not request.precompute_ref_log_probs,
        num_gpus=request.num_gpus,
        sharding=sharding,
        workspace_bytes=round(by_card(WORKSPACE_MIB, request.gpu, DEFAULT_WORKSPACE_MIB) * MIB),
        generated=request.generated if request.task == "grpo" else 0,
        prompt_len=request.prompt_len or request.seq_len // 2,
        engine="mlx" if on_apple else "torch",
    )
    if setup.engine == "mlx":
        _require_mlx(setup)
        return setup
    if not shape.is_described:
        return setup
    profile, untraced = traced.profile_of(setup, shape.config)
    return replace(setup, profile=profile, untraced=untraced)


def _require_mlx(setup: Setup) -> None:
    """Refuse what is not trained on a Mac.

    Raises:
        BadInput: All weights are trained, or several Macs are to share a run.
    """
    if setup.method == "full":
        raise BadInput("method 'full': MLX trains adapters only on a Mac; use 'lora' or 'qlora'")
    if setup.num_gpus > 1:
        raise BadInput(f"num_gpus={setup.num_gpus}: a run uses one Mac; pass num_gpus=1")
    if setup.generated:
        raise BadInput("task 'grpo': launch_grpo trains with torch, which no Mac's GPU runs here")
    if setup.shape.quantized:
        raise BadInput(
            f"{setup.shape.name} is quantized already ({setup.shape.quantized}), which MLX does "
            f"not load here; {INSTEAD}, with method 'qlora'"
        )


def _quantization(request: VramRequest, shape: ModelShape) -> Quantization | None:
    """Return how the base's linear layers are quantized: as asked for, or as the checkpoint is.

    Raises:
        BadInput: A quantized checkpoint cannot be trained in that way.
    """
    if not shape.quantized:
        return (request.quantization or "nf4_double") if request.method == "qlora" else None
    of_it = f"{shape.name} is quantized already ({shape.quantized})"
    if shape.quantized == "other":
        raise BadInput(f"{of_it}, in a way that transformers does not train; {INSTEAD}")
    if shape.quantized in DEQUANTIZED:
        if request.method == "qlora":
            raise BadInput(
                f"{of_it}, so bitsandbytes cannot quantize it again: it is loaded in 16 bits; use "
                f"method 'lora', or {INSTEAD}"
            )
        return None
    if request.method == "full":
        raise BadInput(f"{of_it}: its weights cannot be trained; use method 'qlora', or {INSTEAD}")
    return STORED[shape.quantized]


def _targets(request: VramRequest, shape: ModelShape) -> tuple[Linear, ...]:
    names = ALL_LINEAR if request.target_modules is None else request.target_modules
    try:
        re.compile(names if isinstance(names, str) else "")
    except re.error as error:
        raise BadInput(f"target_modules {names!r} is not a valid pattern ({error})") from error
    require_experts(shape, request.target_parameters)
    found = shape.targets(names, request.target_parameters)
    wanted = () if names == ALL_LINEAR else (names,) if isinstance(names, str) else names
    unknown = [name for name in wanted if not shape.targets(name)]
    if unknown or not found:
        known = ", ".join(linear.name for linear in shape.linears)
        raise BadInput(
            f"target_modules {', '.join(unknown)}: {shape.name} ({shape.model_type}) has no such "
            f"module; use some of {known}, or {ALL_LINEAR!r}"
        )
    return found


def _modules(request: VramRequest, shape: ModelShape) -> str | tuple[str, ...]:
    """Return the modules as PEFT is told them, which means more by "all-linear" in some models.

    What "all-linear" means is traced once, also where a suggestion names the same modules.
    """
    asked = ALL_LINEAR if request.target_modules is None else request.target_modules
    if asked != ALL_LINEAR and asked == default_targets(shape).modules:
        asked = ALL_LINEAR
    names: str | list[str] | tuple[str, ...] = peft_arguments(shape, asked)["target_modules"]
    return names if isinstance(names, str) else tuple(names)
