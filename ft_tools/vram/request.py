"""What estimate_vram takes, and which combinations it refuses."""

from typing import Literal

from pydantic import Field, model_validator

from ft_tools.contract import Request
from ft_tools.models.shape import ALL_LINEAR
from ft_tools.vram.setup import Attention, Dtype, Method, Offload, Optimizer, Sharding, Task

SHAPE_KEYS = (
    "num_layers",
    "hidden_size",
    "intermediate_size",
    "num_heads",
    "num_kv_heads",
    "head_dim",
    "vocab_size",
    "tied_embeddings",
    "num_experts",
    "experts_per_token",
)
NEEDED_SHAPES = ("num_layers", "hidden_size", "intermediate_size", "num_heads", "vocab_size")
SHARDED = {"zero1", "zero2", "zero3", "fsdp", "fsdp1"}


class StepRequest(Request):
    """One training step on one GPU: what both the formulas and a trace are asked about."""

    model: str | None = Field(
        None,
        description="Catalog name or Hub id, folder or config.json in the workspace, or run id; "
        "leave it out to give the shapes instead.",
    )
    task: Task = Field("sft", description="sft, or dpo (a pair is two sequences).")
    method: Method = Field("lora", description="full, lora, or qlora (4-bit base).")
    lora_rank: int | None = Field(None, ge=1, le=4096, description="Default 16 with adapters.")
    target_modules: str | tuple[str, ...] | None = Field(
        None, description='Default "all-linear"; or module names such as ["q_proj", "v_proj"].'
    )
    lora_dropout: float = Field(0.0, ge=0, lt=1, description="Above 0 each target keeps a mask.")
    adapter_dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto: fp32, but bf16 where TRL casts them (qlora, ZeRO-3)."
    )
    quantization: Literal["nf4_double", "nf4", "int8"] | None = Field(
        None, description="Of the qlora base; default nf4_double."
    )
    seq_len: int = Field(2048, ge=1, le=16_777_216, description="Longest sequence, tokens.")
    micro_batch: int = Field(1, ge=1, le=65_536, description="Examples per GPU and pass.")
    gradient_checkpointing: bool = Field(True, description="Recompute blocks in the backward.")
    optimizer: Optimizer = Field("adamw_torch_fused", description="transformers' `optim`.")
    dtype: Dtype = Field("bfloat16", description="Of the loaded weights that aren't quantized.")
    mixed_precision: bool = Field(True, description="16-bit autocast, as TRL sets by default.")
    attention: Attention = Field("sdpa", description="eager, sdpa or flash.")
    loss_head: Literal["auto", "full_logits", "fused_logits", "fused_linear", "trl_fused"] = Field(
        "auto",
        description="auto: what the installed or named versions do. full_logits: cross-entropy "
        "over logits in fp32; fused_logits: a fused kernel over materialised logits; "
        "fused_linear: Liger or CCE; trl_fused: TRL >= 1.15's own.",
    )

    @model_validator(mode="after")
    def _the_method_fits_the_step(self) -> "StepRequest":
        if self.method == "full":
            for key in ("lora_rank", "target_modules"):
                if getattr(self, key) is not None:
                    raise ValueError(f"{key} means nothing when method is 'full': drop one of them")
            if self.lora_dropout or self.adapter_dtype != "auto":
                raise ValueError("lora_dropout and adapter_dtype need method 'lora' or 'qlora'")
        if self.method != "qlora" and self.quantization:
            raise ValueError("quantization needs method 'qlora': set it, or drop quantization")
        targets = self.target_modules or ()
        names = (targets,) if isinstance(targets, str) else targets
        if "lm_head" in names:
            raise ValueError(
                "an adapter on lm_head is refused by TRL's loss head; name the blocks' modules, "
                f"or {ALL_LINEAR!r}"
            )
        return self


class VramRequest(StepRequest):
    """What is to be trained, and how."""

    model_type: str = Field("llama", description="Family that explicit shapes belong to.")
    num_layers: int | None = Field(None, ge=1, description="Blocks.")
    hidden_size: int | None = Field(None, ge=1, description="Width of the residual stream.")
    intermediate_size: int | None = Field(
        None, ge=1, description="Width of the MLP, of one expert in a mixture."
    )
    num_heads: int | None = Field(None, ge=1, description="Query heads.")
    num_kv_heads: int | None = Field(None, ge=1, description="Key heads; default num_heads.")
    head_dim: int | None = Field(None, ge=1, description="Default hidden_size / num_heads.")
    vocab_size: int | None = Field(None, ge=1, description="Rows of the embedding.")
    tied_embeddings: bool | None = Field(None, description="Whether the head is the embedding.")
    num_experts: int | None = Field(None, ge=2, description="Experts of a block, for mixtral.")
    experts_per_token: int | None = Field(None, ge=1, description="Experts a token passes.")

    kbit_prepared: bool = Field(
        False, description="prepare_model_for_kbit_training runs: fp32 embeddings and residual."
    )

    gradient_accumulation_steps: int = Field(1, ge=1, description="Passes per optimizer step.")
    padded_batches: bool = Field(
        False, description="Batches need a padding mask; false when packed or padding-free."
    )
    reentrant_checkpointing: bool = Field(False, description="use_reentrant of checkpointing.")
    fused_kernels: bool = Field(False, description="Fused norms and rotary embeddings (Liger).")
    precompute_ref_log_probs: bool = Field(
        False, description="DPO: the reference model is not resident during training."
    )

    num_gpus: int = Field(1, ge=1, le=65_536, description="GPUs that train one model.")
    sharding: Sharding = Field(
        "none", description="none, ddp, zero1 to zero3, fsdp (version 2), fsdp1."
    )
    offload: Offload = Field(
        "none", description="What sharding keeps in host memory: optimizer, or parameters too."
    )
    gpu: str | None = Field(None, description="Catalog name, such as RTX 4090 or A100-80GB.")
    gpu_memory_gib: float | None = Field(
        None, gt=0, description="Memory of the card in GiB, instead of a name."
    )
    transformers_version: str = Field(
        "5.24", pattern=r"^\d+\.\d+", description="The loss and the experts depend on it."
    )
    trl_version: str | None = Field(
        "1.16", pattern=r"^\d+\.\d+", description="null for a plain transformers Trainer."
    )

    @model_validator(mode="after")
    def _one_source_of_shapes(self) -> "VramRequest":
        given = [key for key in SHAPE_KEYS if getattr(self, key) is not None]
        if self.model is not None and given:
            raise ValueError(f"give either model or shapes; drop {', '.join(given)} or model")
        missing = [key for key in NEEDED_SHAPES if getattr(self, key) is None]
        if self.model is None and missing:
            raise ValueError(f"give model, or the shapes: missing {', '.join(missing)}")
        return self

    @model_validator(mode="after")
    def _the_method_fits(self) -> "VramRequest":
        if self.method != "qlora" and self.kbit_prepared:
            raise ValueError("kbit_prepared needs method 'qlora': set it, or drop kbit_prepared")
        if self.precompute_ref_log_probs and self.task != "dpo":
            raise ValueError("precompute_ref_log_probs needs task 'dpo': drop it, or set the task")
        return self

    @model_validator(mode="after")
    def _the_gpus_fit(self) -> "VramRequest":
        if self.sharding in SHARDED | {"ddp"} and self.num_gpus == 1:
            raise ValueError(
                f"sharding {self.sharding!r} needs num_gpus of at least 2; with one GPU use 'none'"
            )
        if self.sharding == "none" and self.num_gpus > 1:
            raise ValueError(
                "several GPUs need sharding: 'ddp' (a copy each), 'zero2', 'zero3' or 'fsdp'"
            )
        if self.offload != "none" and self.sharding not in SHARDED:
            raise ValueError("offload needs sharding 'zero2', 'zero3' or 'fsdp'; drop it, or shard")
        if self.offload == "parameters" and self.sharding not in {"zero3", "fsdp", "fsdp1"}:
            raise ValueError("offload 'parameters' needs sharding 'zero3' or 'fsdp'")
        if self.gpu is not None and self.gpu_memory_gib is not None:
            raise ValueError("give either gpu or gpu_memory_gib, not both")
        return self

    @model_validator(mode="after")
    def _the_head_fits(self) -> "VramRequest":
        if self.loss_head == "trl_fused" and not has_trl_head(self.trl_version):
            raise ValueError("loss_head 'trl_fused' needs trl_version of at least 1.15")
        return self


def version(text: str) -> tuple[int, int]:
    """Return the first two numbers of a version, which comparisons need.

    >>> version("4.48.1") < version("5.0")
    True
    """
    major, minor = text.split(".")[:2]
    return int(major), int("".join(c for c in minor if c.isdigit()) or 0)


def has_trl_head(trl_version: str | None) -> bool:
    """Say whether this TRL computes its loss without full logits (1.15 on)."""
    return trl_version is not None and version(trl_version) >= (1, 15)
