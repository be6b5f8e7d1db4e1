"""Run a tool beside the event loop while its client waits for the answer."""

import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any, NoReturn

import anyio
from anyio import CapacityLimiter, to_thread
from anyio.abc import TaskStatus
from mcp.server import ServerRequestContext
from pydantic import BaseModel

from ft_tools import abandoned_calls

PROGRESS_SECONDS = 2.0
MAX_CALLS = 16
"""Tools that work at once; further calls wait for one of them."""
INTERRUPTED = 130
END_SECONDS = 1.0
"""How long calls get to stop when the server is told to end."""

_running: set[abandoned_calls.Call] = set()
_limiters: list[CapacityLimiter] = []


async def run(
    context: ServerRequestContext[Any], function: Callable[[Any], BaseModel], request: BaseModel
) -> BaseModel:
    """Run a tool in a thread and return its report.

    Raises:
        Exception: What the tool raised.
    """
    call = abandoned_calls.Call()
    outcome: list[BaseModel | Exception] = []
    _running.add(call)
    async with anyio.create_task_group() as beside:
        beside.start_soon(_report_progress, context, call)
        try:
            work = partial(_work, function, request, call)
            outcome.append(
                await to_thread.run_sync(work, abandon_on_cancel=True, limiter=_limiter())
            )
        finally:
            call.abandon()
            _running.discard(call)
            beside.cancel_scope.cancel()
    if isinstance(outcome[0], Exception):
        raise outcome[0]
    return outcome[0]


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
    """Abandon every call."""
    for call in list(_running):
        call.abandon()


def end(code: int) -> NoReturn:
    """End this process without joining threads that wait for input or for a call."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(code)


async def on_signal(
    act: Callable[[int], Awaitable[None]], *, task_status: TaskStatus[None]
) -> None:
    """Call `act` with the exit code that SIGINT (130) or SIGTERM (0) asks for."""
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as received:
        task_status.started()
        async for number in received:
            await act(INTERRUPTED if number == signal.SIGINT else 0)


def _work(
    function: Callable[[Any], BaseModel], request: BaseModel, call: abandoned_calls.Call
) -> BaseModel | Exception:
    with abandoned_calls.waiting(call):
        try:
            return function(request)
        except Exception as error:
            return error


def _limiter() -> CapacityLimiter:
    if not _limiters:
        _limiters.append(CapacityLimiter(MAX_CALLS))
    return _limiters[0]


async def _report_progress(context: ServerRequestContext[Any], call: abandoned_calls.Call) -> None:
    """Send the seconds so far, and what the call is doing, while it takes long."""
    started = time.monotonic()
    while True:
        await anyio.sleep(PROGRESS_SECONDS)
        seconds = round(time.monotonic() - started, 3)
        doing = f": {call.doing}" if call.doing else ""
        await context.session.report_progress(seconds, None, f"{seconds:.0f} s{doing}")
