"""Answer what arrives on stdin and is no message: the client that sent it waits for an answer.

The library passes on what it cannot parse as an exception, and its dispatcher drops that.
"""

import json
from collections.abc import AsyncIterable
from typing import Any

from anyio.abc import ObjectSendStream
from mcp.shared.message import SessionMessage
from mcp.types import INVALID_REQUEST, PARSE_ERROR, ErrorData, JSONRPCError
from pydantic import ValidationError

REMEDY = (
    "send one JSON-RPC 2.0 message per line; no string may contain a lone surrogate, and nesting "
    "may be at most 100 deep"
)


async def answer_bad_lines(
    read: AsyncIterable[SessionMessage | Exception],
    write: Any,
    messages: ObjectSendStream[SessionMessage],
) -> None:
    """Pass messages on until the client closes the connection; answer everything else."""
    async with messages:
        async for item in read:
            if isinstance(item, SessionMessage):
                await messages.send(item)
            elif isinstance(item, ValidationError) and (answer := _answer(item)):
                await write.send(SessionMessage(answer))


def _answer(error: ValidationError) -> JSONRPCError | None:
    """Return the answer to a line, with its id where it has one; none to a blank line."""
    details = error.errors()
    if details[0]["type"] != "json_invalid":
        wholes = [detail["input"] for detail in details if detail["type"] == "missing"]
        named = wholes[0].get("id") if wholes else None
        return _error(named, INVALID_REQUEST, "not a JSON-RPC request")
    line = str(details[0]["input"])
    if not line.strip():
        return None
    said = details[0]["msg"].removeprefix("Invalid JSON: ")
    return _error(_id_of(line), PARSE_ERROR, f"not valid JSON: {said}")


def _error(named: object, code: int, said: str) -> JSONRPCError:
    known = named if type(named) in (int, str) else None
    data = ErrorData(code=code, message=f"{said}; {REMEDY}")
    return JSONRPCError.model_validate({"jsonrpc": "2.0", "id": known, "error": data})


def _id_of(line: str) -> object:
    """Return the id of a message that Python's own parser takes: it knows lone surrogates."""
    try:
        read = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return read.get("id") if isinstance(read, dict) else None
