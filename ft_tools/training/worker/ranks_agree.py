"""What several ranks of one run do together: agree, wait for each other, look from rank 0.

With one process each of these is the plain answer. Flags travel over gloo, on the CPU: asking
after each step must not make a GPU wait.
"""

import os
from datetime import timedelta
from functools import cache
from typing import Any

import torch
import torch.distributed as dist
from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from ft_tools.runs.state import ranks
from ft_tools.training.training_plan import TrainingPlan

WAIT_SECONDS = 7200.0
"""What ranks wait for one of them: rank 0 hashes a checkpoint of 840 GB at 120 MB per second."""
# Rank 0 reads the weights and the others get their parts of it.
# Source: accelerate 1.15, state.py; transformers 5.24, distributed/fsdp.py, is_fsdp_enabled.
FSDP = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "true",
    "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT",
}


def local_rank() -> int:
    """Return this rank's place on its machine: the GPU that is its own."""
    return int(os.environ.get("LOCAL_RANK", "0")) if ranks.is_rank() else 0


def meet(plan: TrainingPlan) -> None:
    """Have the ranks of the run find each other.

    What decides how they load and how long they wait for each other has to be there before: a
    process group keeps the time that it is made with, and loading asks the environment.
    """
    if not ranks.are_several():
        return
    if plan.place.sharding == "fsdp":
        os.environ.update(FSDP)
    seconds = plan.training.get("ddp_timeout") or WAIT_SECONDS
    PartialState(cpu=plan.device.name == "cpu", timeout=timedelta(seconds=seconds))
    _flags()


def any_of(flag: bool) -> bool:
    """Return whether any rank says yes; every rank has to ask."""
    if not ranks.are_several():
        return flag
    said = torch.tensor([int(flag)])
    dist.all_reduce(said, op=dist.ReduceOp.MAX, group=_flags())
    return bool(said.item())


def wait() -> None:
    """Wait until every rank is here."""
    if ranks.are_several():
        dist.barrier(group=_flags())


def from_the_first(value: Any) -> Any:
    """Return what rank 0 has; every rank has to ask."""
    if not ranks.are_several():
        return value
    return broadcast_object_list([value], from_process=0)[0]


@cache
def _flags() -> Any:
    return dist.new_group(backend="gloo", timeout=timedelta(seconds=WAIT_SECONDS))
