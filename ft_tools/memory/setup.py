"""What a training step is made of, with nothing left to decide: the input of every formula."""

from dataclasses import dataclass
from typing import Literal

from ft_tools.models.shape import Linear, ModelShape

Method = Literal["full", "lora", "qlora"]
Task = Literal["sft", "dpo", "grpo"]
Dtype = Literal["bfloat16", "float16", "float32"]
Attention = Literal["flash", "sdpa", "eager"]
Head = Literal["full_logits", "full_logits_old", "fused_logits", "fused_linear", "trl_fused"]
Sharding = Literal["none", "ddp", "fsdp", "fsdp1"]
Optimizer = Literal[
    "adamw_torch",
    "adamw_torch_fused",
    "adamw_8bit",
    "paged_adamw_8bit",
    "paged_adamw_32bit",
    "adafactor",
    "sgd",
]
Quantization = Literal["nf4_double", "nf4", "int8", "gptq4", "gptq4_column"]

BITSANDBYTES = {"nf4_double", "nf4", "int8"}
DTYPE_BYTES: dict[Dtype, int] = {"bfloat16": 2, "float16": 2, "float32": 4}


@dataclass(frozen=True)
class Curve:
    """Bytes by sequence length S: fixed + linear * S + square * S^2, the last two per sequence."""

    fixed: float
    linear: float
    square: float = 0.0

    def at(self, sequences: int, seq_len: int) -> float:
        """Return the bytes of some sequences of that length."""
        per_sequence = self.linear * seq_len + self.square * seq_len**2
        return max(0.0, self.fixed + sequences * per_sequence)


@dataclass(frozen=True)
class Profile:
    """What the blocks' activations take, as a trace of the real class has it."""

    saved: Curve
    """What the forward pass leaves for the backward pass."""
    forward: Curve
    """The most while the forward pass runs."""
    backward: Curve
    """The most while the backward pass runs."""
    bottom: Curve
    """The most while the first block runs backward."""
    eager: bool


@dataclass(frozen=True)
class Setup:
    """One training step on one GPU of `num_gpus`, fully decided."""

    shape: ModelShape
    method: Method
    task: Task
    seq_len: int
    micro_batch: int
    """Examples per GPU and forward pass; a DPO example is a pair."""
    rank: int
    targets: tuple[Linear, ...]
    """The adapted matrices of one block of each kind; empty for full fine-tuning."""
    target_modules: str | tuple[str, ...]
    """How they are named to PEFT."""
    target_parameters: tuple[str, ...]
    """Fused experts that are adapted, by name."""
    dtype: Dtype
    quantization: Quantization | None
    experts_quantized: bool
    """False where the experts are fused parameters, which bitsandbytes leaves as they are."""
    fused_experts: bool
    """True from transformers 5 on: a block's experts run as one grouped product."""
    linears_quantized: bool
    """False where the linear layers are a class of the family's own, which is left alone too."""
    residual_bytes: int
    """Bytes per element of the residual stream, and of a weight that quantization leaves alone; 4
    after kbit preparation and for fp32 models."""
    adapter_bytes: int
    """2 or 4 bytes per adapter weight, and so per gradient and optimizer moment."""
    autocast: bool
    dropout: bool
    fused_kernels: bool
    """Normalisations and rotary embeddings as one kernel each (Liger and the like)."""
    checkpointing: bool
    attention: Attention
    padded: bool
    """Batches carry a padding mask; packed or padding-free ones don't."""
    packed: bool
    """A pass is one flattened row, whose examples only variable-length kernels keep apart without
    a mask of all its positions."""
    head: Head
    fused_logits_bytes: int
    """Bytes per logit of the fused cross-entropy over full logits; depends on the version."""
    optimizer: Optimizer
    accumulation: int
    reference_model: bool
    """A second, frozen copy of the weights is resident (DPO with full fine-tuning)."""
    num_gpus: int
    sharding: Sharding
    workspace_bytes: int
    generated: int = 0
    """Completions that are written together before a step; 0: none."""
    prompt_len: int = 0
    """Tokens of their prompts, of `seq_len`."""
    engine: Literal["torch", "mlx"] = "torch"
    """mlx on a Mac: the machine's memory holds everything."""
    profile: Profile | None = None
    """What activations take, traced; None where the family's formulas say it."""
    untraced: str = ""
    """Why there is no profile of a family without formulas."""

    @property
    def sequences(self) -> int:
        """Return the sequences in one forward pass; DPO runs chosen and rejected together."""
        return self.micro_batch * (2 if self.task == "dpo" else 1)

    @property
    def tokens(self) -> int:
        """Return the tokens in one forward pass on one GPU."""
        return self.sequences * self.seq_len

    @property
    def rows(self) -> tuple[int, int]:
        """Return how many rows attention sees in one pass, and their length in tokens."""
        return (1, self.tokens) if self.packed else (self.sequences, self.seq_len)

    @property
    def reentrant(self) -> bool:
        """Return whether checkpointing runs reentrant, which FSDP 1 did by default."""
        return self.checkpointing and self.sharding == "fsdp1"

    @property
    def repeats_kv(self) -> bool:
        """Return whether SDPA gets keys and values repeated for every query head.

        With a mask transformers does so; on cards without bfloat16 launch_* does, because SDPA's
        grouped kernels begin with theirs.
        """
        is_old = self.dtype == "float16" and self.fused_experts
        return self.attention == "sdpa" and (self.padded or self.packed or is_old)

    @property
    def weight_bytes(self) -> int:
        """Return the bytes of a weight that is not quantized."""
        return DTYPE_BYTES[self.dtype]

    @property
    def trainable_params(self) -> int:
        """Return the number of parameters that get a gradient."""
        if self.method == "full":
            return self.shape.total_params
        return self.shape.lora_params(self.rank, self.target_modules, self.target_parameters)

    @property
    def adapts_experts(self) -> bool:
        """Return whether adapters lie over fused experts."""
        return any(m.copies > 1 for m in self.targets)

    @property
    def number_bytes(self) -> int:
        """Return the bytes of a number that linear layers and attention compute with."""
        return 4 if self.dtype == "float32" and not self.autocast else 2

    @property
    def casts_inputs(self) -> bool:
        """Return whether each fp32 adapter keeps a copy of its input in a type of its own.

        PEFT's layers over bitsandbytes' leave that to autocast, which computes in 16 bits.

        Source: peft 0.21.2, tuners/lora/layer.py and tuners/lora/bnb.py, forward.
        """
        by_autocast = self.autocast and self.linears_quantized and self.quantization in BITSANDBYTES
        casts = not by_autocast and self.number_bytes == 2
        return self.method != "full" and self.adapter_bytes == 4 and casts

    @property
    def trainable_bytes(self) -> int:
        """Return the bytes of a trainable weight as it is stored during training."""
        if self.method != "full":
            return self.adapter_bytes
        sharded = self.sharding in {"fsdp", "fsdp1"}
        return 4 if sharded and self.autocast else self.weight_bytes
