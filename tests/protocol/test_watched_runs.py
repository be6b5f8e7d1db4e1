"""A run as a resource: read, watched in both eras of the protocol, and told of when it changes."""

import json
from contextlib import asynccontextmanager

import anyio
import httpx2
import pytest
from mcp import Client, MCPError
from mcp.server import Server
from mcp.types import ResourceUpdatedNotification

from mcp_server import resources
from mcp_server.server import server
from tests.protocol.calls import RUN_ID, prepare
from tests.protocol.test_http import ALICE, BOB, MCP, connected, served

__all__ = ["served"]
pytestmark = [
    pytest.mark.anyio,
    # The older era's methods are what is tested here.
    pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning"),
]
URI = f"run://fine-tuning-llm/{RUN_ID}"
OTHER = "run://fine-tuning-llm/audit-00000000000000aa"


def end(folder, state="failed"):
    """Write the end of the run, as its worker does."""
    (folder / "runs" / RUN_ID / "status.json").write_text(json.dumps({"state": state}))


@pytest.fixture
def run(workspace, monkeypatch):
    monkeypatch.setattr(resources, "LOOK_SECONDS", 0.02)
    prepare(workspace)
    return workspace


@asynccontextmanager
async def watching(client_of, mode):
    """Watch the run in either era; give the client and the addresses that it was told of."""
    told: list[str] = []

    async def take(message):
        if isinstance(message, ResourceUpdatedNotification):
            told.append(str(message.params.uri))

    if mode == "auto":
        async with client_of(mode) as client, client.listen(resource_subscriptions=[URI]) as events:

            async def hear():
                async for event in events:
                    told.extend([event.uri])

            async with anyio.create_task_group() as hearing:
                hearing.start_soon(hear)
                yield client, told
                hearing.cancel_scope.cancel()
    else:
        async with client_of(mode, message_handler=take) as client:
            await client.subscribe_resource(URI)
            yield client, told


async def until_told(told, times=1):
    with anyio.fail_after(120):
        while len(told) < times:
            await anyio.sleep(0.01)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_who_watches_a_run_is_told_of_each_change_and_reads_it(run, mode):
    async with watching(lambda m, **more: Client(server, mode=m, **more), mode) as (client, told):
        await anyio.sleep(0.2)
        assert told == []
        end(run)
        await until_told(told)
        contents = (await client.read_resource(URI)).contents[0]
        end(run, "succeeded")
        await until_told(told, 2)
    assert set(told) == {URI}
    assert json.loads(contents.text)["state"] == "failed"
    assert contents.mime_type == "application/json"


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_run_reads_as_get_run_reports_it(run, mode):
    async with Client(server, mode=mode) as client:
        read = await client.read_resource(URI)
        reported = await client.call_tool("get_run", {"run_id": RUN_ID})
        templates = (await client.list_resource_templates()).resource_templates
    assert json.loads(read.contents[0].text) == reported.structured_content
    assert "run://fine-tuning-llm/{run_id}" in [each.uri_template for each in templates]


async def test_who_unsubscribes_is_told_nothing_more(run):
    async with watching(lambda m, **more: Client(server, mode=m, **more), "legacy") as (c, told):
        await c.unsubscribe_resource(URI)
        end(run)
        await anyio.sleep(0.3)
        await c.unsubscribe_resource(URI)
    assert told == []


@pytest.mark.parametrize("uri", [OTHER, "run://fine-tuning-llm/../x", "run://other/x", "file:///x"])
async def test_what_is_no_resource_cannot_be_read_or_watched(run, uri):
    async with Client(server, mode="legacy") as client:
        for ask in (client.read_resource, client.subscribe_resource):
            with pytest.raises(MCPError) as refused:
                await ask(uri)
            assert refused.value.error.code == -32602
            assert refused.value.error.data == {"uri": uri}
    async with (
        Client(server) as client,
        client.listen(resource_subscriptions=[uri, URI]) as events,
    ):
        assert events.honored.resource_subscriptions == [URI]


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_too_many_watched_runs_are_refused_with_what_to_do(run, monkeypatch, mode):
    monkeypatch.setattr(resources, "MAX_WATCHED", 0)
    async with Client(server, mode=mode) as client:
        stream = client.listen(resource_subscriptions=[URI])
        with pytest.raises(MCPError, match="get_run"):
            await (client.subscribe_resource(URI) if mode == "legacy" else stream.__aenter__())


async def test_the_watch_of_a_session_ends_with_it(run):
    kept = []

    @asynccontextmanager
    async def lifespan(made):
        async with resources.lifespan(made) as watches:
            kept.append(watches)
            yield watches

    made = Server("t", version="1", lifespan=lifespan)
    resources.install(made)
    app = made.streamable_http_app(host="127.0.0.1")
    about = {"protocolVersion": "2025-11-25", "capabilities": {}}
    about["clientInfo"] = {"name": "t", "version": "1"}
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app), base_url="http://127.0.0.1:8000", headers=MCP
        ) as http,
    ):
        opened = await http.post("/mcp", json=message("initialize", about, 1))
        session = {"Mcp-Session-Id": opened.headers["mcp-session-id"]}
        await http.post("/mcp", headers=session, json=message("notifications/initialized"))
        asked = message("resources/subscribe", {"uri": URI}, 2)
        for _ in range(2):
            await http.post("/mcp", headers=session, json=asked)
        assert kept[0].count == 1
        await http.delete("/mcp", headers=session)
        with anyio.fail_after(120):
            while kept[0].count:
                await anyio.sleep(0.01)


def message(method, params=None, number=None):
    made = {"jsonrpc": "2.0", "method": method}
    made |= {"params": params} if params else {}
    return made | ({"id": number} if number else {})


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_over_http_a_run_is_watched_by_its_own_client_only(served, mode):
    def as_alice(mode, **more):
        return connected(served, ALICE, mode, **more)

    state = "failed" if mode == "auto" else "cancelled"
    async with watching(as_alice, mode) as (_, told), connected(served, BOB, mode) as bob:
        if mode == "auto":
            async with bob.listen(resource_subscriptions=[URI]) as events:
                assert events.honored.resource_subscriptions is None
        else:
            with pytest.raises(MCPError, match="not_found"):
                await bob.subscribe_resource(URI)
        with pytest.raises(MCPError, match="not_found"):
            await bob.read_resource(URI)
        end(served.folder / "alice", state)
        await until_told(told)
    assert told == [URI]
