"""Locks that the kernel drops when their holder dies, so that a process id never has to be trusted.

A lock is an exclusive `flock` on a file. It belongs to the open file description: a child that
inherits the descriptor on purpose holds it too, and a forked data loader must not, so the
descriptor is closed in forked children.
"""

import contextlib
import fcntl
import os
from pathlib import Path


def take(path: Path) -> int | None:
    """Take the lock without waiting.

    Returns:
        An open descriptor that holds it, or None when somebody else does. A descriptor, not a pid.
    """
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    return file


def is_held(path: Path) -> bool:
    """Tell whether a living process holds the lock."""
    if not path.exists():
        return False
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


def keep_from_forks(file: int) -> None:
    """Close an inherited lock in children that are forked from now on."""
    os.set_inheritable(file, False)

    def close() -> None:
        with contextlib.suppress(OSError):
            os.close(file)

    os.register_at_fork(after_in_child=close)
