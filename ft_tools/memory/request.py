"""What estimate_vram takes, and which combinations it refuses."""

import re
from typing import Any, Literal

from pydantic import Field, model_validator

from ft_tools.contract import OPTIONS, ToolRequest, merged_options
from ft_tools.memory.setup import Attention, Dtype, Method, Optimizer, Sharding, Task
from ft_tools.models.shape import ALL_LINEAR

MODEL = "Hub id, folder, config.json or run id."


SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(?:gi?b)?\s*", re.IGNORECASE)
"""A number of GiB, as it may stand for a GPU."""


class GpuRequest(ToolRequest):
    """The arguments that name a GPU or its memory."""

    gpu: str | None = Field(None, description="RTX 4090, M4 Max 64GB, its GiB, or cpu.")
    gpu_memory_gib: float | None = Field(
        None, gt=0, description="GPU memory in GiB, instead of a name."
    )

    @model_validator(mode="before")
    @classmethod
    def _number_is_memory(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        given = merged_options(given) if OPTIONS in given else given
        if str(given.get("gpu")).lower() == "cpu":
            return given | {"gpu": None}
        size = SIZE.fullmatch(str(given.get("gpu")))
        if size is None or given.get("gpu_memory_gib") is not None:
            return given
        return given | {"gpu": None, "gpu_memory_gib": float(size[1])}

    @model_validator(mode="after")
    def _one_card(self) -> "GpuRequest":
        if self.gpu is not None and self.gpu_memory_gib is not None:
            raise ValueError("pass either gpu or gpu_memory_gib, not both")
        return self


class VramRequest(GpuRequest):
    """Estimate the peak GPU memory of a training run, and what would make it fit.

    Needs neither a GPU nor weights.
    """

    model: str = Field(description=MODEL)
    task: Task = Field(
        "sft", description="sft, dpo (each pair is two sequences) or grpo (writes completions)."
    )
    generated: int = Field(
        64, ge=1, le=65_536, description="grpo: completions of a step, written together."
    )
    prompt_len: int | None = Field(
        None, ge=1, description="grpo: tokens of a prompt, of seq_len; default half of it."
    )
    method: Method = Field("lora", description="full, lora, or qlora (LoRA over a 4-bit base).")
    lora_rank: int | None = Field(None, ge=1, le=4096, description="LoRA rank; default 16.")
    target_modules: str | tuple[str, ...] | None = Field(
        None,
        description='"all-linear" (default) or names, as ["q_proj", "v_proj"].',
    )
    lora_dropout: float = Field(0.0, ge=0, lt=1, description="LoRA dropout.")
    adapter_dtype: Literal["float32", "bfloat16"] = Field(
        "float32", description="float32: as launch_* trains; bfloat16: as TRL alone."
    )
    quantization: Literal["nf4_double", "nf4", "int8"] | None = Field(
        None, description="Quantization of the qlora base; default nf4_double."
    )
    seq_len: int = Field(2048, ge=1, le=16_777_216, description="Longest sequence in tokens.")
    micro_batch: int = Field(1, ge=1, le=65_536, description="Examples per GPU and pass.")
    gradient_checkpointing: bool = Field(True, description="Recompute activations.")
    optimizer: Optimizer = Field(
        "adamw_torch_fused", description="Optimizer, as in transformers' `optim`."
    )
    dtype: Dtype = Field("bfloat16", description="Type of the weights that are not quantized.")
    mixed_precision: bool = Field(
        True, description="Train with 16-bit autocast, as TRL does by default."
    )
    attention: Attention = Field("sdpa", description="Attention implementation.")
    loss_head: Literal["auto", "full_logits", "fused_logits", "fused_linear", "trl_fused"] = Field(
        "auto",
        description="auto: as these library versions do. fused_linear: Liger or CCE.",
    )
    target_parameters: tuple[str, ...] = Field(
        (), description='Fused experts to adapt, as ["experts.down_proj"].'
    )
    kbit_prepared: bool = Field(False, description="prepare_model_for_kbit_training ran.")
    gradient_accumulation_steps: int = Field(
        1, ge=1, description="Forward passes per optimizer step."
    )
    padded_batches: bool = Field(
        False, description="Batches need a padding mask; false if packed or padding-free."
    )
    packed_batches: bool = Field(
        False, description="A pass is one flattened row (packing or padding_free)."
    )
    fused_kernels: bool = Field(False, description="Fused norm and rotary kernels (Liger).")
    precompute_ref_log_probs: bool = Field(
        False,
        description="DPO: no reference model in memory during training.",
    )

    num_gpus: int = Field(1, ge=1, le=65_536, description="GPUs that train this model together.")
    sharding: Sharding = Field("none", description="fsdp is FSDP 2.")
    transformers_version: str = Field(
        "5.24",
        pattern=r"^\d+\.\d+",
        description="Version of transformers.",
    )
    trl_version: str | None = Field(
        "1.16",
        pattern=r"^\d+\.\d+",
        description="Version of TRL; null: plain Trainer.",
    )
    second_opinion: bool = Field(
        False, description="Also trace the activations of the real class; takes seconds."
    )

    @model_validator(mode="after")
    def _what_was_asked_for_agrees(self) -> "VramRequest":
        for problem, holds in self._contradictions().items():
            if holds:
                raise ValueError(problem)
        return self

    def _contradictions(self) -> dict[str, bool]:
        """Return each refusal of a contradiction, and whether it holds."""
        is_full, is_dpo, is_alone = self.method == "full", self.task == "dpo", self.num_gpus == 1
        of_adapters = [n for n in ("lora_rank", "target_modules") if getattr(self, n) is not None]
        of_qlora = [n for n in ("quantization", "kbit_prepared") if getattr(self, n)]
        of_grpo = sorted({"generated", "prompt_len"} & self.model_fields_set)
        targets = self.target_modules or ()
        return {
            f"{' and '.join(of_adapters)} need method 'lora' or 'qlora', not 'full': remove one": (
                is_full and bool(of_adapters)
            ),
            "lora_dropout and adapter_dtype need method 'lora' or 'qlora'": (
                is_full and bool(self.lora_dropout or self.adapter_dtype != "float32")
            ),
            f"{' and '.join(of_qlora)} requires method 'qlora': set it, or remove them": (
                self.method != "qlora" and bool(of_qlora)
            ),
            f"target_modules is empty; name modules, or pass {ALL_LINEAR!r}": (
                self.target_modules is not None and not (targets or self.target_parameters)
            ),
            "TRL's loss head does not support an adapter on lm_head; name modules of the blocks, "
            f"or pass {ALL_LINEAR!r}": (
                "lm_head" in ((targets,) if isinstance(targets, str) else targets)
            ),
            "target_parameters requires method 'lora' or 'qlora' without lora_dropout, which PEFT "
            "does not have over fused experts": (
                bool(self.target_parameters) and (is_full or self.lora_dropout > 0)
            ),
            "packed_batches have no padding: remove padded_batches": (
                self.padded_batches and self.packed_batches
            ),
            "precompute_ref_log_probs requires task 'dpo': set it, or remove the argument": (
                self.precompute_ref_log_probs and not is_dpo
            ),
            f"{' and '.join(of_grpo)} require task 'grpo': set it, or remove them": (
                bool(of_grpo) and self.task != "grpo"
            ),
            "prompt_len has to be less than seq_len, which holds prompt and completion": (
                (self.prompt_len or 0) >= self.seq_len
            ),
            "loss_head 'trl_fused' requires trl_version 1.15 or later": (
                self.loss_head == "trl_fused" and not has_trl_head(self.trl_version)
            ),
            f"sharding {self.sharding!r} requires num_gpus >= 2; use 'none' with one GPU": (
                self.sharding != "none" and is_alone
            ),
            "several GPUs require sharding: 'ddp' (a copy each) or 'fsdp'": (
                self.sharding == "none" and not is_alone
            ),
        }


def version(text: str) -> tuple[int, int]:
    """Return the first two numbers of a version, which comparisons need.

    >>> version("4.48.1") < version("5.0")
    True
    """
    major, minor = text.split(".")[:2]
    return int(major), int("".join(c for c in minor if c.isdigit()) or 0)


def has_trl_head(trl_version: str | None) -> bool:
    """Return whether this TRL computes its loss without full logits (1.15 on)."""
    return trl_version is not None and version(trl_version) >= (1, 15)
