"""How a run ended: from the error that its worker raised, or by whoever outlived its worker.

A worker writes its own end. What kills it leaves that to the supervisor on one machine, to the
job's own process in a scheduler's job, and to the supervisor's look at the scheduler where that
process died too.
"""

import contextlib
import os
import re
import shutil
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

from ft_tools.errors import DiskFull, FineTuningError
from ft_tools.redaction import redact
from ft_tools.runs.hardware import memory
from ft_tools.runs.state import directory
from ft_tools.runs.state.records import ENDED, RunError, State, Why, run_error
from ft_tools.system_errors import LIMITS, NO_SPACE, explain

MAX_CAUSES = 20
FULL_BYTES = 64 * 1024
"""If less is free after a failure, the disk was full, whatever the exception said."""
REASONS: dict[str, Why] = {"diverged": "diverged", "out_of_memory": "out_of_memory"}
"""Code of an error -> why its run ended."""
OUT_OF_MEMORY_TYPE = "OutOfMemoryError"
"""PyTorch's, by name: the supervisor does not import it."""
# Source: PyTorch (OutOfMemoryError, AcceleratorError, DefaultCPUAllocator), cuBLAS and cuDNN status
# names, CUDA error names, bitsandbytes (`Error out of memory at line`), NCCL, Python; oneDNN, whose
# kernels on a CPU take memory when they are made.
OUT_OF_MEMORY_WORDS = re.compile(
    r"out of memory"
    r"|CU(BLAS|DNN|SPARSE|SOLVER)_STATUS_(ALLOC_FAILED|NOT_INITIALIZED)"
    r"|CUDA_ERROR_OUT_OF_MEMORY|cudaErrorMemoryAllocation"
    r"|DefaultCPUAllocator: (can't|not enough)"
    r"|Cannot allocate memory"
    r"|could not create a (primitive|memory)"
    r"|Unable to allocate .* for an array",
    re.IGNORECASE,
)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether memory ran out, in this error or in one that it came from.

    >>> is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling ..."))
    True
    >>> is_out_of_memory(RuntimeError("CUDA error: an illegal memory access was encountered"))
    False
    """
    return any(
        isinstance(cause, MemoryError)
        or any(kind.__name__ == OUT_OF_MEMORY_TYPE for kind in type(cause).__mro__)
        or OUT_OF_MEMORY_WORDS.search(str(cause))
        for cause in _causes(error)
    )


def disk_full(run_dir: Path, error: BaseException) -> DiskFull | None:
    """Find a full disk behind an error: libraries in Rust and C++ have exceptions of their own."""
    words = [os.strerror(number) for number in NO_SPACE]
    full = DiskFull(f"no space left while writing {run_dir}; free some space, then resume_run")
    for cause in _causes(error):
        if isinstance(cause, DiskFull):
            return cause
        is_named = isinstance(cause, OSError) and cause.errno in NO_SPACE
        if is_named or any(word in str(cause) for word in words):
            return full
    with contextlib.suppress(OSError):
        return full if shutil.disk_usage(run_dir).free < FULL_BYTES else None
    return None


def diagnosis(error: BaseException) -> tuple[State, Why | None, RunError]:
    """Return the state, the reason and the error with which a run ends."""
    if isinstance(error, DiskFull):
        return "interrupted", "disk_full", run_error("disk_full", found=error)
    if is_out_of_memory(error):
        return "failed", "out_of_memory", run_error("out_of_memory")
    if isinstance(error, OSError) and error.errno in LIMITS:
        return "failed", "crash", run_error("limit_reached", what=LIMITS[error.errno])
    if isinstance(error, FineTuningError):
        reason = REASONS.get(error.code)
        again = reason == "out_of_memory"
        failure = RunError(code=error.code, message=redact(str(error)), retryable=again)
        return "failed", reason, failure
    # A library's message may quote a dataset or a template: it stays in log.txt.
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "no place"
    failure = run_error("crash", kind=type(error).__name__, place=place)
    if isinstance(error, OSError) and (known := explain(error)):
        named = {"code": known.code, "message": redact(str(known))}
        failure = failure.model_copy(update=named)
    return "failed", "crash", failure


def attempt(run_dir: Path, work: Callable[[], int], is_stopped: Callable[[], bool]) -> int:
    """Run worker processes, again where they ask for fresh ones, and record how that ended.

    `work` runs them to their end and returns their exit code, as this does. Once a TERM has arrived
    (`is_stopped`) there are no fresh ones.
    """
    kills_before = memory.oom_kills()
    while True:
        return_code = work()
        if is_stopped() or not starts_again(run_dir):
            record(run_dir, return_code, kills_before)
            return return_code


def record(run_dir: Path, return_code: int | None, kills_before: int | None = None) -> None:
    """Write the end that the worker could not write itself; one that it wrote stays.

    `return_code` is that of the worker, or of the program that started its ranks; None: not known.
    `kills_before` is `memory.oom_kills()` from before the worker started.

    Raises:
        DiskFull: It cannot be written.
    """
    if return_code is not None:
        directory.note(run_dir, f"worker ended with {return_code}")
    status = directory.read_status(run_dir)
    if status.state in ENDED:
        return
    # torchrun ends with 1 and srun with 137 when the kernel kills what they started, so the code
    # only has to be that of a failure.
    is_failure = bool(return_code) and kills_before is not None
    if directory.has(run_dir, "cancel"):
        write(run_dir, "cancelled", "user")
    elif return_code == DiskFull.exit_code:
        record_full_disk(run_dir, "the disk is full or refuses to be written")
    elif directory.has(run_dir, "out_of_memory") or (
        is_failure and (memory.oom_kills() or 0) > (kills_before or 0)
    ):
        error = run_error("killed_for_memory", hint=status.if_out_of_memory)
        write(run_dir, "interrupted", "out_of_memory", error)
    elif return_code is None:
        write(run_dir, "interrupted", "crash", run_error("worker_died"))
    else:
        row = "worker_killed" if return_code < 0 else "worker_exited"
        error = run_error(row, signal=-return_code, code=return_code)
        write(run_dir, "interrupted", "crash", error)


def record_full_disk(run_dir: Path, message: str) -> None:
    """Write that the disk was full, into the space that was reserved for it."""
    directory.free_reserve(run_dir)
    # If even this fails, a reader sees `interrupted`: nobody holds the run.
    with contextlib.suppress(DiskFull):
        write(run_dir, "interrupted", "disk_full", run_error("disk_full", found=message))


def write(run_dir: Path, state: State, reason: Why, error: RunError | None = None) -> None:
    """Replace a run's state by an end.

    Raises:
        DiskFull: It cannot be written.
    """
    fields = {"state": state, "reason": reason, "error": error, "ended_at": time.time()}
    directory.update_status(run_dir, **fields)


def starts_again(run_dir: Path) -> bool:
    """Return whether the worker asked for fresh processes and may have them; remove the sign."""
    if not directory.has(run_dir, "again"):
        return False
    may = not directory.has(run_dir, "cancel") and not directory.has(run_dir, "preempt")
    directory.clear_signs(run_dir)
    return may and directory.read_status(run_dir).state not in ENDED


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    for _ in range(MAX_CAUSES):
        if cause is None:
            return
        yield cause
        cause = cause.__cause__ or cause.__context__
