"""Servers and clients of every kind."""

import os
import socket
import subprocess
import sys
import time

import anyio
import httpx2
import pytest
from mcp import Client, StdioServerParameters

from mcp_server.server import server
from tests.protocol.calls import prepare


@pytest.fixture
def prepared(workspace):
    """Give a workspace with a dataset, a model and an interrupted run in it."""
    prepare(workspace)
    return workspace


@pytest.fixture(params=["auto", "legacy"])
async def client(request, prepared):
    """Give a client over an in-memory server, in each protocol era."""
    async with Client(server, raise_exceptions=True, mode=request.param) as connected:
        yield connected


@pytest.fixture
def stdio(prepared):
    """Give what starts a server process over stdio."""
    return StdioServerParameters(
        command=sys.executable,
        args=["-m", "mcp_server"],
        env=dict(os.environ),
    )


@pytest.fixture
async def http_url(prepared):
    """Give the address of a server process over streamable HTTP."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mcp_server.http", "--port", str(port)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}/mcp"
    try:
        deadline = time.monotonic() + 120
        async with httpx2.AsyncClient() as probe:
            while time.monotonic() < deadline:
                try:
                    await probe.get(url)
                    break
                except httpx2.ConnectError:
                    await anyio.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait(120)
