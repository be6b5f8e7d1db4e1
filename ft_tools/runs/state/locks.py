"""Locks that the kernel drops when their holder dies, so that a process id never has to be trusted.

A lock is an exclusive `flock` on a file. It belongs to the open file description: a child that
inherits the descriptor on purpose holds it too, and a forked data loader must not, so the
descriptor is closed in forked children. POSIX only.

A run has two. `owner.lock` is held by its supervisor and its worker: somebody writes.
`supervisor.lock` is held by the supervisor alone: somebody looks after it. They are taken in the
order supervisor, owner, so whoever has the first decides who gets the second; a run is settled
when nobody has either. A run of several processes, or on another machine, has a third:
`worker.lock` is held by the one process that writes.
"""

import contextlib
import fcntl
import os
import time
from pathlib import Path

from ft_tools.errors import BadInput

OWNER = "owner.lock"
SUPERVISOR = "supervisor.lock"
WORKER = "worker.lock"
PROBE_TRIES = 20
PROBE_SECONDS = 0.005


def take(path: Path) -> int | None:
    """Take the lock without waiting for its holder.

    A reader that looks (`is_held`) has the lock for microseconds; a few tries see past it.

    Returns:
        An open descriptor that holds it, or None when somebody else does. A descriptor, not a pid.

    Raises:
        BadInput: This file system has no locks.
    """
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        for _ in range(PROBE_TRIES):
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return file
            time.sleep(PROBE_SECONDS)
    except OSError as error:
        os.close(file)
        raise BadInput(
            f"{path} cannot be locked ({error.strerror}); choose a workspace on a local disk"
        ) from error
    os.close(file)
    return None


def is_held(path: Path) -> bool:
    """Return whether a living process holds the lock; where there are no locks, nobody does."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def keep_from_forks(file: int) -> None:
    """Close an inherited lock in children that are forked from now on, and in what they execute."""
    os.set_inheritable(file, False)

    def close() -> None:
        with contextlib.suppress(OSError):
            os.close(file)

    os.register_at_fork(after_in_child=close)
