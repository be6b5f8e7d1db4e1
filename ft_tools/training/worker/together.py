"""What several ranks of one run do together: agree, wait for each other, look from rank 0.

With one process each of these is the plain answer. Flags travel over gloo, on the CPU: asking
after each step must not make a GPU wait.
"""

import os
from functools import cache
from typing import Any

import torch
import torch.distributed as dist
from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from ft_tools.runs import ranks


def local_rank() -> int:
    """Return this rank's place on its machine: the GPU that is its own."""
    return int(os.environ.get("LOCAL_RANK", "0")) if ranks.is_rank() else 0


def meet(on_cpu: bool) -> None:
    """Have the ranks of the run find each other."""
    if ranks.are_several():
        PartialState(cpu=on_cpu)
        _flags()


def any_of(flag: bool) -> bool:
    """Tell whether any rank says yes; every rank has to ask."""
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
    return dist.new_group(backend="gloo")
