"""Serve over streamable HTTP: `python -m mcp_server.http`; without a token, this machine only."""

import argparse
import asyncio
import errno
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import get_args

if __name__ == "__main__":
    # Until the server listens to signals, Ctrl-C ends it without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import anyio
import uvicorn
from anyio.abc import TaskStatus
from mcp.server.transport_security import TransportSecuritySettings
from pydantic import BaseModel
from starlette.requests import ClientDisconnect
from uvicorn.protocols.http.h11_impl import H11Protocol

from ft_tools import __version__, workspace
from ft_tools.errors import AddressInUse, BadInput, FineTuningError, brief
from ft_tools.views.terminal import Format, chosen, show, show_error
from mcp_server import calls
from mcp_server.access import TOKEN_VARIABLE, Access, Client, is_loopback, read_clients
from mcp_server.server import greeting, server

KEEP_ALIVE_SECONDS = 75
"""Longer than the idle time of the usual client pools (5 to 60 s), so that the client closes
first: a request sent on a connection that the server just closed is lost."""
HEADERS_SECONDS = 20.0
"""From a request's first byte, or a connection's beginning, to the end of its headers."""
MAX_BODY_BYTES = 4 * 2**20
MAX_SESSIONS = 1000
SESSION_IDLE_SECONDS = 600.0
MAX_CONNECTIONS = 1000
BACKLOG = 2048
INTERRUPTED = 130


def serve_http(
    host: str,
    port: int,
    *,
    clients: list[Client] | None = None,
    hosts: tuple[str, ...] = (),
    origins: tuple[str, ...] = (),
    format: Format = "auto",
) -> None:
    """Serve over streamable HTTP at /mcp until a signal ends the process.

    The exit code is 0 after SIGTERM and 130 after SIGINT.

    Args:
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        clients: Who may connect, with which workspace; empty: everybody on this machine.
        hosts: Further names under which this server is reached.
        origins: Web origins whose pages may call it.
        format: How stdout says that it serves: to a person not at all, else as JSON.

    Raises:
        BadInput: The host is not this machine's loopback and no token protects the server.
        AddressInUse: Another process listens there.
    """
    clients = clients or []
    if not is_loopback(host) and not clients:
        raise BadInput(
            f"host {host!r} is reachable from other machines; set {TOKEN_VARIABLE} to a secret "
            "that clients send as a bearer token, or name a file with --tokens, or keep 127.0.0.1 "
            "and use an SSH tunnel"
        )
    with _listening(host, port) as listener:
        app = server.streamable_http_app(
            host=host,
            max_request_body_size=MAX_BODY_BYTES,
            session_idle_timeout=SESSION_IDLE_SECONDS,
            max_sessions=MAX_SESSIONS,
            # `Access` checks Host and Origin, for every path and every address.
            transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
        )
        config = uvicorn.Config(
            Access(app, clients, hosts=(host, *hosts), origins=origins),
            log_config=None,
            access_log=False,
            http=Punctual,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=1,
            limit_concurrency=MAX_CONNECTIONS,
            backlog=BACKLOG,
            server_header=False,
        )
        shown = f"[{host}]" if ":" in host else host
        address = f"http://{shown}:{listener.getsockname()[1]}/mcp"
        serving = Serving(address=address, needs_token=bool(clients), version=__version__)
        anyio.run(_serve, _Server(config, serving, format), listener)


class Punctual(H11Protocol):
    """Closes a connection whose headers take too long: it would keep its place for ever."""

    _limit: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._keep_time()

    def data_received(self, data: bytes) -> None:
        """Take what came; the headers of a request are complete once it has a cycle."""
        super().data_received(data)
        self._keep_time()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _keep_time(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()
        elif self._limit is None:
            self._limit = self.loop.call_later(HEADERS_SECONDS, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
        self._limit = None


class Serving(BaseModel):
    """What a program that started the server reads on stdout once it serves."""

    address: str
    needs_token: bool
    version: str


class _Server(uvicorn.Server):
    """uvicorn, which says when it serves, and leaves signals to us: it would raise them again."""

    def __init__(self, config: uvicorn.Config, serving: Serving, format: Format) -> None:
        super().__init__(config)
        self._serving = serving
        self._format = format

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say so."""
        await super().startup(sockets)
        token = "token required" if self._serving.needs_token else "no token"
        sys.stderr.write(f"{greeting(f'at {self._serving.address} ({token})')}\n")
        sys.stderr.flush()
        if chosen(self._format) != "human":
            # Who reads stdout no more wants the server all the same.
            with suppress(OSError):
                show(self._serving, self._format)
                sys.stdout.flush()


async def _serve(http: uvicorn.Server, listener: socket.socket) -> None:
    code = 0

    async def end_on_signal(*, task_status: TaskStatus[None]) -> None:
        nonlocal code
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as received:
            task_status.started()
            async for number in received:
                code = INTERRUPTED if number == signal.SIGINT else 0
                calls.abandon_all()
                http.should_exit = True

    async with anyio.create_task_group() as beside:
        await beside.start(end_on_signal)
        for handler in logging.getLogger().handlers:
            handler.addFilter(lambda record: not (http.should_exit or _is_a_client_gone(record)))
        await http.serve(sockets=[listener])
        calls.end(code)


def _is_a_client_gone(record: logging.LogRecord) -> bool:
    """Tell whether a log record is about a client that left: a traceback of it helps nobody."""
    raised = record.exc_info[1] if record.exc_info else None
    return isinstance(raised, ClientDisconnect)


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """Give a listening socket.

    Raises:
        AddressInUse: Another process listens there.
        BadInput: There is no such address on this machine, or the port needs privileges.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise AddressInUse(
                f"port {port} of {host} is in use by another process; name another one, or use "
                "--port 0 to take a free one"
            ) from error
        raise BadInput(f"cannot listen on {host}:{port} ({error.strerror or error})") from error
    with listener:
        yield listener


def _port(text: str) -> int:
    number = int(text) if text.isascii() and text.isdigit() else -1
    if not 0 <= number <= 65535:
        raise BadInput(f"--port {brief(repr(text))} is no port; allowed: 0 (any free) to 65535")
    return number


def main() -> None:
    """Run the server named on the command line."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    parser = argparse.ArgumentParser(prog="fine-tuning-llm serve --http", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", default="8765", help="port; 0 takes a free one")
    parser.add_argument("--tokens", type=Path, help="TOML file: a table for each client")
    parser.add_argument("--allow-host", action="append", default=[], help="further host name")
    parser.add_argument("--allow-origin", action="append", default=[], help="web origin")
    parser.add_argument("--format", choices=get_args(Format), default="auto")
    given = parser.parse_args()
    try:
        workspace.roots()
        serve_http(
            given.host,
            _port(given.port),
            clients=read_clients(given.tokens, os.environ.get(TOKEN_VARIABLE, "")),
            hosts=tuple(given.allow_host),
            origins=tuple(given.allow_origin),
            format=given.format,
        )
    except FineTuningError as error:
        sys.exit(show_error(error, given.format))


if __name__ == "__main__":
    main()
