"""Serve one client over stdin and stdout: `python -m mcp_server`."""

import gc

# What is imported stays. Collecting garbage meanwhile takes a tenth of the time to the first
# answer (benchmarks/startup.py); `main` turns the collector on again.
gc.disable()

import logging
import sys

import anyio
from mcp.server.stdio import stdio_server

from mcp_server.server import server


async def serve() -> None:
    """Serve until the client hangs up."""
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())


def main() -> None:
    """Run the server; stdout carries the protocol, so the log goes to stderr."""
    gc.freeze()
    gc.enable()
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    anyio.run(serve)


if __name__ == "__main__":
    main()
