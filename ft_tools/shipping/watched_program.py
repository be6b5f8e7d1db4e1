"""Another program, watched: its words go to a file, and a cancel ends it."""

import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

POLL_SECONDS = 0.2


def watched(
    argv: Sequence[str],
    log: Path,
    stop: Callable[[], None],
    environment: Mapping[str, str],
    folder: Path | None = None,
) -> int:
    """Run a program to its end.

    Args:
        argv: The program and its arguments; no shell is involved.
        log: File that takes its output and its errors.
        stop: Called while it works; raises to end it early.
        environment: Its environment variables.
        folder: Where it works; None: where this process does.

    Returns:
        Its exit code; negative: the signal that ended it.
    """
    with log.open("wb") as stream:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            env=dict(environment),
            cwd=folder,
        )
        try:
            while process.poll() is None:
                time.sleep(POLL_SECONDS)
                stop()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    return process.returncode
