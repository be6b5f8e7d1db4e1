"""Answer questions of the parent process, one JSON object a line, until it is gone or silent."""

import json
import os
import select
import sys
import traceback
from collections.abc import Callable
from typing import Any

from ft_tools.models.worker.build import NotBuilt

IDLE_SECONDS = 60.0
READ_BYTES = 1 << 16


def serve(source: int, sink: int, answer: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Answer each line with one line: {"answer": ...} or {"error": code, "detail": ...}.

    Whatever libraries print goes to stderr.
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
    try:
        return {"answer": answer(json.loads(line))}
    except NotBuilt as error:
        return {"error": error.code, "detail": error.detail}
    except Exception as error:
        traceback.print_exc()
        return {"error": "failed", "detail": type(error).__name__}


def _say(sink: int, what: dict[str, Any]) -> None:
    data = json.dumps(what).encode() + b"\n"
    while data:
        data = data[os.write(sink, data) :]
