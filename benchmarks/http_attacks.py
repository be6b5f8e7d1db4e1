"""Attack the HTTP server in the ways that its limits are there for, and count what gets through.

Writes http_attacks.json beside this file: attempts and successes of wrong tokens, rebinding hosts
and origins, reaching for another client's runs and files, argument injection, oversized and slow
bodies; and whether an honest client was served meanwhile.
"""

import json
import os
import platform
import random
import string
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import anyio
import httpx2
import psutil
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from ft_tools.tools import TOOLS
from tests.protocol.calls import GOOD, RUN_ID, prepare
from tests.protocol.serving import Served, serving
from tests.protocol.test_paths import LISTS, PATHS, leaf_of, routes

RESULT = Path(__file__).with_suffix(".json")
ALICE, BOB = f"alice-{'a' * 20}", f"bob-{'b' * 20}"
SECRET = "secret-of-alice-4711"
LIST = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
MCP = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
SLOW_CONNECTIONS, SLOW_SECONDS = 50, 30.0
PAYLOADS = (
    "; touch {canary}",
    "$(touch {canary})",
    "`touch {canary}`",
    "| touch {canary} #",
    "--help\ntouch {canary}",
    "-oProxyCommand=touch {canary}",
    "--output-dir={canary}",
    "'; import os; os.system('touch {canary}'); '",
    "{{{{ ''.__class__.__mro__[1].__subclasses__() }}}}",
    "__import__('os').system('touch {canary}')",
    "!!python/object/apply:os.system ['touch {canary}']",
    "%0atouch%20{canary}",
    "\u202etouch {canary}",
    "a\x00touch {canary}",
    "../" * 40 + "{canary}",
    "x" * 20_000,
)


def tokens_file(folder: Path) -> Path:
    """Write two clients; alice has a dataset and a run with a secret in them."""
    for name in ("alice", "bob"):
        (folder / name).mkdir()
        prepare(folder / name)
    data = folder / "alice" / "data.jsonl"
    data.write_text(data.read_text().replace("parcel", SECRET))
    run = folder / "alice" / "runs" / RUN_ID
    (run / "log.txt").write_text(SECRET)
    (run / "run.json").write_text((run / "run.json").read_text().replace("interrupted", SECRET))
    for path in list((folder / "bob" / "runs").rglob("*"))[::-1]:
        path.rmdir() if path.is_dir() else path.unlink()
    file = folder / "tokens.toml"
    rows = (("alice", ALICE), ("bob", BOB))
    file.write_text("".join(f'[{n}]\ntoken = "{t}"\nworkspace = "{folder / n}"\n' for n, t in rows))
    file.chmod(0o600)
    return file


def wrong_tokens() -> Iterator[str]:
    """Give values of the header Authorization that are not a client's."""
    choose = random.Random(0)
    for scheme in ("Bearer", "bearer", "Basic", "Token", "Digest", ""):
        yield from (
            f"{scheme} {token}".strip() for token in ("", "null", "undefined", "*", "' OR 1")
        )
    for token in (ALICE, BOB):
        yield from (f"Basic {token}", f"Token {token}", token, f"Bearer={token}", f"Bearer:{token}")
        yield from (f"Bearer {token[:cut]}" for cut in range(1, len(token)))
        yield from (f"Bearer {token}{extra}" for extra in ("x", "=", ",", ";", "%00", "\xe9"))
        yield from (f"Bearer {token.upper()}", f"Bearer {token[::-1]}", f"Bearer {token} {token}")
    letters = string.ascii_letters + string.digits + "-._~+/"
    for _ in range(800):
        yield "Bearer " + "".join(choose.choices(letters, k=choose.randint(1, 60)))


def foreign_hosts() -> Iterator[dict[str, str]]:
    """Give Host and Origin headers of pages that are not this server's."""
    names = [
        f"{a}.{b}"
        for a in ("evil", "127.0.0.1", "localhost", "0x7f.1", "xn--lcalhost-90a")
        for b in ("example", "nip.io", "attacker.test", "local", "internal")
    ]
    names += ["localhost@evil.example", "evil.example#localhost", "evil.example/localhost", "evil"]
    names += ["localhost.", "127.0.0.1.", "2130706433", "0177.0.0.1", "[::ffff:evil]", "local host"]
    for name in names:
        yield from ({"Host": f"{name}{port}"} for port in ("", ":80", ":8765"))
        yield from (
            {"Origin": f"{scheme}://{name}"} for scheme in ("http", "https", "file", "data")
        )
    yield from (
        {"Origin": each} for each in ("null", "file://", "chrome-extension://abc", "about:")
    )


async def post(http: httpx2.AsyncClient, url: str, headers: dict[str, str], body: bytes) -> int:
    """Send a request; return its status, 0 if it was not even sent or answered."""
    try:
        raw = {key: value.encode("latin-1") for key, value in (MCP | headers).items()}
        return (await http.post(url, headers=raw, content=body)).status_code
    except (httpx2.HTTPError, ValueError):
        return 0


async def statuses(url: str, attempts: list[dict[str, str]]) -> dict[str, Any]:
    """Try each set of headers; return how many there were, and how many were served.

    Ten come from each address of this machine, so that no limit of guesses answers for the check.
    """
    found: dict[int, int] = {}
    for number, some in enumerate(batched(attempts, 10)):
        source = httpx2.AsyncHTTPTransport(
            local_address=f"127.0.{number // 250}.{number % 250 + 1}"
        )
        async with httpx2.AsyncClient(timeout=30, transport=source) as http:
            for headers in some:
                status = await post(http, url, headers, json.dumps(LIST).encode())
                found[status] = found.get(status, 0) + 1
    through = sum(count for status, count in found.items() if 200 <= status < 300)
    answers = {str(status): count for status, count in sorted(found.items())}
    return {"attempts": len(attempts), "got_through": through, "statuses": answers}


def batched(things: list[Any], size: int) -> Iterator[list[Any]]:
    """Give the things in lists of a size."""
    yield from (things[at : at + size] for at in range(0, len(things), size))


async def as_bob(url: str, calls: list[tuple[str, dict[str, Any]]], folder: Path) -> dict[str, Any]:
    """Make calls with bob's token; count those that show what is alice's, and internal errors."""
    shown = crashed = 0
    first = ""
    headers = {"Authorization": f"Bearer {BOB}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=120) as http,
        Client(streamable_http_client(url, http_client=http)) as client,
    ):
        for name, arguments in calls:
            try:
                said = str(await client.call_tool(name, arguments))
            except Exception as error:
                said = str(error)
                crashed += "internal error" in said
                first = first or (said if "internal error" in said else "")
            shown += SECRET in said
    made = (folder / "canary").exists()
    result = {"attempts": len(calls), "got_through": shown + made, "internal_errors": crashed}
    return result | ({"first": first[:200]} if first else {})


def reaching_for_runs(alice: Path) -> list[tuple[str, dict[str, Any]]]:
    """Give calls that name alice's run in every argument that takes one."""
    names = [
        RUN_ID,
        RUN_ID.upper(),
        f"{RUN_ID}\n",
        f"../../alice/runs/{RUN_ID}",
        f"%2e%2e/{RUN_ID}",
    ]
    names += [
        str(alice / "runs" / RUN_ID),
        f"runs/{RUN_ID}",
        f"./{RUN_ID}",
        f"{RUN_ID}/../{RUN_ID}",
    ]
    takers = [(name, "run_id") for name in GOOD if "run_id" in GOOD[name]]
    takers += [("evaluate", "model"), ("evaluate", "baseline"), ("merge_and_quantize", "source")]
    takers += [("estimate_vram", "model"), ("launch_sft", "model"), ("launch_dpo", "sft_run")]
    return [(tool, GOOD[tool] | {field: name}) for tool, field in takers for name in names]


def escapes(bob: Path, alice: Path) -> list[tuple[str, dict[str, Any]]]:
    """Give calls with every way of naming alice's files, in every argument that is a path."""
    return [
        (tool, GOOD[tool] | {field: [route] if field in LISTS else route})
        for tool, fields in PATHS.items()
        for field in fields
        for route in routes(bob, alice, leaf_of(field))
    ]


def injections(canary: Path) -> list[tuple[str, dict[str, Any]]]:
    """Give calls with each payload in each argument that takes text."""
    calls = []
    for tool, spec in TOOLS.items():
        for field, about in spec.request.model_fields.items():
            if "str" in str(about.annotation):
                # A plan takes seconds to make, so its fields share the payloads.
                few = spec.effect == "starts"
                for payload in random.Random(tool + field).sample(PAYLOADS, 2 if few else 16):
                    text = payload.format(canary=canary)
                    value = [text] if "list" in str(about.annotation) else text
                    calls.append((tool, GOOD[tool] | {field: value}))
    return calls


async def oversized(served: Served) -> dict[str, Any]:
    """Send bodies beyond the limit, with and without a length, and deeply nested ones."""
    before = rss(served)
    bodies = [b" " * (4 * 2**20 + extra) for extra in (1, 2**20, 28 * 2**20)]
    bodies += [b'{"a":' * 100_000 + b"1" + b"}" * 100_000, b"[" * 1_000_000, b"9" * 3_000_000]

    async def in_parts(body: bytes) -> Any:
        for at in range(0, len(body), 65536):
            yield body[at : at + 65536]

    counts: dict[int, int] = {}
    headers = {"Authorization": f"Bearer {ALICE}"}
    async with httpx2.AsyncClient(timeout=60) as http:
        for body in bodies:
            for content in (body, in_parts(body)):
                status = await post(http, served.url, headers, content)
                counts[status] = counts.get(status, 0) + 1
    through = sum(count for status, count in counts.items() if 200 <= status < 300)
    answers = {str(status): count for status, count in sorted(counts.items())}
    result = {"attempts": 2 * len(bodies), "got_through": through, "statuses": answers}
    return result | {"mib_before": before, "mib_after": rss(served)}


async def slow(served: Served) -> dict[str, Any]:
    """Send headers or bodies a letter a second, many at once, and call honestly meanwhile."""
    host, port = served.url.split("/")[2].split(":")
    head = f"POST /mcp HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {ALICE}\r\n"
    head += "".join(f"{key}: {value}\r\n" for key, value in MCP.items())
    lives: list[float] = []
    honest: list[float] = []

    async def trickle(first: str) -> None:
        started = time.monotonic()
        async with await anyio.connect_tcp(host, int(port)) as stream:
            try:
                await stream.send(first.encode())
                while time.monotonic() - started < 2 * SLOW_SECONDS:
                    await anyio.sleep(1)
                    await stream.send(b" ")
            except (anyio.BrokenResourceError, OSError):
                pass
        lives.append(time.monotonic() - started)

    async def call() -> None:
        headers = {"Authorization": f"Bearer {BOB}"}
        async with (
            httpx2.AsyncClient(headers=headers, timeout=60) as http,
            Client(streamable_http_client(served.url, http_client=http)) as client,
        ):
            for _ in range(20):
                started = time.monotonic()
                await client.call_tool("list_runs", {})
                honest.append(time.monotonic() - started)
                await anyio.sleep(1)

    async with anyio.create_task_group() as people:
        for number in range(SLOW_CONNECTIONS):
            more = "Content-Length: 1000\r\n\r\n{" if number % 2 else "X-Slow: "
            people.start_soon(trickle, head + more)
        people.start_soon(call)
    return {
        "attempts": SLOW_CONNECTIONS,
        "got_through": sum(life > SLOW_SECONDS for life in lives),
        "longest_seconds": round(max(lives), 1),
        "honest_calls": len(honest),
        "honest_slowest_seconds": round(max(honest), 3),
    }


def rss(served: Served) -> float:
    """Return the server's resident memory in MiB."""
    return round(psutil.Process(served.process.pid).memory_info().rss / 2**20, 1)


async def attack(served: Served, folder: Path) -> dict[str, Any]:
    """Make every attack; return its counts."""
    alice, bob = folder / "alice", folder / "bob"
    right = {"Authorization": f"Bearer {ALICE}"}
    return {
        "wrong_tokens": await statuses(served.url, [{"Authorization": t} for t in wrong_tokens()]),
        "foreign_hosts": await statuses(served.url, [right | h for h in foreign_hosts()]),
        "runs_of_others": await as_bob(served.url, reaching_for_runs(alice), folder),
        "path_escapes": await as_bob(served.url, escapes(bob, alice), folder),
        "argument_injection": await as_bob(served.url, injections(folder / "canary"), folder),
        "oversized_bodies": await oversized(served),
        "slow_bodies_and_headers": await slow(served),
    }


def main() -> None:
    """Attack and write the counts."""
    with tempfile.TemporaryDirectory() as name:
        file = tokens_file(Path(name))
        offline = {"HF_HUB_OFFLINE": "1"}
        with serving("--http", "--port", "0", "--tokens", str(file), **offline) as served:
            result = anyio.run(attack, served, Path(name))
            result["still_serving"] = served.process.poll() is None
    versions = {"python": platform.python_version(), "mcp": version("mcp")}
    result |= {"cores": os.cpu_count(), "versions": versions}
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    sys.stdout.write(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
