"""Serve over streamable HTTP (`fine-tuning-llm serve --http`); without a token, loopback only."""

import errno
import hmac
import ipaddress
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

if __name__ == "__main__":
    # Until the server listens to signals, Ctrl-C ends it without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import anyio
import uvicorn
from mcp.server.transport_security import TransportSecuritySettings
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from ft_tools import workspace
from ft_tools.errors import AddressInUse, BadInput, FineTuningError
from ft_tools.views.terminal import show_error
from mcp_server import calls
from mcp_server.server import greeting, server

TOKEN_VARIABLE = "FINE_TUNING_LLM_HTTP_TOKEN"
MIN_TOKEN_CHARS = 16
KEEP_ALIVE_SECONDS = 75
"""Longer than the idle time of the usual client pools (5 to 60 s), so that the client closes
first: a request sent on a connection that the server just closed is lost."""
MAX_BODY_BYTES = 4 * 2**20
SESSION_IDLE_SECONDS = 600.0
MAX_CONNECTIONS = 1000
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


def serve_http(host: str, port: int, token: str) -> None:
    """Serve over streamable HTTP at /mcp until a signal ends the process.

    The exit code is 0 after SIGTERM and 130 after SIGINT.

    Args:
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        token: Secret that clients send as a bearer token; empty: loopback addresses only.

    Raises:
        BadInput: The host is reachable from other machines and there is no token, or it is short.
        AddressInUse: Another process listens there.
    """
    if not token and not is_loopback(host):
        raise BadInput(
            f"host {host!r} is reachable from other machines; set {TOKEN_VARIABLE} to a secret "
            "that clients send as a bearer token, or keep 127.0.0.1 and use an SSH tunnel"
        )
    if token and len(token) < MIN_TOKEN_CHARS:
        raise BadInput(
            f"{TOKEN_VARIABLE} has {len(token)} characters; use at least {MIN_TOKEN_CHARS}"
        )
    shown = f"[{host}]" if ":" in host else host
    open_to_all_hosts = TransportSecuritySettings(enable_dns_rebinding_protection=False)
    with _listening(host, port) as listener:
        app: ASGIApp = server.streamable_http_app(
            host=host,
            max_request_body_size=MAX_BODY_BYTES,
            session_idle_timeout=SESSION_IDLE_SECONDS,
            transport_security=open_to_all_hosts if token else _only_loopback(shown),
        )
        config = uvicorn.Config(
            BearerToken(app, token) if token else app,
            log_config=None,
            access_log=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=1,
            limit_concurrency=MAX_CONNECTIONS,
            server_header=False,
        )
        address = f"http://{shown}:{listener.getsockname()[1]}/mcp"
        needed = "token required" if token else "no token"
        sys.stderr.write(f"{greeting(f'at {address} ({needed})')}\n")
        sys.stderr.flush()
        anyio.run(_serve, _Server(config), listener)


def _only_loopback(name: str) -> TransportSecuritySettings:
    """Let no web page reach the server under a name of its own (DNS rebinding)."""
    names = [*LOOPBACK, name]
    # At the default port, clients name none.
    hosts = [*names, *(f"{one}:*" for one in names)]
    return TransportSecuritySettings(
        allowed_hosts=hosts, allowed_origins=[f"http://{one}" for one in hosts]
    )


class BearerToken:
    """Pass on the requests that have the token.

    Source: RFC 6750 (bearer tokens and `WWW-Authenticate`).
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 401 to a request without the token."""
        if scope["type"] == "http" and not self._is_allowed(scope):
            answer = JSONResponse(
                {"error": "invalid_token", "error_description": "send Authorization: Bearer TOKEN"},
                status_code=401,
                headers={"www-authenticate": 'Bearer realm="fine-tuning-llm"'},
            )
            await answer(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _is_allowed(self, scope: Scope) -> bool:
        given = dict(scope["headers"]).get(b"authorization", b"")
        scheme, _, token = given.partition(b" ")
        return scheme.lower() == b"bearer" and hmac.compare_digest(token.strip(), self._token)


class _Server(uvicorn.Server):
    """uvicorn that leaves signals to us: it would raise them again."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _serve(http: uvicorn.Server, listener: socket.socket) -> None:
    code = 0

    async def end(number: int) -> None:
        nonlocal code
        code = number
        calls.abandon_all()
        http.should_exit = True

    async with anyio.create_task_group() as beside:
        await beside.start(calls.on_signal, end)
        for handler in logging.getLogger().handlers:
            handler.addFilter(lambda record: not (http.should_exit or _client_has_left(record)))
        await http.serve(sockets=[listener])
        calls.end(code)


def _client_has_left(record: logging.LogRecord) -> bool:
    """Return whether a log record is about a client that left: its traceback helps nobody."""
    raised = record.exc_info[1] if record.exc_info else None
    return isinstance(raised, ClientDisconnect)


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine's own and cannot be reached from another.

    >>> [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "a.example")]
    [True, True, True, False, False]
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """Open a listening socket.

    Raises:
        AddressInUse: Another process listens there.
        BadInput: There is no such address on this machine, or the port needs privileges.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        # From here on clients may connect; uvicorn answers them once it has started.
        listener.listen()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise AddressInUse(
                f"port {port} of {host} is in use by another process; name another one, or use "
                "--port 0 to take a free one"
            ) from error
        raise BadInput(f"cannot listen on {host}:{port} ({error.strerror or error})") from error
    with listener:
        yield listener


def main() -> None:
    """Serve at the host and port named on the command line."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    try:
        workspace.roots()
        # No header can end with a blank, such as the line end of a file.
        token = os.environ.get(TOKEN_VARIABLE, "").strip()
        serve_http(sys.argv[1], int(sys.argv[2]), token)
    except FineTuningError as error:
        sys.exit(show_error(error, "auto"))


if __name__ == "__main__":
    main()
