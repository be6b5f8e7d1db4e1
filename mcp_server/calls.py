"""Run a tool beside the event loop, in its caller's workspace, while somebody waits for it."""

import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import anyio
from anyio import CapacityLimiter, to_thread
from mcp.server import ServerRequestContext
from pydantic import BaseModel

from ft_tools import abandoned_calls, workspace

PROGRESS_SECONDS = 2.0
MAX_CALLS = 16
"""Tools that work at once; further calls wait for one of them."""
END_SECONDS = 1.0
"""How long calls get to stop when the server is told to end."""
GRANT = "fine_tuning_llm.grant"
"""Key of an HTTP request's scope: a `Grant`."""

_running: set[abandoned_calls.Call] = set()
_limiters: list[CapacityLimiter] = []


class Grant:
    """What an HTTP request may see, and whether its client is still connected."""

    def __init__(self, folders: Sequence[Path] = ()) -> None:
        self.folders = folders
        self.gone = anyio.Event()


async def run(
    context: ServerRequestContext[Any], function: Callable[[Any], BaseModel], request: BaseModel
) -> BaseModel:
    """Run a tool in a thread and return its report.

    Raises:
        Exception: What the tool raised.
    """
    call = abandoned_calls.Call()
    grant = _grant(context)
    outcome: list[BaseModel | Exception] = []
    _running.add(call)
    async with anyio.create_task_group() as beside:
        beside.start_soon(_report_progress, context, call)
        if grant is not None:
            beside.start_soon(_abandon_when_gone, grant, call)
        try:
            outcome.append(await _in_thread(function, request, call, folders(context)))
        finally:
            call.abandon()
            _running.discard(call)
            beside.cancel_scope.cancel()
    if isinstance(outcome[0], Exception):
        raise outcome[0]
    return outcome[0]


async def look(
    function: Callable[[Any], BaseModel], request: BaseModel, folders: Sequence[Path]
) -> BaseModel:
    """Run a tool that answers at once in a thread, in the workspace of somebody who watches.

    Raises:
        Exception: What the tool raised.
    """
    outcome = await _in_thread(function, request, abandoned_calls.Call(), folders)
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def folders(context: ServerRequestContext[Any]) -> Sequence[Path]:
    """Return the workspace of who sent a request; empty: the one of the server."""
    grant = _grant(context)
    return grant.folders if grant else ()


async def leave(code: int) -> NoReturn:
    """End this process: calls that still work are told to stop, and are not waited for long.

    Threads cannot be ended from outside, so the process goes without joining them; runs are
    processes of their own and continue.
    """
    abandon_all()
    with anyio.move_on_after(END_SECONDS):
        while _running:
            await anyio.sleep(0.05)
    end(code)


def abandon_all() -> None:
    """Tell every call to stop."""
    for call in list(_running):
        call.abandon()


def end(code: int) -> NoReturn:
    """End this process without joining threads that wait for input or for a call."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


async def _in_thread(
    function: Callable[[Any], BaseModel],
    request: BaseModel,
    call: abandoned_calls.Call,
    folders: Sequence[Path],
) -> BaseModel | Exception:
    work = partial(_work, function, request, call, folders)
    return await to_thread.run_sync(work, abandon_on_cancel=True, limiter=_limiter())


def _work(
    function: Callable[[Any], BaseModel],
    request: BaseModel,
    call: abandoned_calls.Call,
    folders: Sequence[Path],
) -> BaseModel | Exception:
    with ExitStack() as around:
        around.enter_context(abandoned_calls.waiting(call))
        if folders:
            around.enter_context(workspace.granted(folders))
        try:
            return function(request)
        except Exception as error:
            return error


def _limiter() -> CapacityLimiter:
    if not _limiters:
        _limiters.append(CapacityLimiter(MAX_CALLS))
    return _limiters[0]


def _grant(context: ServerRequestContext[Any]) -> Grant | None:
    scope = getattr(context.request, "scope", None) or {}
    found = scope.get(GRANT)
    return found if isinstance(found, Grant) else None


async def _report_progress(context: ServerRequestContext[Any], call: abandoned_calls.Call) -> None:
    """Send the seconds so far, and what the call is doing, while it takes long."""
    started = time.monotonic()
    while True:
        await anyio.sleep(PROGRESS_SECONDS)
        seconds = round(time.monotonic() - started, 3)
        doing = f": {call.doing}" if call.doing else ""
        await context.session.report_progress(seconds, None, f"{seconds:.0f} s{doing}")


async def _abandon_when_gone(grant: Grant, call: abandoned_calls.Call) -> None:
    await grant.gone.wait()
    call.abandon()
