"""How the HTTP server serves many people: 50 clients, three tokens, every tool that only reads.

Writes http_service.json beside this file: calls, errors, latencies with and without keep-alive, and
the server's memory before and after.
"""

import argparse
import json
import platform
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

import anyio
import httpx2
import psutil
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

sys.path.insert(0, str(Path(__file__).parent.parent))

from ft_tools.tools import TOOLS
from tests.protocol.calls import GOOD, prepare
from tests.protocol.serving import Served, serving

RESULT = Path(__file__).with_suffix(".json")
CLIENTS = 50
NAMES = [name for name in TOOLS if TOOLS[name].effect == "reads"]
TOKENS = {name: f"{name}-{'x' * 20}" for name in ("alice", "bob", "carol")}


def tokens_file(folder: Path) -> Path:
    """Write three clients with a workspace each."""
    rows = []
    for name, token in TOKENS.items():
        (folder / name).mkdir()
        prepare(folder / name)
        rows.append(f'[{name}]\ntoken = "{token}"\nworkspace = "{folder / name}"\n')
    file = folder / "tokens.toml"
    file.write_text("".join(rows))
    file.chmod(0o600)
    return file


async def use(url: str, token: str, until: float, limits: httpx2.Limits, seen: dict) -> None:
    """Call tools one after the other until a time."""
    choose = random.Random(token)
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        httpx2.AsyncClient(headers=headers, limits=limits, timeout=60) as http,
        Client(streamable_http_client(url, http_client=http)) as client,
    ):
        while time.monotonic() < until:
            name = choose.choice(NAMES)
            began = time.monotonic()
            try:
                result = await client.call_tool(name, GOOD[name])
                failed = "" if not result.is_error else result.content[0].text[:200]
            except Exception as error:
                failed = f"{type(error).__name__}: {error}"[:200]
            seen["seconds"].append(time.monotonic() - began)
            if failed:
                seen["errors"].append(f"{name}: {failed}")


async def load(served: Served, seconds: float, *, keep_alive: bool) -> dict:
    """Run all clients for some seconds; return what they saw."""
    limits = httpx2.Limits(max_keepalive_connections=None if keep_alive else 0)
    seen: dict = {"seconds": [], "errors": []}
    until = time.monotonic() + seconds
    async with anyio.create_task_group() as people:
        for number in range(CLIENTS):
            token = list(TOKENS.values())[number % len(TOKENS)]
            people.start_soon(use, served.url, token, until, limits, seen)
    taken = sorted(seen["seconds"])
    return {
        "calls": len(taken),
        "errors": len(seen["errors"]),
        "first_errors": seen["errors"][:5],
        "median_seconds": round(statistics.median(taken), 4),
        "p99_seconds": round(taken[int(0.99 * len(taken))], 4),
    }


def memory_mib(served: Served) -> float:
    """Return the server's resident memory."""
    return round(psutil.Process(served.process.pid).memory_info().rss / 2**20, 1)


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="for each of both ways")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        file = tokens_file(Path(name))
        with serving("--http", "--port", "0", "--tokens", str(file)) as served:
            anyio.run(lambda: load(served, 5.0, keep_alive=True))
            before = memory_mib(served)
            result: dict = {
                "clients": CLIENTS,
                "tokens": len(TOKENS),
                "tools": NAMES,
                "seconds": given.seconds,
                "cores": psutil.cpu_count(),
                "python": platform.python_version(),
            }
            result["keep_alive"] = anyio.run(lambda: load(served, given.seconds, keep_alive=True))
            result["no_keep_alive"] = anyio.run(
                lambda: load(served, given.seconds, keep_alive=False)
            )
            result["memory_mib"] = {"warm": before, "after": memory_mib(served)}
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    sys.stdout.write(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
