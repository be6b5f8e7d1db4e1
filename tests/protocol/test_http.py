"""The HTTP server: who may call it, and what happens when clients leave."""

import json
from contextlib import asynccontextmanager

import anyio
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from ft_tools.tools import TOOLS
from tests.protocol.serving import serving
from tests.protocol.test_serve import big_dataset

pytestmark = pytest.mark.anyio
TOKEN = "own-" + "o" * 20
LIST = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
MCP = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}


@pytest.fixture(scope="module", params=[TOKEN, ""], ids=["token", "loopback"])
def served(request, tmp_path_factory):
    """Give a server with a token, and one without."""
    folder = tmp_path_factory.mktemp("http")
    environment = {
        "FINE_TUNING_LLM_WORKSPACE": str(folder),
        "FINE_TUNING_LLM_HTTP_TOKEN": request.param,
    }
    with serving("--http", "--port", "0", **environment) as served:
        served.folder = folder
        served.token = request.param
        yield served


def bearer(token):
    return {"Authorization": f"Bearer {token}"} if token else {}


@asynccontextmanager
async def connected(served, mode="auto"):
    async with (
        httpx2.AsyncClient(headers=bearer(served.token), timeout=30) as http,
        Client(streamable_http_client(served.url, http_client=http), mode=mode) as client,
    ):
        yield client


async def post(served, headers, body=LIST):
    async with httpx2.AsyncClient(timeout=30) as http:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await http.post(served.url, headers=MCP | headers, content=content)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_client_lists_the_tools(served, mode):
    async with connected(served, mode) as client:
        listed = await client.list_tools()
    assert [tool.name for tool in listed.tools] == list(TOOLS)


@pytest.mark.parametrize(
    "given",
    [
        None,
        "Bearer wrong",
        f"Basic {TOKEN}",
        TOKEN,
        f"Bearer {TOKEN}x",
        "Bearer",
        "Bearer \xe9",
    ],
)
async def test_only_the_token_opens_a_server_that_has_one(served, given):
    headers = {"Authorization": given.encode("latin-1")} if given else {}
    answer = await post(served, headers)
    assert (answer.status_code == 401) == bool(served.token)
    if served.token:
        assert answer.headers["www-authenticate"] == 'Bearer realm="fine-tuning-llm"'
        assert (await post(served, {"Authorization": f"bearer {TOKEN}"})).status_code != 401


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example:8765"}, 421),
        ({"Host": "127.0.0.1.evil.example"}, 421),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
async def test_a_web_page_cannot_reach_a_server_without_a_token(served, headers, status):
    answer = await post(served, headers)
    assert answer.status_code == (401 if served.token else status)


async def test_a_body_beyond_the_limit_is_refused(served):
    answer = await post(served, bearer(served.token), b" " * (4 * 2**20 + 1))
    assert answer.status_code == 413


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_disconnected_call_stops_its_work(served, mode):
    big_dataset(served.folder)
    before = served.cpu_seconds()
    async with connected(served, mode) as client:
        async with anyio.create_task_group() as calling:
            calling.start_soon(client.call_tool, "audit_dataset", {"path": "big.jsonl"})
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
