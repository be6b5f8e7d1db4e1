"""Whether this machine can isolate what a model wrote: by trying to break out."""

import contextlib
import os
import socket
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from ft_tools import workspace
from ft_tools.errors import FineTuningError, Missing
from ft_tools.metrics.isolation.jail import ENVIRONMENT, Isolation, Limits, Way, visible
from ft_tools.metrics.isolation.process import JailedProcess, JailEnded, NotIsolated

PROBE_SECONDS = 10.0
LIMITS = Limits(memory_mib=256, processes=4, cpu_seconds=10)
MOST_PLACES = 50
BREAK_OUT = Path(__file__).with_name("break_out.py")
INSTALL = (
    "install bubblewrap (Debian, Ubuntu: apt-get install bubblewrap), or run where the system "
    "allows user namespaces: a virtual machine, or a container that may make them"
)


@dataclass(frozen=True)
class Found:
    """What was tried."""

    isolation: Isolation | None
    problems: Mapping[str, str] = field(default_factory=dict)
    """Way -> why it does not isolate."""

    @property
    def reason(self) -> str:
        """Return in one line why nothing isolates."""
        return "; ".join(f"{way}: {why}" for way, why in self.problems.items())


def available() -> Isolation | None:
    """Return what isolates here, or None."""
    return find().isolation


def require() -> Isolation:
    """Return what isolates here.

    Raises:
        Missing: Nothing does; the message says what was tried.
    """
    found = find()
    if found.isolation is None:
        raise Missing(
            "code that a model wrote runs only in isolation, and nothing isolates here "
            f"({found.reason}); {INSTALL}"
        )
    return found.isolation


@cache
def find() -> Found:
    """Return the first way that isolates, tried once in each process."""
    if sys.platform != "linux":
        return Found(None, {sys.platform: "isolation needs namespaces, which Linux has"})
    ways: tuple[Way, ...] = ("bubblewrap", "user_namespace")
    # The machine's root has no limit of processes but as another user, whom only this makes it.
    ways = ("root", *ways) if os.geteuid() == 0 else ways
    problems: dict[str, str] = {}
    for way in ways:
        if problem := try_out(Isolation(way)):
            problems[way] = problem
        else:
            return Found(Isolation(way), problems)
    return Found(None, problems)


def try_out(isolation: Isolation) -> str:
    """Return how code breaks out of a way to isolate, or why that does not start; empty: neither.

    It tries what an owner of the machine would mind: a server of this process, a secret file,
    folders of the home and the workspace, the environment, this process, memory, processes.
    """
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.socket(socket.AF_UNIX) as unix,
        tempfile.NamedTemporaryFile(prefix="fine-tuning-llm-probe-") as secret,
    ):
        name = f"\0{Path(secret.name).name}"
        unix.bind(name)
        unix.listen()
        told = {
            "port": server.getsockname()[1],
            "name": name,
            "paths": [secret.name, *_private_places()],
            "environment": [*ENVIRONMENT],
            "pid": os.getpid(),
            "bytes": 4 * LIMITS.memory_mib * 2**20,
            "processes": 4 * LIMITS.processes,
        }
        try:
            with JailedProcess(isolation, BREAK_OUT, LIMITS) as jail:
                reached = jail.ask(told, time.monotonic() + PROBE_SECONDS)
        except NotIsolated as error:
            return str(error).removeprefix(f"{isolation.way}: ")
        except JailEnded as error:
            return f"the probe gave no answer ({error.why})"
    return f"code in it reached {', '.join(reached)}" if reached else ""


def _private_places() -> list[str]:
    """Return some of what the home and the workspace have, apart from ways to the interpreter."""
    seen = visible()
    shown = [Path(name) for name in (*seen["folders"], *seen["files"], *seen["links"], "/tmp")]
    places: list[Path] = []
    with contextlib.suppress(RuntimeError):
        places.append(Path.home())
    with contextlib.suppress(FineTuningError):
        places += workspace.roots()
    found: list[str] = []
    for place in places:
        with contextlib.suppress(OSError):
            inside = sorted(place.iterdir())
            hidden = [x for x in inside if not any(one.is_relative_to(x) for one in shown)]
            found += map(str, hidden[:MOST_PLACES])
    return found
