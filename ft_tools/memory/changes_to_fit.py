"""What fits: the largest batch and sequence, and the changes that make a run fit."""

import tomllib
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from importlib.resources import files
from typing import Any

from pydantic import ValidationError

from ft_tools.memory.bounds import Estimate, estimate
from ft_tools.memory.report import Change
from ft_tools.memory.request import VramRequest
from ft_tools.memory.request_to_setup import setup_of
from ft_tools.memory.setup import Setup
from ft_tools.models.shape import ModelShape

GIB = 2**30
MAX_MICRO_BATCH = 65_536
# Where the config names no limit, this is asked for at most.
MAX_SEQ_LEN = 1_048_576
SEQ_LEN_STEP = 64
# Saving less than this is no change worth naming.
MIN_SAVING = 0.002
Arguments = dict[str, Any]


def largest(fits: Callable[[int], bool], limit: int) -> int:
    """Return the largest whole number up to the limit that fits, 0 if none does.

    Args:
        fits: Monotone: once it says no, it says no to everything larger.
        limit: At least 1.

    >>> largest(lambda n: n * n < 50, limit=100)
    7
    """
    if not fits(1):
        return 0
    low = 1
    while low < limit and fits(min(2 * low, limit)):
        low = min(2 * low, limit)
    high = min(2 * low, limit)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def max_micro_batch(setup: Setup, gpu: str | None, usable_gib: float) -> int:
    """Return the largest number of examples per pass that fits, 0 if not even one does."""
    return largest(
        lambda n: _fits(replace(setup, micro_batch=n), gpu, usable_gib), limit=MAX_MICRO_BATCH
    )


def max_seq_len(setup: Setup, gpu: str | None, usable_gib: float) -> int:
    """Return the longest sequence that fits, in whole steps of 64 tokens; 0 if none does."""
    limit = setup.shape.max_positions or MAX_SEQ_LEN
    return SEQ_LEN_STEP * largest(
        lambda n: _fits(replace(setup, seq_len=n * SEQ_LEN_STEP), gpu, usable_gib),
        limit=max(1, limit // SEQ_LEN_STEP),
    )


def _fits(setup: Setup, gpu: str | None, usable_gib: float) -> bool:
    return estimate(setup, gpu).fits(usable_gib) == "yes"


def changes_to_fit(request: VramRequest, setup: Setup, usable_gib: float) -> list[Change]:
    """List what to change until the run fits, cheapest in quality first, then in speed.

    Changes add up. Each is the cheapest one that saves something when its turn comes; what the
    last one makes needless is left out.

    Returns:
        Changes; the last one fits, unless all of them together don't suffice.
    """
    taken: list[tuple[str, Arguments]] = []
    current, found = request, estimate(setup, request.gpu)
    while found.fits(usable_gib) != "yes":
        step = _cheapest(current, setup.shape, found.peak)
        if step is None:
            break
        taken.append(step)
        current = _changed(current, step[1])
        found = _estimated(current, setup.shape)
    if found.fits(usable_gib) == "yes":
        for one in reversed(taken[:-1]):
            rest = [other for other in taken if other is not one]
            if _suffice(request, setup.shape, rest, usable_gib):
                taken = rest
    changes: list[Change] = []
    so_far: Arguments = {}
    for name, arguments in taken:
        so_far = so_far | arguments
        found = _estimated(_changed(request, so_far), setup.shape)
        changes.append(
            Change(
                **_texts()[name],
                arguments=so_far,
                peak_allocated_gib=round(found.peak / GIB, 3),
                fits=found.fits(usable_gib),
            )
        )
    return changes


def _suffice(
    request: VramRequest,
    shape: ModelShape,
    taken: list[tuple[str, Arguments]],
    usable_gib: float,
) -> bool:
    """Return whether a run fits with these changes, each possible after those before it."""
    changed = request
    for _, arguments in taken:
        try:
            changed = _changed(changed, arguments)
        except ValidationError:
            # A sharded optimizer, say, without the GPUs to share.
            return False
    return _estimated(changed, shape).fits(usable_gib) == "yes"


def _cheapest(request: VramRequest, shape: ModelShape, peak: float) -> tuple[str, Arguments] | None:
    """Find the first change that saves something now; one that did not may do so later."""
    for name, step in STEPS.items():
        arguments = step(request)
        if arguments is None:
            continue
        changed = _estimated(_changed(request, arguments), shape)
        if changed.peak <= peak * (1 - MIN_SAVING):
            return name, arguments
    return None


@cache
def _texts() -> dict[str, dict[str, str]]:
    text = files("ft_tools.memory").joinpath("changes.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def _estimated(request: VramRequest, shape: ModelShape) -> Estimate:
    return estimate(setup_of(request, shape), request.gpu)


def _changed(request: VramRequest, arguments: Arguments) -> VramRequest:
    changed = request.model_dump(exclude_none=True) | arguments
    return VramRequest.model_validate({k: v for k, v in changed.items() if v is not None})


def _where(applies: bool, **arguments: Any) -> Arguments | None:
    return arguments if applies else None


def _one_example(request: VramRequest) -> Arguments | None:
    steps = request.gradient_accumulation_steps * request.micro_batch
    return _where(request.micro_batch > 1, micro_batch=1, gradient_accumulation_steps=steps)


def _more_gpus(request: VramRequest, num_gpus: int) -> Arguments | None:
    # launch_* shards 16-bit bases only.
    method = {"method": "lora", "quantization": None} if request.method == "qlora" else {}
    return _where(
        request.num_gpus < num_gpus,
        num_gpus=num_gpus,
        sharding="fsdp",
        optimizer="adamw_torch_fused",
        **method,
    )


PLAIN = {"adamw_torch", "adamw_torch_fused"}
ALONE, WHOLE = {"none", "ddp"}, {"fsdp", "fsdp1", "zero3"}
STEPS: dict[str, Callable[[VramRequest], Arguments | None]] = {
    "loss_head": lambda r: _where(
        r.loss_head in {"full_logits", "fused_logits"}, loss_head="fused_linear"
    ),
    "attention": lambda r: _where(r.attention == "eager", attention="sdpa"),
    "padding": lambda r: _where(
        r.packed_batches and r.attention != "flash", packed_batches=False, padded_batches=True
    ),
    "reference": lambda r: _where(
        r.task == "dpo" and r.method == "full" and not r.precompute_ref_log_probs,
        precompute_ref_log_probs=True,
    ),
    "fused_optimizer": lambda r: _where(
        r.optimizer == "adamw_torch", optimizer="adamw_torch_fused"
    ),
    "checkpointing": lambda r: _where(not r.gradient_checkpointing, gradient_checkpointing=True),
    "micro_batch": _one_example,
    "sharding": lambda r: _where(
        r.sharding in {"ddp", "zero2"} and r.method != "qlora", sharding="fsdp"
    ),
    "eight_bit": lambda r: _where(
        r.optimizer in PLAIN and r.sharding in ALONE, optimizer="adamw_8bit"
    ),
    "paged": lambda r: _where(
        r.optimizer == "adamw_8bit" and r.sharding in ALONE, optimizer="paged_adamw_8bit"
    ),
    "lora": lambda r: _where(
        r.method == "full",
        method="lora",
        lora_rank=16,
        optimizer="adamw_torch_fused",
        precompute_ref_log_probs=False,
    ),
    "qlora": lambda r: _where(r.method == "lora" and r.sharding not in WHOLE, method="qlora"),
    "seq_len": lambda r: _where(r.seq_len >= 1024, seq_len=r.seq_len // 2),
    "eight_gpus": lambda r: _more_gpus(r, 8),
    "many_gpus": lambda r: _more_gpus(r, 64),
}
"""Id of a row of changes.toml -> the fields to replace, None where it does not apply; in order."""
