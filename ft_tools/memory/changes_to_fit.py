"""What fits: the largest batch and sequence, and the changes that make a run fit."""

from collections.abc import Callable
from dataclasses import dataclass, replace
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


@dataclass(frozen=True)
class _Step:
    """A change that saves memory, and what it costs."""

    change: str
    cost: str
    arguments: Callable[[VramRequest], Arguments | None]
    """The fields to replace; None where the change does not apply."""


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
    taken: list[tuple[_Step, Arguments]] = []
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
    for one_step, arguments in taken:
        so_far = so_far | arguments
        found = _estimated(_changed(request, so_far), setup.shape)
        changes.append(
            Change(
                change=one_step.change,
                arguments=so_far,
                cost=one_step.cost,
                peak_allocated_gib=round(found.peak / GIB, 3),
                fits=found.fits(usable_gib),
            )
        )
    return changes


def _suffice(
    request: VramRequest,
    shape: ModelShape,
    taken: list[tuple[_Step, Arguments]],
    usable_gib: float,
) -> bool:
    """Return whether a run fits with these changes, each possible after those before it."""
    changed = request
    for _, arguments in taken:
        try:
            changed = _changed(changed, arguments)
        except ValidationError:
            # Offloading, say, without the GPUs that it is done on.
            return False
    return _estimated(changed, shape).fits(usable_gib) == "yes"


def _cheapest(
    request: VramRequest, shape: ModelShape, peak: float
) -> tuple["_Step", Arguments] | None:
    """Find the first change that saves something now; one that did not may do so later."""
    for step in STEPS:
        arguments = step.arguments(request)
        if arguments is None:
            continue
        changed = _estimated(_changed(request, arguments), shape)
        if changed.peak <= peak * (1 - MIN_SAVING):
            return step, arguments
    return None


def _estimated(request: VramRequest, shape: ModelShape) -> Estimate:
    return estimate(setup_of(request, shape), request.gpu)


def _changed(request: VramRequest, arguments: Arguments) -> VramRequest:
    changed = request.model_dump(exclude_none=True) | arguments
    return VramRequest.model_validate({k: v for k, v in changed.items() if v is not None})


def _if(condition: bool, **arguments: Any) -> Arguments | None:
    return arguments if condition else None


def _one_example(request: VramRequest) -> Arguments | None:
    if request.micro_batch == 1:
        return None
    steps = request.gradient_accumulation_steps * request.micro_batch
    return {"micro_batch": 1, "gradient_accumulation_steps": steps}


def _more_gpus(request: VramRequest, num_gpus: int) -> Arguments | None:
    if request.num_gpus >= num_gpus:
        return None
    found: Arguments = {"num_gpus": num_gpus, "sharding": "fsdp", "optimizer": "adamw_torch_fused"}
    # launch_* shards 16-bit bases only.
    return found | ({"method": "lora", "quantization": None} if request.method == "qlora" else {})


def _eight_bit(request: VramRequest) -> Arguments | None:
    plain = request.optimizer in {"adamw_torch", "adamw_torch_fused"}
    return _if(plain and not request.sharding.startswith(("zero", "fsdp")), optimizer="adamw_8bit")


def _paged(request: VramRequest) -> Arguments | None:
    alone = request.sharding in {"none", "ddp"}
    return _if(alone and request.optimizer == "adamw_8bit", optimizer="paged_adamw_8bit")


STEPS = (
    _Step(
        "compute the loss without full logits",
        "none; the same loss, and faster",
        lambda r: _if(r.loss_head in {"full_logits", "fused_logits"}, loss_head="fused_linear"),
    ),
    _Step(
        "use SDPA or flash attention",
        "none; the same result, and faster",
        lambda r: _if(r.attention == "eager", attention="sdpa"),
    ),
    _Step(
        "pad examples instead of packing them: SDPA masks all positions of a packed pass",
        "slower where examples differ much in length; flash attention packs without a mask",
        lambda r: _if(
            r.packed_batches and r.attention != "flash", packed_batches=False, padded_batches=True
        ),
    ),
    _Step(
        "compute the reference log-probabilities before training",
        "one pass over the data before training",
        lambda r: _if(
            r.task == "dpo" and r.method == "full" and not r.precompute_ref_log_probs,
            precompute_ref_log_probs=True,
        ),
    ),
    _Step(
        "use the fused optimizer",
        "none",
        lambda r: _if(r.optimizer == "adamw_torch", optimizer="adamw_torch_fused"),
    ),
    _Step(
        "recompute blocks in the backward pass (gradient checkpointing)",
        "the same result; one more forward pass, about a third more time",
        lambda r: _if(not r.gradient_checkpointing, gradient_checkpointing=True),
    ),
    _Step(
        "one example per pass, with more accumulation steps",
        "the same effective batch; slower if the GPU is not fully used",
        _one_example,
    ),
    _Step(
        "shard weights and states over the GPUs (FSDP)",
        "communication between the GPUs",
        lambda r: _if(
            r.sharding in {"ddp", "zero1", "zero2"} and r.method != "qlora", sharding="fsdp"
        ),
    ),
    _Step(
        "use 8-bit optimizer states",
        "none measured at usual learning rates",
        _eight_bit,
    ),
    _Step(
        "page optimizer states to host memory",
        "slower steps while paging",
        _paged,
    ),
    _Step(
        "offload optimizer states to host memory",
        "slower: states cross the bus in every step",
        lambda r: _if(
            r.sharding in {"zero2", "zero3", "fsdp"} and r.offload == "none", offload="optimizer"
        ),
    ),
    _Step(
        "train adapters instead of all weights (LoRA, rank 16)",
        "small for typical supervised datasets",
        lambda r: _if(
            r.method == "full",
            method="lora",
            lora_rank=16,
            optimizer="adamw_torch_fused",
            precompute_ref_log_probs=False,
        ),
    ),
    _Step(
        "keep the frozen base in 4 bits (QLoRA, NF4)",
        "small; slower, because each step dequantizes the weights",
        lambda r: _if(
            r.method == "lora"
            and r.dtype != "float32"
            and r.sharding not in {"fsdp", "fsdp1", "zero3"},
            method="qlora",
        ),
    ),
    _Step(
        "halve the longest sequence",
        "longer examples are truncated or dropped: check the token quantiles in audit_dataset",
        lambda r: _if(r.seq_len >= 1024, seq_len=r.seq_len // 2),
    ),
    _Step(
        "offload parameters to host memory too",
        "much slower: every block crosses the bus",
        lambda r: _if(
            r.sharding in {"zero3", "fsdp"} and r.offload == "optimizer", offload="parameters"
        ),
    ),
    _Step("shard over 8 GPUs (FSDP)", "more hardware", lambda r: _more_gpus(r, 8)),
    _Step("shard over 64 GPUs (FSDP)", "more hardware", lambda r: _more_gpus(r, 64)),
)
