"""Whether a plan fits: estimate_vram for a GPU, the weights and their states for a CPU."""

import contextlib
from collections.abc import Collection, Iterator, Mapping
from itertools import product
from pathlib import Path
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
from ft_tools.models.mlx import is_apple_silicon, mac_name
from ft_tools.models.shape import ALL_LINEAR
from ft_tools.models.shape_of_model import shape_of
from ft_tools.runs.hardware.memory import free_bytes
from ft_tools.training.defaults import BATCH, LORA
from ft_tools.training.findings import refusal
from ft_tools.training.training_plan import TrainingPlan

FINDING = "does_not_fit"
UNCHECKED = "memory_unchecked"
HOST_SLACK = 1.1
"""What a CPU's allocator holds over the sum. Source: benchmarks/ram.json."""
LEAST_PROCESS_GIB = 0.32
"""Of Python with its libraries, what cannot be dropped. Source: benchmarks/loading.json."""
NOT_CUT = 2048
"""Tokens of a row where neither max_length nor a count is known, as estimate_vram has it; of a row
that the model answers itself half of it is the prompt."""
SMALLER = "Take a smaller model or a larger card."
SHOWN = ("summary", "fits", "peak_allocated_gib", "peak_allocated_low_gib",
         "peak_allocated_high_gib", "process_high_gib", "usable_gib", "dominant_phase",
         "max_micro_batch")  # fmt: skip
VLLM_SHARE = 0.3
"""Of the card, where the caller names no other. Source: TRL 1.16, GRPOConfig."""
MICRO, STEPS = BATCH
WRITTEN = "steps_per_generation"
"""Micro-batches whose answers one call of a reinforcement run writes; a step's where not given."""
CHECKPOINTING = "gradient_checkpointing"


def fastest_that_fits(plan: TrainingPlan, given: Collection[str]) -> dict[str, Any]:
    """Choose checkpointing, micro-batch and optimizer: the fastest whose upper bound fits.

    The bound has to fit beside what other programs use.
    A step sees as many examples as before, and what the caller named stays. Blocks are recomputed
    only where too few tokens fit in a pass otherwise; the micro-batch is as large as fits, up to
    the tokens that keep a GPU busy: more rows are only padded further. States of 8 bits are the
    last resort.
    """
    if not _is_estimated(plan):
        return {}
    choices = list(_choices(plan, set(given)))
    chosen = choices[-1] if choices else {}
    # What a sharded process takes was seen at up to 1.6 times its allocations, so that nothing that
    # fills the cards is sure to fit; there the allocations decide.
    allocated = None
    try:
        for choice in choices:
            report = _estimate(plan, choice)
            if report.fits == "yes":
                chosen = choice
                break
            high = report.peak_allocated_high_gib + DEFAULT_CONTEXT_GIB
            if allocated is None and high <= (report.usable_gib or 0.0):
                allocated = choice
        else:
            is_sharded = plan.place.num_processes > 1 and plan.place.sharding != "ddp"
            chosen = allocated if allocated and is_sharded else chosen
    except (BadInput, NotFound, MissingExtra):
        return {}
    return {k: v for k, v in chosen.items() if plan.training.get(k) != v}


def _choices(plan: TrainingPlan, given: set[str]) -> Iterator[dict[str, Any]]:
    """Yield what may be chosen, fastest first; the last one takes least memory."""
    training, most_tokens, mac = plan.training, plan.most_tokens, _mac(plan)
    effective = training[MICRO] * training[STEPS]
    tokens = training.get("max_length") or most_tokens or _not_cut(training)
    sequences = 1 if plan.task in {"sft", "grpo"} else 2
    tokens = min(tokens, most_tokens or tokens) * sequences
    sizes = [training[MICRO]]
    if not {MICRO, STEPS} & given:
        most = max(training[MICRO], int(facts.number("speed.most_tokens")) // tokens)
        sizes = [n for n in _halved(effective, 2 if plan.task == "kto" else 1) if n <= most]
    recomputes = [False, True]
    if CHECKPOINTING in given or mac:
        recomputes = [bool(training.get(CHECKPOINTING))]
    optimizers = [training["optim"]]
    if plan.method == "full" and "optim" not in given and not mac:
        optimizers.append("paged_adamw_8bit")
    for optimizer, recompute, size in product(optimizers, recomputes, sizes):
        is_thin = size * tokens < facts.number("speed.least_tokens") and size < effective
        if recompute or not is_thin or len(recomputes) == 1:
            chosen = {MICRO: size, STEPS: effective // size}
            chosen |= {CHECKPOINTING: recompute, "optim": optimizer}
            yield chosen
            yield from ({**chosen, WRITTEN: n} for n in _fewer_written(plan, chosen))


def is_scaled_over_all(training: Mapping[str, Any]) -> bool:
    """Return whether advantages are scaled by all rewards of a step, which needs them together."""
    return (
        training.get("scale_rewards") == "batch"
        or training.get("multi_objective_aggregation") == "normalize_then_sum"
    )


def _fewer_written(plan: TrainingPlan, chosen: Mapping[str, Any]) -> list[int]:
    """Return into how many micro-batches the answers of one call may go, if fewer than a step's.

    Whole groups are written. vLLM writes in its own part of the card.
    """
    training = plan.training
    if plan.task != "grpo" or training.get("use_vllm") or is_scaled_over_all(training):
        return []
    return [
        count
        for count in range(chosen[STEPS] - 1, 0, -1)
        if not chosen[STEPS] % count and not chosen[MICRO] * count % training["num_generations"]
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


def require_fit(plan: TrainingPlan, accepted: Collection[str]) -> dict[str, Any] | None:
    """Refuse a plan that does not fit the card, or that cannot be checked, unless accepted.

    Returns:
        The main figures of the estimate; None on a CPU, or where it was accepted unchecked.
    """
    if not _is_estimated(plan):
        return None
    where = _mac(plan) or plan.device.model
    try:
        report = _estimate(plan)
    except (BadInput, NotFound, MissingExtra) as error:
        if UNCHECKED not in accepted:
            fits = f"whether this run fits {where}"
            raise refusal("memory_unknown", what=fits, error=error) from error
        return None
    if report.fits == "no" and FINDING not in accepted:
        changes = "; ".join(change.change for change in report.changes_to_fit)
        used = plan.estimate.used_by_others_gib
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


def host_memory(plan: TrainingPlan, accepted: Collection[str]) -> dict[str, float] | None:
    """Return what a run on this machine's CPU needs of its memory, in GiB; None elsewhere.

    The same sum as on a GPU with full logits, for batches as long as the longest row, and Python
    with its libraries. The lower bound has rows of one token where none were counted. None, too,
    where the family is not known: a run that ends for its memory is resumed with less.

    Source: benchmarks/ram.json.
    """
    device, most = plan.device, plan.most_tokens
    if _is_estimated(plan) or not device.memory_gib:
        return None
    unknown = _not_cut(plan.training)
    cut = plan.training.get("max_length") or most or unknown
    try:
        filled, least = (
            _estimate(plan, {"max_length": min(cut, tokens)}, loss_head="full_logits")
            for tokens in (most or unknown, most or 1)
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


def with_whole_logits(plan: TrainingPlan) -> VramReport | None:
    """Estimate a plan on its GPU with a trainer that does not fuse the loss; None where unknown."""
    with contextlib.suppress(BadInput, NotFound, MissingExtra):
        return _estimate(plan, loss_head="full_logits") if _is_estimated(plan) else None
    return None


def _not_cut(training: Mapping[str, Any]) -> int:
    """Return the tokens of a row where nothing says how long it is."""
    answer = training.get("max_completion_length")
    return NOT_CUT // 2 + int(answer) if answer else NOT_CUT


def _mac(plan: TrainingPlan) -> str:
    """Return the Mac that MLX trains on, as the catalog names it; empty: no Mac."""
    return mac_name() if plan.engine == "mlx" and is_apple_silicon() else ""


def _is_estimated(plan: TrainingPlan) -> bool:
    return plan.device.name != "cpu" or bool(_mac(plan))


def _estimate(
    plan: TrainingPlan, changed: Mapping[str, Any] | None = None, loss_head: str = "auto"
) -> VramReport:
    """Estimate a run with some arguments changed, on what other programs leave of the card."""
    training, place = {**plan.training, **(changed or {})}, plan.place
    # Of DPO and KTO TRL 1.16 pads always.
    packed = bool(training.get("packing"))
    is_flat = plan.task == "sft" and not _mac(plan) and bool(packed or training.get("padding_free"))
    optimizer, micro = training["optim"], training[MICRO]
    # A micro-batch has no more rows than there are.
    micro = micro if plan.task == "grpo" else min(micro, plan.num_rows)
    asked = {
        "model": plan.model.load_from,
        # An answer with its partner of KTO is about a pair of half as many prompts.
        "task": plan.task if plan.task in {"sft", "grpo"} else "dpo",
        "method": plan.method,
        "seq_len": training.get("max_length") or plan.most_tokens or _not_cut(training),
        "micro_batch": -(-micro // (2 if plan.task == "kto" else 1)),
        "gradient_accumulation_steps": training[STEPS],
        "gradient_checkpointing": bool(training.get(CHECKPOINTING)),
        "optimizer": optimizer if optimizer in get_args(Optimizer) else "adamw_torch",
        "dtype": plan.weights_dtype,
        "mixed_precision": plan.device.precision != "float32",
        "attention": attention_of(training),
        "padded_batches": not (is_flat or packed),
        "packed_batches": is_flat,
        "precompute_ref_log_probs": bool(training.get("precompute_ref_log_probs")),
        **_memory_of(plan),
        "loss_head": loss_head,
        "num_gpus": place.num_processes,
        "sharding": place.sharding if place.num_processes > 1 else "none",
    }
    if plan.method != "full":
        adapter = plan.adapter or LORA
        asked |= {"lora_rank": adapter["r"], "target_modules": _targets(plan, adapter)}
        asked["lora_dropout"] = adapter.get("lora_dropout", 0.0)
        asked["target_parameters"] = tuple(adapter.get("target_parameters") or ())
    if plan.task == "grpo":
        # vLLM holds keys and values in its own part of the card.
        by_vllm = bool(training.get("use_vllm"))
        asked["generated"] = 1 if by_vllm else written_together(training)
        answer = int(training["max_completion_length"])
        asked["prompt_len"] = max(1, asked["seq_len"] - answer)
    try:
        request = VramRequest.model_validate(asked)
    except ValidationError as error:
        raise BadInput("; ".join(complaints(VramRequest, error))) from error
    return estimate_vram(request)


def _targets(plan: TrainingPlan, adapter: Mapping[str, Any]) -> Any:
    """Return the modules of an adapter as estimate_vram knows them.

    In the file of one that was trained, PEFT names every layer of that "all-linear" found, also of
    excluded towers; others may name whole paths or embeddings.
    """
    named = adapter["target_modules"]
    if plan.peft is not None:
        return named
    is_listed = isinstance(named, list) and not adapter.get("exclude_modules")
    known = is_listed and all(map(shape_of(plan.model.load_from).targets, named))
    return named if known else ALL_LINEAR


def written_together(training: Mapping[str, Any]) -> int:
    """Return the completions that one call of a reinforcement run writes.

    Held-out rows are answered in batches of no more, but for one group.
    """
    written: int = training[MICRO] * training.get(WRITTEN, training[STEPS])
    return max(written, int(training.get("num_generations_eval", 1)))


def _memory_of(plan: TrainingPlan) -> dict[str, Any]:
    """Return what holds the run, as arguments of estimate_vram."""
    if mac := _mac(plan):
        return {"gpu": mac}
    free = plan.device.memory_gib - plan.estimate.used_by_others_gib
    if plan.training.get("use_vllm"):
        share = float(plan.training.get("vllm_gpu_memory_utilization", VLLM_SHARE))
        free -= share * plan.device.memory_gib
    if plan.model.adapter and plan.task in {"dpo", "kto"}:
        # The frozen copy beside the adapter that is trained.
        files = Path(plan.model.adapter).glob("*.safetensors")
        free -= sum(file.stat().st_size for file in files) / 2**30
    return {"gpu_memory_gib": max(0.1, free)}
