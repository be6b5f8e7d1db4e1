"""Server processes as a person starts them: the command, its first line, and its end."""

import os
import re
import resource
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psutil

START_SECONDS = END_SECONDS = 120.0
"""For a machine with other work to do; a server that hangs takes for ever."""


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
        """Send a signal; return exit code, CPU seconds until the end, and stderr."""
        before = self._cpu_seconds_with_children()
        ended_before = _of_ended_children()
        self.process.send_signal(number)
        said = self.process.stderr.read()
        code = self.process.wait(END_SECONDS)
        return code, _of_ended_children() - ended_before - before, said

    def cpu_seconds(self) -> float:
        """Return the CPU time so far."""
        times = psutil.Process(self.process.pid).cpu_times()
        return times.user + times.system

    def _cpu_seconds_with_children(self) -> float:
        """Return the same with that of its children: those that it waits for count at its end."""
        server = psutil.Process(self.process.pid)
        total = 0.0
        for each in [server, *server.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                total += sum(each.cpu_times()[:4])
        return total


def _of_ended_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


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
        process.wait(END_SECONDS)
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
