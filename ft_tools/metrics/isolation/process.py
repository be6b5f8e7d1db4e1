"""A jailed process that answers its owner, who trusts nothing of what it says."""

import contextlib
import json
import os
import selectors
import subprocess
import time
from pathlib import Path
from typing import Any, Literal, Self

import psutil

from ft_tools.errors import FineTuningError
from ft_tools.metrics.isolation.jail import ENVIRONMENT, LIMITS_ONLY, Isolation, Limits

START_SECONDS = 20.0
"""For a machine under load; it takes about 0.05."""
END_SECONDS = 5.0
MOST_BYTES = 2**20
"""Of one message."""
LOOK_SECONDS = 0.05
"""Between two looks at the memory of a process that works on an answer."""
End = Literal["ended", "time", "memory", "output", "no_message"]


class NotIsolated(FineTuningError):
    """The system does not let a process confine itself."""

    code = "not_isolated"


class JailEnded(Exception):
    """A jailed process gives no answer; it is gone."""

    def __init__(self, why: End) -> None:
        self.why = why
        super().__init__(why)


class JailedProcess:
    """Runs a program, which answers one message after the other."""

    def __init__(self, isolation: Isolation, program: Path, limits: Limits) -> None:
        """Start it.

        Args:
            isolation: What confines it.
            program: File of ours with `main(receive, send)`, which runs confined; it imports only
                the standard library and what is installed.
            limits: What it may take.

        Raises:
            NotIsolated: It could not confine itself; nothing of the program ran.
        """
        self._limits, self._has_outer = limits, isolation != LIMITS_ONLY
        self._buffer, self._looked = b"", time.monotonic()
        try:
            self._process = subprocess.Popen(
                isolation.command(limits),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=dict(ENVIRONMENT),
                cwd="/",
                start_new_session=True,
                bufsize=0,
            )
        except OSError as error:
            raise NotIsolated(f"{isolation.way}: {error.strerror}") from error
        pipes = (self._process.stdin, self._process.stdout, self._process.stderr)
        self._pipes = [pipe for pipe in pipes if pipe is not None]
        self._stdin, self._stdout, self._stderr = (pipe.fileno() for pipe in self._pipes)
        for number in (self._stdin, self._stdout, self._stderr):
            os.set_blocking(number, False)
        if problem := self._start(program):
            self.close()
            raise NotIsolated(f"{isolation.way}: {problem}")

    def _start(self, program: Path) -> str:
        """Return why a process is not confined; empty: it is, and has its program."""
        deadline = time.monotonic() + START_SECONDS
        try:
            first = self._read(deadline)
            if isinstance(first, dict) and first.get("ready") is True:
                self._write({"program": program.read_text("utf-8")}, deadline)
                return ""
        except JailEnded as error:
            # What the system's own tools said on their end; the program has no such channel.
            with contextlib.suppress(BlockingIOError):
                if said := os.read(self._stderr, 200).decode("utf-8", "replace").strip():
                    return said
            return f"it did not start ({error.why})"
        return str(first.get("refused") if isinstance(first, dict) else first)[:200]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End it, and all that it started."""
        tree = self._tree()
        # The outer process of a jail ends when the first one inside does, and buries it.
        for one in tree[1:] if self._has_outer and tree[1:] else tree:
            with contextlib.suppress(psutil.Error):
                one.kill()
        for pipe in self._pipes:
            with contextlib.suppress(OSError):
                pipe.close()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def ask(self, message: Any, deadline: float) -> Any:
        """Return the answer to a message of JSON; the deadline is one of `time.monotonic`.

        Raises:
            JailEnded: There is none, and the process is gone.
        """
        try:
            self._write(message, deadline)
            return self._read(deadline)
        except JailEnded:
            self.close()
            raise

    def _write(self, message: Any, deadline: float) -> None:
        data = memoryview(json.dumps(message, default=str).encode() + b"\n")
        while data:
            self._wait(self._stdin, selectors.EVENT_WRITE, deadline)
            try:
                data = data[os.write(self._stdin, data) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise JailEnded("ended") from error

    def _read(self, deadline: float) -> Any:
        while b"\n" not in self._buffer:
            self._wait(self._stdout, selectors.EVENT_READ, deadline)
            part = os.read(self._stdout, 2**16)
            self._buffer += part
            if not part or len(self._buffer) > MOST_BYTES:
                raise JailEnded("output" if part else "ended")
        line, _, self._buffer = self._buffer.partition(b"\n")
        try:
            return json.loads(line)
        except (ValueError, RecursionError) as error:
            raise JailEnded("no_message") from error

    def _wait(self, number: int, event: int, deadline: float) -> None:
        """Wait until a pipe can be used, while time and memory last."""
        with selectors.DefaultSelector() as selector:
            selector.register(number, event)
            while (now := time.monotonic()) < deadline:
                if now - self._looked > LOOK_SECONDS:
                    self._looked = now
                    if self._memory() > self._limits.memory_mib * 2**20:
                        raise JailEnded("memory")
                if selector.select(min(LOOK_SECONDS, deadline - now)):
                    return
        raise JailEnded("time")

    def _memory(self) -> int:
        total = 0
        for one in self._tree():
            with contextlib.suppress(psutil.Error):
                total += one.memory_info().rss
        return total

    def _tree(self) -> list[psutil.Process]:
        if self._process.returncode is not None:
            # Its number may be another's by now.
            return []
        try:
            own = psutil.Process(self._process.pid)
            return [own, *own.children(recursive=True)]
        except psutil.Error:
            return []
