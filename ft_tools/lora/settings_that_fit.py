"""Method, micro-batch and length for the card at hand, and what had to be given up."""

from dataclasses import dataclass
from typing import Any, Literal

from ft_tools import facts
from ft_tools.contract import Reason
from ft_tools.formats.trl_formats import Task
from ft_tools.lora.request import LoraRequest
from ft_tools.memory.report import VramReport
from ft_tools.memory.request import VramRequest
from ft_tools.memory.setup import Method, Optimizer
from ft_tools.memory.tool import estimate_vram
from ft_tools.models.families import has_trait
from ft_tools.models.quantized import DEQUANTIZED
from ft_tools.models.shape import ModelShape
from ft_tools.reasons import reason

DEFAULT_SEQ_LEN = 2048
MIN_SEQ_LEN = 512
# Larger micro-batches gain little speed once the GPU is full.
MAX_MICRO_BATCH = 8
UNKNOWN_CARD_MICRO_BATCH = 4
FULL_OPTIMIZERS: tuple[Optimizer, ...] = ("adamw_torch_fused", "adamw_8bit", "paged_adamw_8bit")
FITTING = {"yes", "unknown"}
Dtype = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class Wish:
    """What would be run if memory did not matter."""

    request: LoraRequest
    task: Task
    rank: int
    effective_batch: int
    shape: ModelShape
    target_modules: str | tuple[str, ...]

    @property
    def least_micro_batch(self) -> int:
        """Return what the loss needs: KTO compares an answer with the one before it."""
        return 2 if self.task == "kto" else 1


@dataclass(frozen=True)
class Plan:
    """A run that fits, or the smallest one that does not."""

    asked: VramRequest
    """What was estimated: method, optimizer, length."""
    micro_batch: int
    accumulation: int
    dtype: Dtype
    """What the card computes in."""
    vram: VramReport
    gave_up: list[str]
    why: Reason


def wanted_length(request: LoraRequest, shape: ModelShape) -> int:
    """Return the length asked for, or 2048, within what the model can see."""
    wanted = request.seq_len or DEFAULT_SEQ_LEN
    return min(wanted, shape.max_positions or wanted)


def dtype_of(gpu: str | None, model_type: str = "") -> Dtype:
    """Return the type that the card computes this family in; bf16 where no card is named.

    >>> dtype_of("T4"), dtype_of("T4", "gemma3_text")
    ('float16', 'float32')
    """
    if gpu is None or facts.gpu(gpu).has_bf16:
        return "bfloat16"
    return "float32" if has_trait({"model_type": model_type}, "overflows_float16") else "float16"


def plan_for_card(wish: Wish) -> Plan:
    """Choose method, optimizer, length and micro-batch.

    Tried in this order, each with one example a pass, until one fits: the methods (LoRA, then
    QLoRA, or the one asked for, with ever smaller optimizers for full fine-tuning), and the same
    at half the length, down to 512 tokens. Then the micro-batch grows as far as it fits.
    """
    request, least = wish.request, wish.least_micro_batch
    wanted = seq_len = wanted_length(request, wish.shape)
    lengths = [wanted]
    while (seq_len := seq_len // 2) >= MIN_SEQ_LEN:
        lengths.append(seq_len)
    for asked in (_asked(wish, *tried, length) for length in lengths for tried in _tries(wish)):
        report = estimate_vram(asked)
        if report.fits in FITTING:
            break
    micro_batch = least
    if report.fits in FITTING:
        limit = report.max_micro_batch
        if limit is None:
            limit = UNKNOWN_CARD_MICRO_BATCH // (1 if wish.task == "sft" else 2)
        limit = min(limit * least, MAX_MICRO_BATCH, wish.effective_batch)
        while 2 * micro_batch <= limit and wish.effective_batch % (2 * micro_batch) == 0:
            micro_batch *= 2
    accumulation = -(-wish.effective_batch // micro_batch)
    if micro_batch > least:
        size = {"micro_batch": micro_batch // least, "gradient_accumulation_steps": accumulation}
        asked = asked.model_copy(update=size)
        report = estimate_vram(asked)
    return Plan(
        asked=asked,
        micro_batch=micro_batch,
        accumulation=accumulation,
        dtype=dtype_of(request.gpu, wish.shape.model_type),
        vram=report,
        gave_up=_gave_up(request, asked, wanted, report),
        why=_why(request, asked.method, report),
    )


def _tries(wish: Wish) -> list[tuple[Method, Optimizer]]:
    request = wish.request
    if request.method == "full":
        return [("full", optimizer) for optimizer in FULL_OPTIMIZERS]
    methods: list[Method] = ["lora", "qlora"] if request.method == "auto" else [request.method]
    if wish.shape.quantized and request.method == "auto":
        methods = ["lora"] if wish.shape.quantized in DEQUANTIZED else ["qlora"]
    return [(method, "adamw_torch_fused") for method in methods]


def _asked(wish: Wish, method: Method, optimizer: Optimizer, seq_len: int) -> VramRequest:
    """Return what is estimated: with the fewest examples a pass that the loss takes."""
    is_full, dtype = method == "full", dtype_of(wish.request.gpu, wish.shape.model_type)
    arguments: dict[str, Any] = {
        "model": wish.request.model,
        # An answer with its partner of KTO is about a pair of half as many prompts.
        "task": "sft" if wish.task == "sft" else "dpo",
        "method": method,
        "optimizer": optimizer,
        "seq_len": seq_len,
        "gradient_accumulation_steps": -(-wish.effective_batch // wish.least_micro_batch),
        # Full training keeps its weights in float32: small updates vanish in 16 bits.
        "dtype": "float32" if is_full else dtype,
        "mixed_precision": dtype != "float32",
        "gpu": wish.request.gpu,
        "gpu_memory_gib": wish.request.gpu_memory_gib,
        "precompute_ref_log_probs": is_full and wish.task != "sft",
    }
    if not is_full:
        arguments |= {"lora_rank": wish.rank, "target_modules": wish.target_modules}
    return VramRequest.model_validate(arguments)


def _gave_up(
    request: LoraRequest, asked: VramRequest, wanted: int, report: VramReport
) -> list[str]:
    given: dict[str, bool] = {
        f"seq_len {request.seq_len}: the model supports at most {wanted} tokens": (
            wanted < (request.seq_len or 0)
        ),
        "16-bit base weights: they do not fit, so the base is quantized to 4 bits (NF4)": (
            request.method == "auto" and asked.method == "qlora"
        ),
        f"32-bit optimizer states: {asked.optimizer} instead": (
            asked.optimizer != FULL_OPTIMIZERS[0]
        ),
        f"length: {asked.seq_len} tokens instead of {wanted}": asked.seq_len < wanted,
        "fitting this GPU: see vram.changes_to_fit, or use a smaller model": (
            report.fits not in FITTING
        ),
    }
    return [text for text, holds in given.items() if holds]


def _why(request: LoraRequest, method: Method, report: VramReport) -> Reason:
    chosen = "qlora_fits"
    if report.usable_gib is None:
        chosen = "no_gpu_named"
    elif request.method != "auto":
        chosen = "method_requested"
    elif method == "lora":
        chosen = "lora_fits"
    return reason(chosen, report.peak_allocated_gib, report.usable_gib)
