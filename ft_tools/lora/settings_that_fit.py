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
from ft_tools.models.float16 import overflows_float16
from ft_tools.models.quantized import DEQUANTIZED

DEFAULT_SEQ_LEN = 2048
MIN_SEQ_LEN = 512
# Larger micro-batches gain little speed once the GPU is full.
MAX_MICRO_BATCH = 8
UNKNOWN_CARD_MICRO_BATCH = 4
FULL_OPTIMIZERS: tuple[Optimizer, ...] = ("adamw_torch_fused", "adamw_8bit", "paged_adamw_8bit")
QLORA_SOURCE = "https://arxiv.org/abs/2305.14314"


@dataclass(frozen=True)
class Plan:
    """A run that fits, or the smallest one that does not."""

    method: Method
    optimizer: Optimizer
    seq_len: int
    micro_batch: int
    accumulation: int
    dtype: Literal["float32", "bfloat16", "float16"]
    """What the card computes in."""
    vram: VramReport
    gave_up: tuple[str, ...]
    reasons: tuple[Reason, ...]


@dataclass(frozen=True)
class Wish:
    """What would be run if memory did not matter."""

    request: LoraRequest
    task: Task
    rank: int
    effective_batch: int
    max_positions: int | None
    target_modules: str | tuple[str, ...]
    quantized: str = ""
    """How the checkpoint is quantized already; empty if it is not."""
    model_type: str = ""

    @property
    def dtype(self) -> Literal["float32", "bfloat16", "float16"]:
        """Return what the card computes in, as a launch decides it."""
        return dtype_of(self.request.gpu, self.model_type)

    @property
    def least_micro_batch(self) -> int:
        """Return what the loss needs: KTO compares an answer with the one before it."""
        return 2 if self.task == "kto" else 1

    @property
    def seq_len(self) -> int:
        """Return the length asked for, within what the model can see."""
        return wanted_seq_len(self.request, self.max_positions)


def wanted_seq_len(request: LoraRequest, max_positions: int | None) -> int:
    """Return the length asked for, or 2048, within what the model can see."""
    wanted = request.seq_len or DEFAULT_SEQ_LEN
    return min(wanted, max_positions or wanted)


def plan_for_card(wish: Wish) -> Plan:
    """Choose method, optimizer, length and micro-batch.

    Tried in this order, each with one example a pass, until one fits: the methods (LoRA, then
    QLoRA, or the one asked for, with ever smaller optimizers for full fine-tuning), and the same
    at half the length, down to 512 tokens. Then the micro-batch grows as far as it fits.
    """
    seq_len = wish.seq_len
    while True:
        for method, optimizer in _tries(wish):
            report = _estimate(wish, method, optimizer, seq_len, wish.least_micro_batch)
            if report.fits in {"yes", "unknown"}:
                return _grown(wish, method, optimizer, seq_len, report)
        if seq_len // 2 < MIN_SEQ_LEN:
            method, optimizer = _tries(wish)[-1]
            report = _estimate(wish, method, optimizer, seq_len, wish.least_micro_batch)
            return _plan(wish, method, optimizer, seq_len, wish.least_micro_batch, report)
        seq_len //= 2


def dtype_of(gpu: str | None, model_type: str = "") -> Literal["float32", "bfloat16", "float16"]:
    """Return the type that the card computes this family in; bf16 where no card is named.

    >>> dtype_of("T4"), dtype_of("T4", "gemma3_text")
    ('float16', 'float32')
    """
    if gpu is None or facts.gpu(gpu).has_bf16:
        return "bfloat16"
    return "float32" if overflows_float16({"model_type": model_type}) else "float16"


def _tries(wish: Wish) -> list[tuple[Method, Optimizer]]:
    request = wish.request
    if request.method == "full":
        return [("full", optimizer) for optimizer in FULL_OPTIMIZERS]
    methods: list[Method] = ["lora", "qlora"] if request.method == "auto" else [request.method]
    if wish.quantized and request.method == "auto":
        methods = ["lora"] if wish.quantized in DEQUANTIZED else ["qlora"]
    return [(method, "adamw_torch_fused") for method in methods]


def _estimate(
    wish: Wish, method: Method, optimizer: Optimizer, seq_len: int, micro_batch: int
) -> VramReport:
    accumulation = -(-wish.effective_batch // micro_batch)
    arguments: dict[str, Any] = {
        # An answer with its partner of KTO is about a pair of half as many prompts.
        "task": "sft" if wish.task == "sft" else "dpo",
        "method": method,
        "optimizer": optimizer,
        "seq_len": seq_len,
        "micro_batch": micro_batch // wish.least_micro_batch,
        "gradient_accumulation_steps": accumulation,
        # Full training keeps its weights in float32: small updates vanish in 16 bits.
        "dtype": "float32" if method == "full" else wish.dtype,
        "mixed_precision": wish.dtype != "float32",
        "gpu": wish.request.gpu,
        "gpu_memory_gib": wish.request.gpu_memory_gib,
    }
    if method != "full":
        arguments |= {
            "lora_rank": wish.rank,
            "target_modules": wish.target_modules,
        }
    elif wish.task != "sft":
        arguments["precompute_ref_log_probs"] = True
    model = wish.request.model_arguments()
    return estimate_vram(VramRequest.model_validate(model | arguments))


def _grown(
    wish: Wish, method: Method, optimizer: Optimizer, seq_len: int, report: VramReport
) -> Plan:
    limit = report.max_micro_batch
    if limit is None:
        limit = UNKNOWN_CARD_MICRO_BATCH // (1 if wish.task == "sft" else 2)
    micro_batch = wish.least_micro_batch
    limit = min(limit * micro_batch, MAX_MICRO_BATCH, wish.effective_batch)
    while 2 * micro_batch <= limit and wish.effective_batch % (2 * micro_batch) == 0:
        micro_batch *= 2
    if micro_batch > wish.least_micro_batch:
        report = _estimate(wish, method, optimizer, seq_len, micro_batch)
    return _plan(wish, method, optimizer, seq_len, micro_batch, report)


def _plan(
    wish: Wish,
    method: Method,
    optimizer: Optimizer,
    seq_len: int,
    micro_batch: int,
    report: VramReport,
) -> Plan:
    return Plan(
        method=method,
        optimizer=optimizer,
        seq_len=seq_len,
        micro_batch=micro_batch,
        accumulation=-(-wish.effective_batch // micro_batch),
        dtype=wish.dtype,
        vram=report,
        gave_up=tuple(_gave_up(wish, method, optimizer, seq_len, report)),
        reasons=tuple(_reasons(wish, method, report)),
    )


def _gave_up(
    wish: Wish, method: Method, optimizer: Optimizer, seq_len: int, report: VramReport
) -> list[str]:
    given: list[str] = []
    asked = wish.request.seq_len
    if asked is not None and wish.seq_len < asked:
        given.append(f"seq_len {asked}: the model supports at most {wish.seq_len} tokens")
    if wish.request.method == "auto" and method == "qlora":
        given.append(
            "16-bit base weights: they do not fit, so the base is quantized to 4 bits (NF4)"
        )
    if method == "full" and optimizer != FULL_OPTIMIZERS[0]:
        given.append(f"32-bit optimizer states: {optimizer} instead")
    if seq_len < wish.seq_len:
        given.append(f"length: {seq_len} tokens instead of {wish.seq_len}")
    if report.fits not in {"yes", "unknown"}:
        given.append("fitting this GPU: see vram.changes_to_fit, or use a smaller model")
    return given


def _reasons(wish: Wish, method: Method, report: VramReport) -> list[Reason]:
    if report.usable_gib is None:
        rule = "no GPU was named: LoRA is suggested, and whether it fits is unknown"
    elif wish.request.method != "auto":
        rule = f"{method} was requested"
    elif method == "lora":
        rule = "LoRA over 16-bit weights fits, and is faster than QLoRA"
    else:
        rule = "LoRA over 16-bit weights does not fit; QLoRA has the same quality within noise"
    return [
        Reason(
            rule=rule,
            observed=report.peak_allocated_gib,
            threshold=report.usable_gib,
            source=QLORA_SOURCE,
        )
    ]
