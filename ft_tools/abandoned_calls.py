"""Whether somebody still waits for the answer of a call, and what it is doing meanwhile.

The server sets a `Call` around each tool; code that takes longer than a moment calls
`require_waiting` in its loops, so that work stops when nobody wants its result any more.
"""

import math
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from ft_tools.errors import Abandoned

POLL_SECONDS = 0.1
ANSWER_SECONDS = 50.0
"""A call answers by then. Clients give up after 60 s: default request timeout of the MCP SDKs."""


class Call:
    """One call of a tool: what it is doing, and whether it is still wanted."""

    def __init__(self) -> None:
        self.doing = ""
        self.began = time.monotonic()
        self._is_abandoned = threading.Event()

    def abandon(self) -> None:
        """Mark the call as abandoned; may be called from any thread."""
        self._is_abandoned.set()

    @property
    def is_abandoned(self) -> bool:
        """Whether nobody waits."""
        return self._is_abandoned.is_set()


_CURRENT: ContextVar[Call | None] = ContextVar("call", default=None)


@contextmanager
def waiting(call: Call) -> Iterator[None]:
    """Make a call the current one of this thread."""
    token = _CURRENT.set(call)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def require_waiting() -> None:
    """Stop here if nobody waits for the answer.

    Raises:
        Abandoned: The client cancelled the call or is gone.
    """
    call = _CURRENT.get()
    if call is not None and call.is_abandoned:
        raise Abandoned("the client cancelled the call or closed its connection")


def seconds_left() -> float:
    """Return what the present call has left to answer in; outside a call there is no limit."""
    call = _CURRENT.get()
    return math.inf if call is None else call.began + ANSWER_SECONDS - time.monotonic()


def doing(what: str) -> None:
    """Set what the call does now: the text of its progress notifications.

    Raises:
        Abandoned: Nobody waits for it.
    """
    call = _CURRENT.get()
    if call is not None:
        call.doing = what
    require_waiting()


def run_process(
    argv: Sequence[str], *, input: str = "", timeout: float, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run a process as `subprocess.run` does, and kill it when nobody waits for it.

    Raises:
        Abandoned: Nobody waits.
        subprocess.TimeoutExpired: It took longer than `timeout` seconds.
        subprocess.CalledProcessError: It failed.
    """
    pipe = subprocess.PIPE
    with subprocess.Popen(
        argv, stdin=pipe, stdout=pipe, stderr=pipe, text=True, **options
    ) as process:
        try:
            out, err = _communicate(process, input, timeout)
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, argv, out, err)
    return subprocess.CompletedProcess(argv, process.returncode, out, err)


def _communicate(process: "subprocess.Popen[str]", input: str, timeout: float) -> tuple[str, str]:
    given: str | None = input
    until = time.monotonic() + timeout
    while True:
        require_waiting()
        try:
            return process.communicate(given, timeout=POLL_SECONDS)
        except subprocess.TimeoutExpired:
            # The rest of the input is kept by the process object; it is not given again.
            given = None
            if time.monotonic() >= until:
                raise
