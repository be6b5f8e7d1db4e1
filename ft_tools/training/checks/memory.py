"""Whether a plan fits: estimate_vram for a GPU, the weights and their states for a CPU."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args

from pydantic import ValidationError

from ft_tools import facts
from ft_tools.contract import complaints
from ft_tools.errors import BadInput, MissingExtra, NotFound
from ft_tools.memory.bounds import DEFAULT_CONTEXT_GIB
from ft_tools.memory.report import VramReport
from ft_tools.memory.request import VramRequest
from ft_tools.memory.setup import Optimizer
from ft_tools.memory.tool import estimate_vram
from ft_tools.runs.hardware.devices import Device
from ft_tools.runs.hardware.memory import free_bytes
from ft_tools.runs.launchers.table import Place
from ft_tools.training.findings import refusal

FINDING = "does_not_fit"
UNCHECKED = "memory_unchecked"
HOST_SLACK = 1.1
"""What a CPU's allocator holds over the sum. Source: benchmarks/ram.json."""
LEAST_PROCESS_GIB = 0.32
"""Of Python with its libraries, what cannot be dropped. Source: benchmarks/loading.json."""
NOT_CUT = 2048
"""Tokens of a row where neither max_length nor a count is known, as estimate_vram has it."""
SMALLER = "Take a smaller model or a larger card."
SHOWN = ("summary", "fits", "peak_allocated_gib", "peak_allocated_low_gib",
         "peak_allocated_high_gib", "process_high_gib", "usable_gib", "dominant_phase",
         "max_micro_batch")  # fmt: skip
VLLM_SHARE = 0.3
"""Of the card, where the caller names no other. Source: TRL 1.16, GRPOConfig."""
MICRO, STEPS = "per_device_train_batch_size", "gradient_accumulation_steps"
WRITTEN = "steps_per_generation"
"""Micro-batches whose answers one call of a reinforcement run writes; a step's where not given."""
CHECKPOINTING = "gradient_checkpointing"


@dataclass(frozen=True)
class PlannedRun:
    """The run whose memory is checked."""

    model: str
    """Folder or Hub id of the base."""
    task: str
    method: str
    peft: Mapping[str, Any] | None
    training: Mapping[str, Any]
    device: Device
    dtype: str
    place: Place
    used_gib: float = 0.0
    """What other programs use of the emptiest card."""
    mac: str = ""
    """The Mac that MLX trains on, as the catalog names it; empty: no Mac."""
    loss_head: str = "auto"
    """As estimate_vram names it; auto: TRL's own."""
    most_tokens: int | None = None
    """Of a row that a batch is made of, before it is cut; None where nothing was counted."""
    num_rows: int | None = None
    """That batches are made of; a micro-batch has no more. None: as many as it takes."""

    @property
    def is_estimated(self) -> bool:
        """Return whether a GPU is used, whose memory is estimated."""
        return self.device.name != "cpu" or bool(self.mac)


def fastest_that_fits(planned: PlannedRun, given: Collection[str]) -> dict[str, Any]:
    """Choose checkpointing, micro-batch and optimizer: the fastest whose upper bound fits.

    The bound has to fit beside what other programs use.
    A step sees as many examples as before, and what the caller named stays. Blocks are recomputed
    only where too few tokens fit in a pass otherwise; the micro-batch is as large as fits, up to
    the tokens that keep a GPU busy: more rows are only padded further. States of 8 bits are the
    last resort.

    Args:
        planned: The run, with the defaults that do not look at memory.
        given: Arguments of the trainer that the caller named.

    Returns:
        Arguments to replace; empty where none is.
    """
    if not planned.is_estimated:
        return {}
    choices = list(_choices(planned, set(given)))
    chosen = choices[-1] if choices else {}
    # What a sharded process takes was seen at up to 1.6 times its allocations, so that nothing that
    # fills the cards is sure to fit; there the allocations decide.
    allocated = None
    try:
        for choice in choices:
            report = _estimate(planned, choice)
            if report.fits == "yes":
                chosen = choice
                break
            high = report.peak_allocated_high_gib + DEFAULT_CONTEXT_GIB
            if allocated is None and high <= (report.usable_gib or 0.0):
                allocated = choice
        else:
            is_sharded = planned.place.num_processes > 1 and planned.place.sharding != "ddp"
            chosen = allocated if allocated and is_sharded else chosen
    except (BadInput, NotFound, MissingExtra):
        return {}
    return {k: v for k, v in chosen.items() if planned.training.get(k) != v}


def _choices(planned: PlannedRun, given: set[str]) -> Iterator[dict[str, Any]]:
    """Yield what may be chosen, fastest first; the last one takes least memory."""
    training = planned.training
    effective = training[MICRO] * training[STEPS]
    tokens = training.get("max_length") or planned.most_tokens or NOT_CUT
    sequences = 1 if planned.task in {"sft", "grpo"} else 2
    tokens = min(tokens, planned.most_tokens or tokens) * sequences
    sizes = [training[MICRO]]
    if not {MICRO, STEPS} & given:
        most = max(training[MICRO], int(facts.number("speed.most_tokens")) // tokens)
        sizes = [n for n in _halved(effective, 2 if planned.task == "kto" else 1) if n <= most]
    recomputes = [False, True]
    if CHECKPOINTING in given or planned.mac:
        recomputes = [bool(training.get(CHECKPOINTING))]
    optimizers = [training["optim"]]
    if planned.method == "full" and "optim" not in given and not planned.mac:
        optimizers.append("paged_adamw_8bit")
    for optimizer in optimizers:
        for recompute in recomputes:
            for size in sizes:
                is_thin = size * tokens < facts.number("speed.least_tokens") and size < effective
                if recompute or not is_thin or len(recomputes) == 1:
                    chosen = {
                        MICRO: size,
                        STEPS: effective // size,
                        CHECKPOINTING: recompute,
                        "optim": optimizer,
                    }
                    yield chosen
                    yield from ({**chosen, WRITTEN: n} for n in _fewer_written(planned, chosen))


def _fewer_written(planned: PlannedRun, chosen: Mapping[str, Any]) -> list[int]:
    """Return into how many micro-batches the answers of one call may go, if fewer than a step's.

    Whole groups are written. vLLM writes in its own part of the card.
    """
    if planned.task != "grpo" or planned.training.get("use_vllm"):
        return []
    return [
        count
        for count in range(chosen[STEPS] - 1, 0, -1)
        if not chosen[STEPS] % count
        and not chosen[MICRO] * count % planned.training["num_generations"]
    ]


def _halved(size: int, least: int) -> Iterator[int]:
    """Yield a number and its halves, as long as they are whole, and the least where it divides it.

    >>> list(_halved(12, 1)), list(_halved(8, 2))
    ([12, 6, 3, 1], [8, 4, 2])
    """
    whole = size
    while size >= least:
        yield size
        if size % 2:
            break
        size //= 2
    if size > least and whole % least == 0:
        yield least


def require_fit(planned: PlannedRun, accepted: Collection[str]) -> dict[str, Any] | None:
    """Refuse a plan that does not fit the card, or that cannot be checked, unless accepted.

    Returns:
        The main figures of the estimate; None on a CPU, or where it was accepted unchecked.

    Raises:
        Refused: By the rule `does_not_fit`, with what to change, or `memory_unchecked`.
    """
    if not planned.is_estimated:
        return None
    where = planned.mac or planned.device.model
    try:
        report = _estimate(planned)
    except (BadInput, NotFound, MissingExtra) as error:
        if UNCHECKED not in accepted:
            fits = f"whether this run fits {where}"
            raise refusal("memory_unknown", what=fits, error=error) from error
        return None
    if report.fits == "no" and FINDING not in accepted:
        changes = "; ".join(change.change for change in report.changes_to_fit)
        used = planned.used_gib
        raise refusal(
            "gpu_too_small",
            needed=report.process_high_gib,
            allocated=report.peak_allocated_gib,
            usable=report.usable_gib or 0.0,
            where=where,
            others=f", where other programs use {used:.1f} GiB" if used else "",
            changes=f"In this order: {changes}." if changes else SMALLER,
        )
    return report.model_dump(mode="json", include=set(SHOWN))


def attention_of(training: Mapping[str, Any]) -> str:
    """Return the attention implementation of a run, as estimate_vram names it."""
    named = str((training.get("model_init_kwargs") or {}).get("attn_implementation", "sdpa"))
    return "flash" if "flash" in named else "eager" if named == "eager" else "sdpa"


def host_memory(planned: PlannedRun, accepted: Collection[str]) -> dict[str, float] | None:
    """Return what a run on this machine's CPU needs of its memory, in GiB; None elsewhere.

    The same sum as on a GPU with full logits, for batches as long as the longest row, and Python
    with its libraries. The lower bound has rows of one token where none were counted. None, too,
    where the family is not known: a run that ends for its memory is resumed with less.

    Raises:
        Refused: By the rule `does_not_fit`, where even the lower bound is above the memory.

    Source: benchmarks/ram.json.
    """
    device = planned.device
    if planned.is_estimated or not device.memory_gib:
        return None
    most = planned.most_tokens
    cut = planned.training.get("max_length") or most or NOT_CUT
    try:
        filled, least = (
            _estimate(
                replace(
                    planned,
                    loss_head="full_logits",
                    training={**planned.training, "max_length": min(cut, tokens)},
                ),
            )
            for tokens in (most or NOT_CUT, most or 1)
        )
    except (BadInput, NotFound, MissingExtra):
        return None
    process = facts.number("loading.process_gib")
    low = round(least.peak_allocated_low_gib + LEAST_PROCESS_GIB, 2)
    needed, high = (
        round(gib + process, 2)
        for gib in (filled.peak_allocated_gib, filled.peak_allocated_high_gib * HOST_SLACK)
    )
    if low > device.memory_gib and FINDING not in accepted:
        sizes = {"needed": needed, "low": low, "machine": device.memory_gib}
        raise refusal("run_above_memory", **sizes)
    free = round(free_bytes() / 2**30, 2)
    return {"needed_gib": needed, "needed_low_gib": low, "needed_high_gib": high,
            "machine_gib": device.memory_gib, "free_gib": free}  # fmt: skip


def with_whole_logits(plan: Any) -> VramReport | None:
    """Estimate a plan on its GPU with a trainer that does not fuse the loss; None where unknown."""
    planned = PlannedRun(
        model=plan.model.load_from,
        task=plan.task,
        method=plan.method,
        peft=plan.peft,
        training=plan.training,
        device=plan.device,
        dtype=plan.weights_dtype,
        place=plan.place,
        loss_head="full_logits",
    )
    try:
        return _estimate(planned) if planned.is_estimated else None
    except (BadInput, NotFound, MissingExtra):
        return None


def _estimate(planned: PlannedRun, batch: Mapping[str, Any] | None = None) -> VramReport:
    """Estimate the run, on what other programs leave of the card."""
    training = {**planned.training, **(batch or {})}
    device, place = planned.device, planned.place
    adapter: dict[str, Any] = {}
    if planned.method != "full":
        shape = planned.peft or {"r": 16, "target_modules": "all-linear"}
        adapter = {"lora_rank": shape["r"], "target_modules": shape["target_modules"]}
        adapter["lora_dropout"] = shape.get("lora_dropout", 0.0)
        adapter["target_parameters"] = tuple(shape.get("target_parameters") or ())
    optimizer = training["optim"]
    # Of DPO and KTO TRL 1.16 pads always; "wrapped" rows are cut from one text and need no mask.
    is_flat = (
        planned.task == "sft"
        and not planned.mac
        and bool(
            training.get("padding_free")
            or (training.get("packing") and training.get("packing_strategy", "bfd") != "wrapped")
        )
    )
    is_padded = not (is_flat or training.get("packing"))
    micro = min(training[MICRO], planned.num_rows or training[MICRO])
    asked = {
        "model": planned.model,
        # An answer with its partner of KTO is about a pair of half as many prompts.
        "task": planned.task if planned.task in {"sft", "grpo"} else "dpo",
        "method": planned.method,
        "seq_len": training.get("max_length") or planned.most_tokens or NOT_CUT,
        "micro_batch": -(-micro // (2 if planned.task == "kto" else 1)),
        "gradient_accumulation_steps": training[STEPS],
        "gradient_checkpointing": bool(training.get("gradient_checkpointing")),
        "optimizer": optimizer if optimizer in get_args(Optimizer) else "adamw_torch",
        "dtype": planned.dtype,
        "mixed_precision": device.precision != "float32",
        "attention": attention_of(training),
        "padded_batches": is_padded,
        "packed_batches": is_flat,
        "precompute_ref_log_probs": bool(training.get("precompute_ref_log_probs")),
        **_memory_of(planned),
        "loss_head": planned.loss_head,
        "num_gpus": place.num_processes,
        "sharding": place.sharding if place.num_processes > 1 else "none",
    }
    if planned.task == "grpo":
        # vLLM holds keys and values in its own part of the card.
        by_vllm = bool(training.get("use_vllm"))
        asked["generated"] = 1 if by_vllm else written_together(training)
        answer = int(training["max_completion_length"])
        asked["prompt_len"] = max(1, asked["seq_len"] - answer)
    try:
        request = VramRequest.model_validate(asked | adapter)
    except ValidationError as error:
        raise BadInput("; ".join(complaints(VramRequest, error))) from error
    return estimate_vram(request)


def written_together(training: Mapping[str, Any]) -> int:
    """Return the completions that one call of a reinforcement run writes.

    Held-out rows are answered in batches of no more, but for one group.
    """
    written: int = training[MICRO] * training.get(WRITTEN, training[STEPS])
    return max(written, int(training.get("num_generations_eval", 1)))


def _memory_of(planned: PlannedRun) -> dict[str, Any]:
    """Return what holds the run, as arguments of estimate_vram."""
    if planned.mac:
        return {"gpu": planned.mac}
    free = planned.device.memory_gib - planned.used_gib
    if planned.training.get("use_vllm"):
        share = float(planned.training.get("vllm_gpu_memory_utilization", VLLM_SHARE))
        free -= share * planned.device.memory_gib
    return {"gpu_memory_gib": max(0.1, free)}
