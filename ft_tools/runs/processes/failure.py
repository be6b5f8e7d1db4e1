"""Tell from an error why a run ended, and what helps."""

import contextlib
import os
import shutil
import traceback
from pathlib import Path

from ft_tools.errors import DiskFull, FineTuningError
from ft_tools.redaction import redact
from ft_tools.runs.processes.out_of_memory import is_out_of_memory
from ft_tools.runs.state.records import RunError, State, Why
from ft_tools.system_errors import LIMITS, NO_SPACE, explain

CAUSES = 20

REASONS: dict[str, Why] = {"diverged": "diverged", "out_of_memory": "out_of_memory"}
"""Code of an error -> why its run ended."""

# Less than this is free after a failure: the disk was full, whatever the exception said.
FULL_BYTES = 64 * 1024


def diagnosis(error: BaseException) -> tuple[State, Why | None, RunError]:
    """Return the state, the reason and the error with which a run ends."""
    if isinstance(error, DiskFull):
        hint = "free some space, then resume_run"
        failure = RunError(code="disk_full", message=str(error), hint=hint, retryable=True)
        return "interrupted", "disk_full", failure
    if is_out_of_memory(error):
        hint = "lower per_device_train_batch_size or max_length; estimate_vram shows what fits"
        message = "out of memory"
        failure = RunError(code="out_of_memory", message=message, hint=hint, retryable=True)
        return "failed", "out_of_memory", failure
    if isinstance(error, OSError) and error.errno in LIMITS:
        what = LIMITS[error.errno]
        hint = f"raise the limit of {what} (ulimit) or close other programs, then resume_run"
        failure = RunError(code="limit_reached", message=f"too many {what}", hint=hint)
        return "failed", "crash", failure
    if isinstance(error, FineTuningError):
        reason = REASONS.get(error.code)
        again = reason == "out_of_memory"
        failure = RunError(code=error.code, message=redact(str(error)), retryable=again)
        return "failed", reason, failure
    hint = "get_run with log_lines shows the traceback"
    if isinstance(error, OSError) and (known := explain(error)):
        failure = RunError(code=known.code, message=redact(str(known)), hint=hint)
        return "failed", "crash", failure
    # A library's message may quote a dataset or a template: it stays in log.txt.
    message = f"{type(error).__name__} in {_place(error)}"
    return "failed", "crash", RunError(code="crash", message=message, hint=hint)


def disk_full(run_dir: Path, error: BaseException) -> DiskFull | None:
    """Find a full disk behind an error: libraries in Rust and C++ have exceptions of their own."""
    cause: BaseException | None = error
    for _ in range(CAUSES):
        if cause is None or isinstance(cause, DiskFull):
            break
        if isinstance(cause, OSError) and cause.errno in NO_SPACE:
            break
        if any(os.strerror(number) in str(cause) for number in NO_SPACE):
            break
        cause = cause.__cause__ or cause.__context__
    else:
        cause = None
    with contextlib.suppress(OSError):
        if cause is None and shutil.disk_usage(run_dir).free < FULL_BYTES:
            cause = error
    if cause is None or isinstance(cause, DiskFull):
        return cause
    message = f"no space left while writing {run_dir}; free some space and run it again"
    return DiskFull(message)


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "an unknown place"
