"""Measure `tools/list` from process start: this server against a bare one of the same SDK.

Both are started fresh, in turn, and asked for their tools over stdio. The result is
`benchmarks/startup.json`; quote the ratios, not the seconds.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import anyio
import psutil
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

ROUNDS = int(os.environ.get("ROUNDS", "15"))
BARE = """
import anyio
from mcp.server import Server
from mcp.server.stdio import stdio_server
from mcp.types import ListToolsResult, Tool

async def list_tools(_, params):
    return ListToolsResult(tools=[Tool(name="bare", input_schema={"type": "object"})])

async def serve():
    server = Server("bare", version="0", on_list_tools=list_tools)
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())

anyio.run(serve)
"""
SERVERS = {"bare": ["-c", BARE], "ours": ["-m", "mcp_server"]}


async def one_round(arguments: list[str]) -> tuple[float, float]:
    """Return seconds to the list of tools, and the server's resident memory in MiB."""
    began = time.perf_counter()
    server = StdioServerParameters(command=sys.executable, args=arguments)
    async with Client(stdio_client(server)) as client:
        await client.list_tools()
        seconds = time.perf_counter() - began
        child = psutil.Process().children()[0]
        return seconds, child.memory_info().rss / 2**20


def main() -> None:
    """Run both servers in turn and write the medians and their ratio."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in SERVERS}
    for _ in range(ROUNDS):
        for name, arguments in SERVERS.items():
            taken[name].append(anyio.run(one_round, arguments))
    medians = {
        name: {
            "seconds": round(statistics.median(t for t, _ in rows), 4),
            "rss_mib": round(statistics.median(m for _, m in rows), 1),
        }
        for name, rows in taken.items()
    }
    result = {
        "rounds": ROUNDS,
        "medians": medians,
        "time_ratio": round(medians["ours"]["seconds"] / medians["bare"]["seconds"], 3),
        "memory_ratio": round(medians["ours"]["rss_mib"] / medians["bare"]["rss_mib"], 3),
        "machine": {
            "cpu": platform.machine(),
            "cores": os.cpu_count(),
            "system": platform.system(),
        },
        "versions": {"python": platform.python_version(), "mcp": version("mcp")},
        "commit": subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
        ).stdout.strip(),
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
