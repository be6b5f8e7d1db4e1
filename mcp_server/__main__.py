"""Serve one client over stdin and stdout: `python -m mcp_server`."""

import gc
import signal

# What is imported stays. Collecting garbage meanwhile takes a tenth of the time to the first
# answer (benchmarks/startup.py); `main` turns the collector on again.
gc.disable()
if __name__ == "__main__":
    # Until the server listens to signals, Ctrl-C ends it without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import logging
import os
import sys

import anyio
from mcp.server.stdio import stdio_server
from mcp.shared.message import SessionMessage

from ft_tools.errors import FineTuningError
from mcp_server import calls
from mcp_server.bad_lines import answer_bad_lines
from mcp_server.server import greeting, server


async def serve(said: str) -> None:
    """Serve until the client closes the connection or a signal ends the process."""
    async with anyio.create_task_group() as beside:
        await beside.start(calls.on_signal, calls.leave)
        async with stdio_server() as (read, write), anyio.create_task_group() as pump:
            sys.stderr.write(f"{said}\n")
            passed, messages = anyio.create_memory_object_stream[SessionMessage]()
            pump.start_soon(answer_bad_lines, read, write, passed)
            try:
                await server.run(messages, write, server.create_initialization_options())
            except anyio.get_cancelled_exc_class():
                # Writing to stdout has failed: the client is gone, and stdin is still open.
                calls.abandon_all()
                calls.end(0)
        await calls.leave(0)


def main() -> None:
    """Run the server; stdout carries the protocol, so the log goes to stderr."""
    gc.freeze()
    gc.enable()
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    if os.isatty(0):
        sys.stderr.write("waiting for an MCP client on stdin; to register one: see README.md\n")
    try:
        anyio.run(serve, greeting("over stdio"))
    except FineTuningError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
