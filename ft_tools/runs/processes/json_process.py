"""A process that answers JSON lines; what it does not answer in time may be read later."""

import json
import os
import select
import subprocess
import time
from typing import Any

READ_BYTES = 1 << 16


class NoAnswer(Exception):
    """The process died, or said nothing in time; then it has been ended, or goes on."""

    def __init__(self, *, has_died: bool) -> None:
        super().__init__("died" if has_died else "timeout")
        self.has_died = has_died


class JsonProcess:
    """One such process: a line in is a question, a line out its answer."""

    def __init__(self, command: list[str], **popen: Any) -> None:
        """Start it; `popen` holds further arguments of subprocess.Popen."""
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, **popen
        )
        self._unread = b""

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """What it ended with; negative: the signal that ended it; None: it runs."""
        return self._process.returncode

    def ask(
        self, question: dict[str, Any], seconds: float, *, goes_on: bool = False
    ) -> dict[str, Any]:
        """Write a question and return its answer.

        Args:
            question: What is asked.
            seconds: How long to wait.
            goes_on: Whether to leave the process at work when that is over, for a `read` later.

        Raises:
            NoAnswer: There is none in time.
        """
        assert self._process.stdin is not None
        line = json.dumps(question).encode() + b"\n"
        try:
            while line:
                line = line[self._process.stdin.write(line) or 0 :]
        except BrokenPipeError:
            self.end()
            raise NoAnswer(has_died=True) from None
        return self.read(seconds, goes_on=goes_on)

    def read(self, seconds: float, *, goes_on: bool = False) -> dict[str, Any]:
        """Return the next line.

        Raises:
            NoAnswer: There is none in time.
        """
        assert self._process.stdout is not None
        stream = self._process.stdout.fileno()
        until = time.monotonic() + seconds
        while b"\n" not in self._unread:
            ready, _, _ = select.select([stream], [], [], max(0.0, until - time.monotonic()))
            data = os.read(stream, READ_BYTES) if ready else b""
            if not ready and goes_on:
                raise NoAnswer(has_died=False)
            if not data:
                self.end()
                raise NoAnswer(has_died=bool(ready))
            self._unread += data
        line, self._unread = self._unread.split(b"\n", 1)
        answer: dict[str, Any] = json.loads(line)
        return answer

    def end(self) -> None:
        """Kill it."""
        self._process.kill()
        self._process.communicate()
