"""Call a scheduler's or a storage provider's program, with a time limit."""

import os
import signal
import subprocess
import time
from collections.abc import Callable

from ft_tools.redaction import redact

ANSWER_SECONDS = 120.0
"""That a program gets to answer a question."""
TRANSFER_SECONDS = 6 * 3600.0
"""That it gets to submit a job or to fetch files: these may be gibibytes."""
POLL_SECONDS = 0.5
NO_ANSWER = 124
"""Exit code for a program that was given up, as timeout(1) has it."""
SHOWN_CHARS = 500


def call(
    argv: list[str],
    seconds: float,
    is_given_up: Callable[[], bool] = lambda: False,
) -> tuple[int, str]:
    """Run a program to its end.

    Args:
        argv: The program and its arguments.
        seconds: How long it may take.
        is_given_up: Asked now and then; True ends it at once.

    Returns:
        Its exit code, or `NO_ANSWER`, and what it printed; with its complaints if it failed.
    """
    try:
        # In a session of its own, so that a program which is a script ends with what it started.
        child = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        return 1, f"{argv[0]}: {type(error).__name__}"
    until = time.monotonic() + seconds
    while True:
        try:
            printed, complained = child.communicate(timeout=POLL_SECONDS)
            return child.returncode, printed + (complained if child.returncode else "")
        except subprocess.TimeoutExpired:
            if time.monotonic() > until or is_given_up():
                os.killpg(child.pid, signal.SIGKILL)
                child.communicate()
                return NO_ANSWER, "no answer"


def failure(argv: list[str], code: int, printed: str) -> str:
    """Return how a program failed, in its own last words, without secrets."""
    said = redact(printed.strip()[-SHOWN_CHARS:])
    return f"{' '.join(argv[:3])} ended with {code}: {said}"
