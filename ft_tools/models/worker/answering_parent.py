"""Answer questions of the parent process, one JSON object a line, until it is gone or silent."""

import contextlib
import fcntl
import json
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ft_tools.errors import FineTuningError
from ft_tools.models.worker.build import NotBuilt
from ft_tools.publish import write_file

IDLE_SECONDS = 60.0
MOST_SECONDS = 900
"""After so long with one question the process ends: nothing that it builds takes that long."""
READ_BYTES = 1 << 16


def serve(source: int, sink: int, answer: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Answer each line with one line: {"answer": ...} or {"error": code, "detail": ...}.

    A line is {"question": ..., "kept": file}; the answer is kept in that file first, whether or not
    the parent still waits for it. Whatever libraries print goes to stderr.
    """
    sink = os.dup(sink)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    unread = b""
    _say(sink, {"answer": {}})
    while True:
        ready, _, _ = select.select([source], [], [], IDLE_SECONDS)
        data = os.read(source, READ_BYTES) if ready else b""
        if not data:
            os._exit(0)  # at once: a parent that asks meanwhile sees that nobody is there
        unread += data
        while b"\n" in unread:
            line, unread = unread.split(b"\n", 1)
            _say(sink, _answered(line, answer))


def _answered(line: bytes, answer: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    signal.alarm(MOST_SECONDS)
    try:
        asked = json.loads(line)
        kept = Path(asked["kept"])
        with _alone(kept):
            with contextlib.suppress(OSError, ValueError):
                return {"answer": json.loads(kept.read_bytes())}
            found = answer(asked["question"])
            with contextlib.suppress(OSError, FineTuningError):
                write_file(kept, json.dumps(found))
            return {"answer": found}
    except NotBuilt as error:
        return {"error": error.code, "detail": error.detail}
    except Exception as error:
        traceback.print_exc()
        return {"error": "failed", "detail": type(error).__name__}
    finally:
        signal.alarm(0)


@contextlib.contextmanager
def _alone(kept: Path) -> Iterator[None]:
    """Answer a question while no other process answers the same; none waits on a disk in vain."""
    place = kept.with_suffix(".lock")
    try:
        lock = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        yield
        return
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        with contextlib.suppress(OSError):
            place.unlink()
        os.close(lock)


def _say(sink: int, what: dict[str, Any]) -> None:
    data = json.dumps(what).encode() + b"\n"
    while data:
        data = data[os.write(sink, data) :]
