"""Servers and clients of every kind."""

import os
import sys

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
