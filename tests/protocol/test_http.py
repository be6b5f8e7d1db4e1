"""The HTTP server: who may call it, what each client sees, and what it answers to the others."""

import asyncio
import json
import signal
import socket
import time
from contextlib import asynccontextmanager

import anyio
import httpx2
import pytest
import uvicorn
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server.transport_security import TransportSecuritySettings

from ft_tools.errors import BadInput, NotFound
from ft_tools.tools import TOOLS
from mcp_server import http
from mcp_server.access import Access, read_clients
from mcp_server.server import server
from tests.protocol.calls import GOOD, RUN_ID, prepare
from tests.protocol.serving import serving
from tests.protocol.test_serve import big_dataset

pytestmark = pytest.mark.anyio
ALICE, BOB, OWN = "alice-" + "a" * 20, "bob-" + "b" * 20, "own-" + "o" * 20
LIST = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
MCP = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}


def tokens_file(folder):
    rows = ""
    for name, token in (("alice", ALICE), ("bob", BOB)):
        (folder / name).mkdir(exist_ok=True)
        rows += f'[{name}]\ntoken = "{token}"\nworkspace = "{folder / name}"\n'
    file = folder / "tokens.toml"
    file.write_text(rows)
    file.chmod(0o600)
    return file


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Give a server with three tokens; alice has a dataset, a model and a run."""
    folder = tmp_path_factory.mktemp("http")
    file = tokens_file(folder)
    prepare(folder / "alice")
    environment = {
        "FINE_TUNING_LLM_WORKSPACE": str(folder / "bob"),
        "FINE_TUNING_LLM_HTTP_TOKEN": OWN,
    }
    with serving("--http", "--port", "0", "--tokens", str(file), **environment) as served:
        served.folder = folder
        yield served


@asynccontextmanager
async def connected(served, token, mode="auto", **more):
    headers = {"Authorization": f"Bearer {token}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=30) as http,
        Client(streamable_http_client(served.url, http_client=http), mode=mode, **more) as client,
    ):
        yield client


async def post(served, headers, body=LIST, path=""):
    async with httpx2.AsyncClient(timeout=30) as http:
        url = served.url.replace("/mcp", path) if path else served.url
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await http.post(url, headers=MCP | headers, content=content)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_client_sees_its_own_workspace_and_nobody_elses_runs(served, mode):
    async with connected(served, ALICE, mode) as alice, connected(served, BOB, mode) as bob:
        mine = await alice.call_tool("list_runs", {})
        theirs = await bob.call_tool("list_runs", {})
        taken = await bob.call_tool("get_run", {"run_id": RUN_ID})
        outside = str(served.folder / "alice" / "data.jsonl")
        read = await bob.call_tool("show_examples", {"path": outside, "lines": [1]})
    assert mine.structured_content["total"] == 1
    assert theirs.structured_content["total"] == 0
    assert taken.is_error
    assert read.is_error
    assert str(served.folder / "alice") not in read.content[0].text.replace(outside, "")


@pytest.mark.parametrize("name", sorted(n for n in TOOLS if "run_id" in GOOD[n]))
async def test_no_tool_reaches_a_run_of_another_workspace(served, name):
    async with connected(served, BOB) as bob:
        refused = await bob.call_tool(name, GOOD[name])
    assert refused.is_error
    assert "not_found" in refused.content[0].text


async def test_a_session_belongs_to_the_token_that_opened_it(served):
    hello = {
        "jsonrpc": "2.0",
        "id": 0,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "t", "version": "1"},
        },
    }
    opened = await post(served, {"Authorization": f"Bearer {ALICE}"}, hello)
    session = {"Mcp-Session-Id": opened.headers["mcp-session-id"]}
    assert (await post(served, session | {"Authorization": f"Bearer {ALICE}"})).status_code == 200
    assert (await post(served, session | {"Authorization": f"Bearer {BOB}"})).status_code == 404


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_the_scheme_of_a_token_is_read_in_any_case(served, scheme):
    answer = await post(served, {"Authorization": f"{scheme} {ALICE}"})
    assert answer.status_code != 401


async def test_a_request_without_a_token_is_told_how_to_authenticate(served):
    answer = await post(served, {})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="fine-tuning-llm"'
    assert "Authorization: Bearer" in answer.json()["error_description"]


@pytest.mark.parametrize(
    "given", ["Bearer wrong", f"Basic {ALICE}", ALICE, f"Bearer {ALICE}x", "Bearer"]
)
async def test_a_wrong_token_is_refused_as_invalid(served, given):
    answer = await post(served, {"Authorization": given})
    assert answer.status_code == 401
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]


@pytest.mark.parametrize(
    "path",
    [
        "/.well-known/oauth-protected-resource",
        "/.well-known/oauth-authorization-server",
        "/.well-known/openid-configuration",
        "/register",
        "/",
        "/mcp/../runs",
    ],
)
async def test_there_is_no_oauth_and_nothing_else_behind_other_paths(served, path):
    async with httpx2.AsyncClient() as http:
        answer = await http.get(served.url.replace("/mcp", path))
    assert answer.status_code == 404
    assert "www-authenticate" not in answer.headers
    assert "no OAuth" in answer.json()["error_description"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "evil.example:8765"}, 421),
        ({"Host": "127.0.0.1.evil.example"}, 421),
        ({"Host": "localhost@evil.example"}, 421),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "https://localhost.evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://[::ffff:evil]"}, 403),
        ({"Host": "[::ffff:evil]"}, 421),
        ({"Origin": "file://"}, 403),
    ],
)
async def test_a_foreign_host_or_origin_is_refused_even_with_the_right_token(
    served, headers, status
):
    answer = await post(served, headers | {"Authorization": f"Bearer {ALICE}"})
    assert answer.status_code == status


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "localhost:1"},
        {"Host": "10.0.0.7:8765"},
        {"Host": "[::1]:8765"},
        {"Origin": "http://localhost:6274"},
    ],
)
async def test_an_address_or_this_machine_is_no_foreign_host(served, headers):
    answer = await post(served, headers | {"Authorization": f"Bearer {ALICE}"})
    assert answer.status_code not in {403, 421}


async def test_a_body_beyond_the_limit_is_refused(served):
    answer = await post(served, {"Authorization": f"Bearer {ALICE}"}, b" " * (4 * 2**20 + 1))
    assert answer.status_code == 413


@pytest.mark.parametrize("revision", ["2025-11-25", "2026-07-28"])
async def test_a_body_that_does_not_come_is_given_up(monkeypatch, revision):
    monkeypatch.setattr("mcp_server.access.BODY_SECONDS", 0.1)
    sent = []
    parts = [{"type": "http.request", "body": b"{", "more_body": True}]

    async def receive():
        if not parts:
            await anyio.sleep(30)
        return parts.pop()

    async def send(message):
        sent.append(message)

    names = {"Host": "127.0.0.1", "MCP-Protocol-Version": revision} | MCP
    headers = [(key.lower().encode(), value.encode()) for key, value in names.items()]
    scope = {"type": "http", "path": "/mcp", "headers": headers, "method": "POST"}
    scope |= {"query_string": b"", "root_path": "", "http_version": "1.1", "client": None}
    app = server.streamable_http_app(
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False)
    )
    async with app.router.lifespan_context(app):
        await Access(app, [])(scope, receive, send)
    starts = [message for message in sent if message["type"] == "http.response.start"]
    assert [start["status"] for start in starts] == [408]
    assert dict(starts[0]["headers"])[b"connection"] == b"close"


async def test_a_client_that_sends_its_headers_slowly_is_cut_off_and_a_patient_reader_is_not(
    monkeypatch,
):
    async def app(scope, receive, send):
        await anyio.sleep(0.6)
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    monkeypatch.setattr(http, "HEADERS_SECONDS", 0.3)
    config = uvicorn.Config(app, lifespan="off", log_config=None)
    state = uvicorn.Server(config).server_state
    loop = asyncio.get_running_loop()
    made = await loop.create_server(
        lambda: http.Punctual(config=config, server_state=state, app_state={}), "127.0.0.1", 0
    )
    host, port = made.sockets[0].getsockname()
    whole = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"
    async with made:
        answers = {}
        for name, first in (("a letter", b"G"), ("slow", whole[:-4]), ("whole", whole)):
            async with await anyio.connect_tcp(host, port) as client:
                await client.send(first)
                with anyio.fail_after(120):
                    try:
                        answers[name] = await client.receive()
                    except anyio.EndOfStream:
                        answers[name] = b"closed"
    assert answers["a letter"] == answers["slow"] == b"closed"
    assert answers["whole"].startswith(b"HTTP/1.1 204")


async def test_a_client_that_calls_without_end_is_slowed_down(monkeypatch):
    monkeypatch.setattr("mcp_server.access.CALLS_AT_ONCE", 3.0)
    monkeypatch.setattr("mcp_server.access.CALLS_PER_SECOND", 0.001)
    seen = []

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message):
        if message["type"] == "http.response.start":
            seen.append((message["status"], dict(message["headers"]).get(b"retry-after")))

    scope = {"type": "http", "path": "/mcp", "headers": [(b"host", b"127.0.0.1")]}
    access = Access(app, [])
    for address in ("10.0.0.1", "10.0.0.1", "10.0.0.1", "10.0.0.1", "10.0.0.2"):
        await access(scope | {"client": (address, 1)}, None, send)
    assert seen == [(200, None)] * 3 + [(429, b"1"), (200, None)]


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_disconnected_call_stops_its_work(served, mode):
    big_dataset(served.folder / "alice")
    before = served.cpu_seconds()
    async with connected(served, ALICE, mode) as alice:
        async with anyio.create_task_group() as calling:
            calling.start_soon(alice.call_tool, "audit_dataset", {"path": "big.jsonl"})
            with anyio.fail_after(120):
                while served.cpu_seconds() < before + 0.4:
                    await anyio.sleep(0.02)
            calling.cancel_scope.cancel()
        stopped = served.cpu_seconds()
        with anyio.fail_after(120):
            while True:
                now = served.cpu_seconds()
                await anyio.sleep(0.4)
                if served.cpu_seconds() - now < 0.1:
                    break
    assert served.cpu_seconds() - stopped < 2


async def test_a_client_that_leaves_in_the_middle_of_its_request_is_no_error():
    with serving("--http", "--port", "0") as served:
        host, port = served.url.split("/")[2].split(":")
        for _ in range(3):
            with socket.create_connection((host, int(port))) as raw:
                head = f"POST /mcp HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1000\r\n"
                lines = "".join(f"{key}: {value}\r\n" for key, value in MCP.items())
                raw.sendall(f"{head}{lines}\r\n{{".encode())
        answer = await post(served, {})
        code, seconds, said = served.stop(signal.SIGINT)
    assert answer.status_code < 500
    assert (code, said) == (130, "")
    assert seconds < 2


async def test_a_signal_ends_the_server_in_the_middle_of_a_call(tmp_path):
    big_dataset(tmp_path)
    with serving("--http", "--port", "0", FINE_TUNING_LLM_WORKSPACE=str(tmp_path)) as served:
        before = served.cpu_seconds()
        async with anyio.create_task_group() as calling:

            async def call():
                async with Client(served.url) as client:
                    await client.call_tool("audit_dataset", {"path": "big.jsonl"})

            async def call_until_it_breaks():
                try:
                    await call()
                except Exception:
                    return

            calling.start_soon(call_until_it_breaks)
            with anyio.fail_after(120):
                while served.cpu_seconds() < before + 0.5:
                    await anyio.sleep(0.02)
            code, seconds, said = await anyio.to_thread.run_sync(served.stop)
            calling.cancel_scope.cancel()
    assert (code, said) == (0, "")
    assert seconds < 2.5


async def test_a_connection_is_kept_longer_than_clients_pool_it(served):
    host, port = served.url.split("/")[2].split(":")
    head = f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    with socket.create_connection((host, int(port)), timeout=20) as raw:
        for pause in (0, 6):
            time.sleep(pause)
            raw.sendall(head)
            answer = b""
            while b"no OAuth" not in answer:
                answer += raw.recv(4096) or pytest.fail("the connection was closed")


async def test_a_burst_of_two_hundred_listings_is_answered(served):
    async with connected(served, ALICE) as alice, anyio.create_task_group() as burst:
        for _ in range(200):
            burst.start_soon(alice.list_tools)


@pytest.mark.parametrize(
    ("text", "mode", "error", "said"),
    [
        ("[a]\ntoken = 'short'\nworkspace = '/'", 0o600, BadInput, "a.token"),
        ("[a]\ntoken = 'sixteen-characters'\nworkspace = '/nowhere/at/all'", 0o600, NotFound, "a"),
        ("[a]\ntoken = 'sixteen-characters'\nworkspace = '/'", 0o644, BadInput, "chmod 600"),
        ("[a]\ntoken = 'sixteen-characters'\nfolder = '/'", 0o600, BadInput, "a."),
        ("", 0o600, BadInput, "no table"),
        ("token =", 0o600, BadInput, "TOML"),
    ],
)
def test_a_tokens_file_that_is_wrong_is_refused_without_its_tokens(
    tmp_path, text, mode, error, said
):
    file = tmp_path / "tokens.toml"
    file.write_text(text)
    file.chmod(mode)
    with pytest.raises(error) as refused:
        read_clients(file, "")
    assert said in str(refused.value)
    assert "sixteen-characters" not in str(refused.value)
