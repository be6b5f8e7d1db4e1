"""How much of a card's peak rate training reaches: the range of published runs."""

from dataclasses import dataclass
from functools import cache

from pydantic import TypeAdapter

from ft_tools import facts
from ft_tools.approach.table import table
from ft_tools.facts import Fact
from ft_tools.models.catalog import shape_of
from ft_tools.vram.setup import Method, Task

FILE = "throughput.toml"
FLOPS_PER_TFLOPS = 1e12


class PublishedRun(Fact):
    """A run with its speed, as published."""

    model: str
    gpu: str
    method: Method
    num_gpus: int
    tokens_per_second: float
    data: str


@dataclass(frozen=True)
class Utilisation:
    """Fractions of the peak rate: the slowest and the fastest of the runs like this one."""

    low: float
    high: float
    num_runs: int


@cache
def published() -> tuple[PublishedRun, ...]:
    """Return the published runs."""
    rows = facts.rows_of(FILE, "runs")
    return tuple(TypeAdapter(list[PublishedRun]).validate_python(rows))


@cache
def utilisation(method: Method, is_sharded: bool) -> Utilisation:
    """Return the range of the published runs that train as much, on one card or on several."""
    seen = [
        reached(run)
        for run in published()
        if (run.method == "full") == (method == "full") and (run.num_gpus > 1) == is_sharded
    ]
    return Utilisation(min(seen), max(seen), len(seen))


def reached(run: PublishedRun) -> float:
    """Return the share of the peak rate that a run reached.

    share = tokens a second * active parameters * FLOPs a parameter and token / peak rate

    Raises:
        ValueError: No rate is published for its card.
    """
    peak = facts.gpu(run.gpu).bf16_dense_tflops
    if peak is None:
        raise ValueError(f"{run.gpu} has no published bf16 rate")
    work = run.tokens_per_second * shape_of(run.model).active_params
    return work * flops("sft", run.method) / (peak * FLOPS_PER_TFLOPS)


def flops(task: Task, method: Method) -> float:
    """Return the floating-point operations a parameter and token."""
    trained = "full" if method == "full" else "lora"
    return table().gpu_time[f"flops_{task}_{trained}"].value
