"""How long work takes: the speeds of devices, and a duration as every plan shows it.

Operations per second bound training and reading; memory bandwidth bounds generation, which reads
all weights for each token of a batch.
"""

import contextlib
import os
import sys
from collections.abc import Iterable
from typing import ClassVar

import psutil
from pydantic import BaseModel, ConfigDict, Field

from ft_tools import facts
from ft_tools.errors import UnknownName
from ft_tools.runs.hardware.devices import Device

Range = tuple[float, float]
"""The lowest and the highest value that is likely."""
Part = tuple[float, Range | None]
"""An amount of work, and the seconds that one of it takes; None: not known."""
CPU, MLX = "cpu", "mlx"
# Measured: LoRA steps of SmolLM2-135M, 111 tokens a second of one core in float32 (6e10); half of
# it beside another program, twice with products in bfloat16.
CPU_FLOPS_PER_CORE: Range = (3.0e10, 1.2e11)
# MLX on a Linux CPU multiplies with one thread of the reference BLAS, whatever the cores. Measured:
# LoRA steps of SmolLM2-135M in float32, 6 tokens a second (3.2e9); half of it beside others.
MLX_CPU_FLOPS: Range = (1.6e9, 3.5e9)
# Source: arXiv 2204.02311 (PaLM) reports 0.46; a single adapter run on one card reaches less.
GPU_UTILISATION: Range = (0.15, 0.46)
# Measured: SmolLM2-135M (269 MB on disk), computed in float32 on 2 shared cores in batches of 32:
# 5,600 tokens in 52 s. Seconds for one token of one sequence, a byte of 16-bit weights. MLX on a
# Linux CPU: 3.0e9 operations per second (benchmarks/fast_blas.json), two for each weight.
SECONDS_PER_TOKEN_BYTE = {CPU: 3.5e-11, MLX: 3.3e-10}
BUSY = 0.5
"""Other programs per core from which on they are counted."""
LOOK_SECONDS = 0.3
TEN_MINUTES = 600.0


class Duration(BaseModel):
    """How long work takes; refined by later runs, so not part of what is agreed to."""

    CONCISE: ClassVar[tuple[str, ...]] = (
        *("low_seconds", "high_seconds", "steps_in_ten_minutes", "low_cost", "high_cost"),
    )

    model_config = ConfigDict(extra="ignore", frozen=True)

    low_seconds: float
    high_seconds: float
    source: str = Field(
        description="Earlier runs, a measured step, or the table of rates; get_run knows better "
        "after the first steps."
    )
    steps_in_ten_minutes: int | None = Field(
        None,
        description="Steps that end within ten minutes even at the slowest rate. To keep a time "
        "limit, set training.max_steps to as many per ten minutes; null: not one step.",
    )
    low_cost: float | None = Field(None, description="At price_per_hour, in its currency.")
    high_cost: float | None = Field(None, description="At price_per_hour, in its currency.")


def duration(
    parts: Iterable[Part],
    source: str,
    *,
    load: float = 0.0,
    price: float | None = None,
    steps: int = 0,
) -> Duration | None:
    """Return what parts of work take one after the other; None where one has no known rate.

    It has two digits, its cost, and the steps that fit ten minutes.

    Args:
        parts: On a machine that does nothing else.
        source: Where their rates come from.
        load: Other programs that wait for a core, per core.
        price: Of an hour, in any currency.
        steps: Of the work.

    >>> found = duration([(10, (1.0, 2.0)), (1, (5.0, 5.0))], "measured")
    >>> (found.low_seconds, found.high_seconds) if found else None
    (15.0, 25.0)
    """
    low = high = 0.0
    for amount, seconds in parts:
        if seconds is None:
            return None
        low, high = low + amount * seconds[0], high + amount * seconds[1]
    if load >= BUSY:
        # Whatever else runs may end soon, or not at all: only the longer time grows.
        high *= 1 + load
        source += f"; the machine is busy ({load:.1f} programs per core)"
    low, high = float(f"{low:.2g}"), float(f"{high:.2g}")
    low_cost, high_cost = (
        None if price is None else round(s * price / 3600, 2) for s in (low, high)
    )
    return Duration(
        low_seconds=low,
        high_seconds=high,
        source=source,
        steps_in_ten_minutes=int(TEN_MINUTES * steps / high) or None if high else None,
        low_cost=low_cost,
        high_cost=high_cost,
    )


def about(seconds: float | None, off: Range) -> Range | None:
    """Return the range around one value, by what it may be off."""
    return None if seconds is None else (seconds * off[0], seconds * off[1])


def present_load(device: Device) -> float:
    """Return how many other programs want each core of this machine now; 0 for a GPU's run.

    The load is a mean of a minute: it also counts what has ended by now, such as the run before.
    """
    if device.name == CPU and psutil.cpu_percent(interval=LOOK_SECONDS) >= 100 * BUSY:
        with contextlib.suppress(OSError):
            return float(psutil.getloadavg()[0]) / (os.cpu_count() or 1)
    return 0.0


def operations_per_second(device: Device, engine: str = "torch") -> Range | None:
    """Return the operations per second of training; None: the device's speed is not known."""
    if engine == MLX:
        # No Mac was measured.
        return None if sys.platform == "darwin" else MLX_CPU_FLOPS
    if device.name == CPU:
        cores = os.cpu_count() or 1
        return CPU_FLOPS_PER_CORE[0] * cores, CPU_FLOPS_PER_CORE[1] * cores
    peak = gpu_flops(device.model)
    return None if peak is None else (peak * GPU_UTILISATION[0], peak * GPU_UTILISATION[1])


def gpu_flops(name: str) -> float | None:
    """Return the dense 16-bit operations per second of a GPU; None: it is not known."""
    with contextlib.suppress(UnknownName):
        card = facts.gpu(name)
        if flops := card.bf16_dense_tflops or card.fp16_dense_tflops:
            return flops * 1e12
    return None


def token_seconds(num_bytes: int, place: str, batch_size: int = 1) -> tuple[float, float] | None:
    """Return about what a token takes to make and to read; None: the device's speed is not known.

    On a GPU a step reads all weights once for the whole batch, and takes at least what starting its
    kernels takes. A read token takes two operations for each weight, which has two bytes.

    Args:
        num_bytes: Of the weights.
        place: `cpu`, `mlx` or a GPU's name.
        batch_size: Answers that are made together.
    """
    if place in SECONDS_PER_TOKEN_BYTE:
        seconds = num_bytes * SECONDS_PER_TOKEN_BYTE[place]
        # No Mac was measured.
        return None if place == MLX and sys.platform == "darwin" else (seconds, seconds)
    if (flops := gpu_flops(place)) is None:
        return None
    number = facts.number
    step = max(
        number("evaluation.step_seconds"), num_bytes / flops * number("evaluation.flops_per_byte")
    )
    return step / batch_size, num_bytes / (flops * number("evaluation.read_fraction"))
