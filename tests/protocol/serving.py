"""Server processes as a person starts them: the command, its first line, and its end."""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psutil

START_SECONDS = 60.0


@dataclass
class Served:
    """A running server."""

    process: subprocess.Popen
    greeting: str

    @property
    def url(self) -> str:
        """Return the address in the greeting."""
        return re.search(r"http://\S+/mcp", self.greeting)[0]

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, float, str]:
        """Send a signal; return exit code, CPU seconds until the end at most, and stderr."""
        started = time.monotonic()
        self.process.send_signal(number)
        said = self.process.stderr.read()
        code = self.process.wait(20)
        return code, time.monotonic() - started, said

    def cpu_seconds(self) -> float:
        """Return the CPU time so far."""
        times = psutil.Process(self.process.pid).cpu_times()
        return times.user + times.system


@contextmanager
def serving(*options: str, **environment: str):
    """Start `fine-tuning-llm serve` and wait for its first line."""
    process = subprocess.Popen(
        [sys.executable, "-m", "ft_tools", "serve", *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )
    try:
        yield Served(process, process.stderr.readline())
    finally:
        process.kill()
        process.wait(20)
        for pipe in (process.stdin, process.stdout, process.stderr):
            with suppress(BrokenPipeError):
                pipe.close()


def refused(*options: str, **environment: str) -> tuple[int, str]:
    """Start a server that refuses to; return its exit code and what it said."""
    done = subprocess.run(
        [sys.executable, "-m", "ft_tools", "serve", *options],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=os.environ | environment,
        timeout=START_SECONDS,
        check=False,
    )
    return done.returncode, done.stderr
