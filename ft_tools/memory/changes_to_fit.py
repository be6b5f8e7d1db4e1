"""What fits: the largest batch and sequence, and the changes that make a run fit."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

from pydantic import ValidationError

from ft_tools import facts
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

    Once `fits` says no, it has to say no to everything larger.

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
    shape, rows = setup.shape, _rows()
    taken: list[tuple[str, Arguments]] = []
    start = estimate(setup, request.gpu)
    current, found = request, start
    while found.fits(usable_gib) != "yes":
        step = _cheapest(current, shape, found.peak)
        if step is None:
            break
        name, arguments, found = step
        taken.append((name, arguments))
        current = _changed(current, arguments)
    estimates = _one_by_one(request, shape, taken)
    if found.fits(usable_gib) == "yes":
        for one in reversed(taken[:-1]):
            rest = [other for other in taken if other is not one]
            fewer = _one_by_one(request, shape, rest)
            peaks = [start.peak, *(each.peak for each in fewer)]
            each_saves = all(later <= _with_a_saving(peak) for peak, later in pairwise(peaks))
            if fewer and each_saves and fewer[-1].fits(usable_gib) == "yes":
                taken, estimates = rest, fewer
    changes: list[Change] = []
    so_far: Arguments = {}
    for (name, arguments), found in zip(taken, estimates, strict=True):
        so_far = so_far | arguments
        changes.append(
            Change(
                change=rows[name]["change"],
                cost=rows[name]["cost"],
                arguments=so_far,
                peak_allocated_gib=round(found.peak / GIB, 3),
                fits=found.fits(usable_gib),
            )
        )
    return changes


def _cheapest(
    request: VramRequest, shape: ModelShape, peak: float
) -> tuple[str, Arguments, Estimate] | None:
    """Find the first change that saves something now; one that did not may do so later."""
    for name, row in _rows().items():
        if arguments := _replaced(name, row, request):
            found = _estimated(_changed(request, arguments), shape)
            if found.peak <= _with_a_saving(peak):
                return name, arguments, found
    return None


def _with_a_saving(peak: float) -> float:
    return peak * (1 - MIN_SAVING)


def _one_by_one(
    request: VramRequest, shape: ModelShape, changes: list[tuple[str, Arguments]]
) -> list[Estimate]:
    """Estimate a run after each of these changes; none if one isn't possible after those before it.

    A sharded optimizer, say, isn't without the GPUs to share.
    """
    estimates: list[Estimate] = []
    so_far: Arguments = {}
    try:
        for _, arguments in changes:
            so_far = so_far | arguments
            estimates.append(_estimated(_changed(request, so_far), shape))
    except ValidationError:
        return []
    return estimates


def _rows() -> dict[str, dict[str, Any]]:
    return facts.table_of("changes.toml", "memory")


def _estimated(request: VramRequest, shape: ModelShape) -> Estimate:
    return estimate(setup_of(request, shape), request.gpu)


def _replaced(name: str, row: dict[str, Any], request: VramRequest) -> Arguments:
    """Return the arguments that a change replaces; empty where it does not apply."""
    if any(getattr(request, key) not in values for key, values in row.get("when", {}).items()):
        return {}
    if name == "micro_batch":
        steps = request.gradient_accumulation_steps * request.micro_batch
        one = {"micro_batch": 1, "gradient_accumulation_steps": steps}
        return one if request.micro_batch > 1 else {}
    if "least" in row:
        present = getattr(request, name)
        # A prompt is not cut.
        least = max(row["least"], 2 * (request.prompt_len or 0) + 2 if name == "seq_len" else 0)
        return {name: present // 2} if present >= least else {}
    arguments: Arguments = row["set"]
    if "num_gpus" in arguments and (
        arguments["num_gpus"] <= request.num_gpus or request.task == "grpo"
    ):
        # launch_grpo trains in one process.
        return {}
    if "num_gpus" in arguments and request.method == "qlora":
        # launch_* shards 16-bit bases only.
        return arguments | {"method": "lora", "quantization": None}
    return arguments


def _changed(request: VramRequest, arguments: Arguments) -> VramRequest:
    changed = request.model_dump(exclude_none=True, exclude_unset=True) | arguments
    return VramRequest.model_validate({k: v for k, v in changed.items() if v is not None})
