"""Answer questions of the parent process, one JSON object a line, until it is gone or silent."""

import contextlib
import fcntl
import importlib
import json
import os
import select
import signal
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ft_tools.errors import FineTuningError
from ft_tools.publish import private_folder, write_file

IDLE_SECONDS = 60.0
MOST_SECONDS = 900
"""After so long with one question the process ends: nothing that it builds takes that long."""
READ_BYTES = 1 << 16


def serve(source: int, sink: int) -> None:
    """Answer each line with one line: {"answer": ...} or {"error": code, "detail": ...}.

    A line is {"module", "question", "kept"}: the module's `answer` is asked, and what it returns is
    kept in that file first, whether or not the parent still waits for it. Whatever libraries print
    goes to stderr.
    """
    sink = os.dup(sink)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    importlib.import_module("ft_tools.models.worker.describe")
    unread = b""
    _write(sink, {"answer": {}})
    while True:
        ready, _, _ = select.select([source], [], [], IDLE_SECONDS)
        data = os.read(source, READ_BYTES) if ready else b""
        if not data:
            os._exit(0)  # at once: a parent that asks meanwhile sees that nobody is there
        unread += data
        while b"\n" in unread:
            line, unread = unread.split(b"\n", 1)
            signal.alarm(MOST_SECONDS)
            found = answered(json.loads(line))
            signal.alarm(0)
            _write(sink, found)


def answered(asked: dict[str, Any]) -> dict[str, Any]:
    """Return the answer to a question, or the error in its place."""
    try:
        kept = Path(asked["kept"])
        with _alone(kept):
            with contextlib.suppress(OSError, ValueError):
                return {"answer": json.loads(kept.read_bytes())}
            found = importlib.import_module(asked["module"]).answer(asked["question"])
            with contextlib.suppress(OSError, FineTuningError):
                write_file(kept, json.dumps(found))
            return {"answer": found}
    except Exception as error:
        # By now it is imported, and what that printed went to stderr.
        from ft_tools.models.worker.build import NotBuilt

        if isinstance(error, NotBuilt):
            return {"error": error.code, "detail": error.detail}
        traceback.print_exc()
        return {"error": "failed", "detail": type(error).__name__}


@contextlib.contextmanager
def _alone(kept: Path) -> Iterator[None]:
    """Answer a question while no other process answers the same; none waits on a disk in vain."""
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError, FineTuningError):
            private_folder(kept.parent)
            place = kept.with_suffix(".lock")
            lock = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            held.callback(os.close, lock)
            held.callback(place.unlink, missing_ok=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _write(sink: int, what: dict[str, Any]) -> None:
    data = json.dumps(what).encode() + b"\n"
    while data:
        data = data[os.write(sink, data) :]


if __name__ == "__main__":
    serve(sys.stdin.fileno(), sys.stdout.fileno())
