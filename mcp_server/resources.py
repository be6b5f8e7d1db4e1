"""Resources: the files of the skill, and each run, which a client may watch.

A run is read as `get_run` reports it. Clients of 2026-07-28 watch by `subscriptions/listen`, whose
answer is a stream; older ones by `resources/subscribe`, until they unsubscribe or leave. Whoever
watches is told that a report has changed, and reads it again.

Source: https://modelcontextprotocol.io/specification/2026-07-28 and /2025-11-25, server/resources.
"""

import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import anyio
from anyio.abc import TaskGroup, TaskStatus
from mcp import MCPError
from mcp.server import Server, ServerRequestContext
from mcp.server.subscriptions import SUBSCRIPTION_ID_META_KEY
from mcp.types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    EmptyResult,
    ListResourcesResult,
    ListResourceTemplatesResult,
    PaginatedRequestParams,
    ReadResourceRequestParams,
    ReadResourceResult,
    ResourceTemplate,
    ResourceUpdatedNotification,
    ResourceUpdatedNotificationParams,
    SubscribeRequestParams,
    SubscriptionFilter,
    SubscriptionsAcknowledgedNotification,
    SubscriptionsAcknowledgedNotificationParams,
    SubscriptionsListenRequestParams,
    TextResourceContents,
    UnsubscribeRequestParams,
)

from ft_tools.contract import compact
from ft_tools.errors import FineTuningError
from ft_tools.redaction import redact
from ft_tools.tools import TOOLS
from mcp_server import calls, skill

TOOL = "get_run"
RUN = "run://fine-tuning-llm/"
JSON = "application/json"
LOOK_SECONDS = 2.0
MAX_WATCHED = 100
"""Runs that one process watches at once."""
WATCHING = "fine_tuning_llm.watching"

logger = logging.getLogger(__name__)
Context = ServerRequestContext["Watches"]


@dataclass
class Watches:
    """The watching that goes on: how many runs, and the tasks of clients without a stream."""

    tasks: TaskGroup
    count: int = 0

    @contextmanager
    def room_for(self, number: int) -> Iterator[None]:
        """Take places for some runs.

        Raises:
            MCPError: Too many are watched.
        """
        if self.count + number > MAX_WATCHED:
            raise MCPError(
                INTERNAL_ERROR,
                f"{self.count} runs are watched already, allowed: {MAX_WATCHED}; unsubscribe from "
                f"some, or call {TOOL} once a minute",
            )
        self.count += number
        try:
            yield
        finally:
            self.count -= number


@asynccontextmanager
async def lifespan(_: Server["Watches"]) -> AsyncIterator[Watches]:
    """Keep the tasks that watch for as long as the server runs."""
    async with anyio.create_task_group() as tasks:
        yield Watches(tasks)
        tasks.cancel_scope.cancel()


def install(server: Server[Watches]) -> None:
    """Add the methods of resources to a server."""
    add = server.add_request_handler
    add("resources/list", PaginatedRequestParams, list_resources)
    add("resources/templates/list", PaginatedRequestParams, list_templates)
    add("resources/read", ReadResourceRequestParams, read)
    add("resources/subscribe", SubscribeRequestParams, subscribe)
    add("resources/unsubscribe", UnsubscribeRequestParams, unsubscribe)
    add("subscriptions/listen", SubscriptionsListenRequestParams, listen)


async def list_resources(_: Context, __: PaginatedRequestParams | None) -> ListResourcesResult:
    """List the files of the skill; runs are named by `list_runs`."""
    return skill.list_resources()


async def list_templates(
    _: Context, __: PaginatedRequestParams | None
) -> ListResourceTemplatesResult:
    """List the patterns of addresses: a reference by its topic, a run by its id."""
    run = ResourceTemplate(
        uri_template=RUN + "{run_id}",
        name="run",
        title="Run by id",
        description=f"A run as {TOOL} reports it. Subscribe to be notified when it changes.",
        mime_type=JSON,
    )
    return ListResourceTemplatesResult(
        resource_templates=[skill.reference_template(), run],
        ttl_ms=skill.TTL_MS,
        cache_scope="public",
    )


async def read(context: Context, params: ReadResourceRequestParams) -> ReadResourceResult:
    """Return a file of the skill, or a run.

    Raises:
        MCPError: There is no such resource.
    """
    uri = str(params.uri)
    text = await _required(uri, calls.folders(context))
    if not uri.startswith(RUN):
        contents = TextResourceContents(uri=uri, mime_type=skill.MARKDOWN, text=text)
        return ReadResourceResult(contents=[contents], ttl_ms=skill.TTL_MS, cache_scope="public")
    contents = TextResourceContents(uri=uri, mime_type=JSON, text=text)
    return ReadResourceResult(contents=[contents], ttl_ms=0, cache_scope="private")


async def listen(context: Context, params: SubscriptionsListenRequestParams) -> NoReturn:
    """Tell about changes of runs on the stream of this request, until its client leaves.

    Raises:
        MCPError: It has no id, or too many runs are watched.
    """
    if context.request_id is None:
        raise MCPError(INVALID_REQUEST, "subscriptions/listen needs a request id")
    folders = calls.folders(context)
    meta: dict[str, Any] = {SUBSCRIPTION_ID_META_KEY: context.request_id}

    async def tell(uri: str) -> None:
        changed = ResourceUpdatedNotificationParams(uri=uri, _meta=meta)
        await context.session.send_notification(
            ResourceUpdatedNotification(params=changed), context.request_id
        )

    asked = dict.fromkeys(params.notifications.resource_subscriptions or ())
    with context.lifespan_context.room_for(len(asked)):
        texts = {uri: await _text(uri, folders) for uri in asked}
        seen = {uri: text for uri, text in texts.items() if text is not None}
        honored = SubscriptionFilter(resource_subscriptions=list(seen) or None)
        accepted = SubscriptionsAcknowledgedNotificationParams(notifications=honored, _meta=meta)
        await context.session.send_notification(
            SubscriptionsAcknowledgedNotification(params=accepted), context.request_id
        )
        await _watch(seen, folders, tell)


async def subscribe(context: Context, params: SubscribeRequestParams) -> EmptyResult:
    """Begin to tell a client of an older protocol about changes of a run.

    Raises:
        MCPError: There is no such resource, or too many runs are watched.
    """
    uri, folders, scopes = str(params.uri), calls.folders(context), _scopes(context)
    if uri in scopes:
        return EmptyResult()
    text = await _required(uri, folders)

    async def watch(*, task_status: TaskStatus[None]) -> None:
        with context.lifespan_context.room_for(1), anyio.CancelScope() as scope:
            scopes[uri] = scope
            task_status.started()
            await _watch({uri: text}, folders, context.session.send_resource_updated)

    await context.lifespan_context.tasks.start(watch)
    return EmptyResult()


async def unsubscribe(context: Context, params: UnsubscribeRequestParams) -> EmptyResult:
    """Stop telling about a run; without effect if nobody was told."""
    scope = _scopes(context).pop(str(params.uri), None)
    if scope is not None:
        scope.cancel()
    return EmptyResult()


def _scopes(context: Context) -> dict[str, anyio.CancelScope]:
    """Return what watches for this connection, by address; it ends with the connection."""
    # The SDK keeps a state for each connection, and does not hand it to handlers yet.
    connection = context.session._connection
    if WATCHING not in connection.state:
        scopes: dict[str, anyio.CancelScope] = {}
        connection.state[WATCHING] = scopes
        connection.exit_stack.callback(_cancel, scopes)
    found: dict[str, anyio.CancelScope] = connection.state[WATCHING]
    return found


def _cancel(scopes: dict[str, anyio.CancelScope]) -> None:
    for scope in scopes.values():
        scope.cancel()


async def _watch(
    texts: Mapping[str, str], folders: Sequence[Path], tell: Callable[[str], Awaitable[None]]
) -> NoReturn:
    """Tell of each run that reads differently than before, without end."""
    seen: dict[str, str | None] = dict(texts)
    while True:
        await anyio.sleep(LOOK_SECONDS)
        for uri in seen:
            # The files of the skill change only with an upgrade.
            now = await _text(uri, folders) if uri.startswith(RUN) else seen[uri]
            if now != seen[uri]:
                seen[uri] = now
                await tell(uri)


async def _text(uri: str, folders: Sequence[Path]) -> str | None:
    """Return what a resource says now; None if there is no such resource."""
    with suppress(MCPError):
        return await _required(uri, folders)
    return None


async def _required(uri: str, folders: Sequence[Path]) -> str:
    """Return what a resource says now.

    Raises:
        MCPError: There is no such resource, or it cannot be read.
    """
    if not uri.startswith(RUN):
        return skill.read_text(uri)
    try:
        request = TOOLS[TOOL].request.model_validate({"run_id": uri.removeprefix(RUN)})
        report = await calls.look(TOOLS[TOOL].call, request, folders)
    except FineTuningError as error:
        message = redact(f"{error.code}: {error}")
        raise MCPError(INVALID_PARAMS, message, {"uri": uri}) from error
    except Exception as error:
        logger.exception("resource %s failed", uri)
        raise MCPError(INTERNAL_ERROR, "internal error; see the server's log") from error
    return json.dumps(compact(report), ensure_ascii=True)
