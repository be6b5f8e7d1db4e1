"""How the self-test leaves a run too little memory."""

import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ft_tools.models.worker.loading import free_machine
from ft_tools.runs.processes.start import environment

GIB = 2**30
CPU_LEFT_BYTES = 3 * GIB // 2


@contextmanager
def little_memory(left_bytes: int | None) -> Iterator[None]:
    """Leave a little of the GPU's memory free; without one, let new processes have only a little.

    On the CPU it is a limit of their private memory, which systems but Linux do not enforce.

    Args:
        left_bytes: Of the GPU's memory; None: there is no GPU.
    """
    if left_bytes is not None:
        free = free_machine().cards[0].num_bytes
        ballast = torch.empty(max(0, free - left_bytes), dtype=torch.uint8, device="cuda:0")
        try:
            yield
        finally:
            del ballast
            torch.cuda.empty_cache()
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (worker_bytes() + CPU_LEFT_BYTES, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def worker_bytes() -> int:
    """Return the private memory that a training worker reserves before it has a model."""
    code = "import ft_tools.training.worker.sft; print(open('/proc/self/status').read())"
    argv = [sys.executable, "-P", "-c", code]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=environment())
    found = re.search(r"^VmData:\s+(\d+) kB", done.stdout, re.MULTILINE)
    return int(found[1]) * 1024 if found else 2 * GIB
