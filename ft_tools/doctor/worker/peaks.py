"""How much memory a step of the self-test takes, and how to leave it too little."""

import re
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from ft_tools.models.worker.loading import free_machine
from ft_tools.runs.start import environment

GIB = 2**30
LEFT_BYTES = 3 * GIB
SAMPLE_SECONDS = 0.005


class Peak:
    """The most memory that a block takes beside what was there: of the GPU, else of the process."""

    def __init__(self, on_gpu: bool) -> None:
        self._on_gpu = on_gpu
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._before = self._most = 0
        self.gib: float | None = None

    def __enter__(self) -> "Peak":
        if self._on_gpu:
            torch.cuda.reset_peak_memory_stats()
            self._before = torch.cuda.memory_allocated()
        else:
            self._before = self._most = anonymous_bytes()
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._on_gpu:
            self._most = torch.cuda.max_memory_allocated()
        else:
            self._over.set()
            self._thread.join()
        if self._most:
            self.gib = round((self._most - self._before) / GIB, 3)

    def _sample(self) -> None:
        while not self._over.wait(SAMPLE_SECONDS):
            self._most = max(self._most, anonymous_bytes())


def anonymous_bytes() -> int:
    """Return this process's memory that no kernel can drop; 0 where the system does not tell."""
    try:
        text = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return 0
    found = re.search(r"^RssAnon:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


@contextmanager
def little_memory(on_gpu: bool) -> Iterator[None]:
    """Leave a little of the GPU's memory free; without one, let new processes have only a little.

    On the CPU it is a limit of their private memory, which systems but Linux do not enforce.
    """
    if on_gpu:
        free = free_machine().cards[0].num_bytes
        ballast = torch.empty(max(0, free - LEFT_BYTES), dtype=torch.uint8, device="cuda:0")
        try:
            yield
        finally:
            del ballast
            torch.cuda.empty_cache()
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (worker_bytes() + LEFT_BYTES, hard))
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
