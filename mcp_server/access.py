"""Who may call the HTTP server, from where, how often, and in which workspace.

Source: RFC 6750 (bearer tokens and `WWW-Authenticate`), and the transport section of
https://modelcontextprotocol.io/specification (Origin and Host).
"""

import hashlib
import hmac
import ipaddress
import logging
import math
import stat
import time
import tomllib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ft_tools.errors import BadInput, NotFound
from mcp_server.calls import GRANT, Grant

TOKEN_VARIABLE = "FINE_TUNING_LLM_HTTP_TOKEN"
PATH = "/mcp"
BODY_SECONDS = 20.0
"""How long a request's body may take to arrive."""
CALLS_PER_SECOND, CALLS_AT_ONCE = 100.0, 1000.0
"""Requests of one client: as a steady rate, and in a burst."""
GUESSES_PER_SECOND, GUESSES_AT_ONCE = 1.0, 20.0
"""Wrong tokens from one address."""
MAX_ADDRESSES = 10_000
MIN_TOKEN_CHARS = 16
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Client:
    """Somebody who may connect."""

    name: str
    token_sha256: bytes
    folders: tuple[Path, ...] = ()
    """The workspace; empty: the one of the server."""


class _ClientRow(BaseModel):
    """A table of the tokens file."""

    model_config = ConfigDict(extra="forbid")

    token: str = Field(min_length=MIN_TOKEN_CHARS)
    workspace: str | list[str]


def read_clients(file: Path | None, token: str) -> list[Client]:
    """Return who may connect: the clients of a file, and the one of the environment.

    The file has a table for each client: `[alice]`, `token = "..."`, `workspace = "/srv/alice"`.

    Raises:
        NotFound: There is no such file, or a workspace is not there.
        BadInput: The file is not such a file, or others may read it.
    """
    clients = [Client("token", _digest(token.encode()))] if token else []
    if file is None:
        return clients
    try:
        mode = file.stat().st_mode
        rows = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise NotFound(f"tokens file {str(file)!r} is not there") from error
    except (OSError, ValueError) as error:
        raise BadInput(f"tokens file {str(file)!r} cannot be read as TOML") from error
    if stat.S_IMODE(mode) & 0o077:
        raise BadInput(f"tokens file {str(file)!r} may be read by others; run: chmod 600 {file}")
    clients += [_client(file, name, row) for name, row in rows.items()]
    if not clients:
        raise BadInput(f"tokens file {str(file)!r} has no table; write one for each client")
    if len({client.token_sha256 for client in clients}) < len(clients):
        raise BadInput(f"tokens file {str(file)!r}: two clients have the same token")
    return clients


def _client(file: Path, name: str, row: Any) -> Client:
    try:
        read = _ClientRow.model_validate(row)
    except ValidationError as error:
        wrong = error.errors()[0]
        # The value is not repeated: it may be a token.
        where = ".".join(map(str, (name, *wrong["loc"])))
        raise BadInput(f"tokens file {str(file)!r}: {where}: {wrong['msg']}") from error
    named = [read.workspace] if isinstance(read.workspace, str) else read.workspace
    folders = tuple(Path(folder).expanduser() for folder in named)
    for folder in folders:
        if not folder.is_absolute() or not folder.is_dir():
            raise NotFound(f"tokens file: workspace {str(folder)!r} of {name} is not a folder")
    return Client(name, _digest(read.token.encode()), tuple(f.resolve() for f in folders))


class Access:
    """Check host, origin, path, token and rate of each request, then pass it on with its grant."""

    def __init__(
        self,
        app: ASGIApp,
        clients: Sequence[Client],
        *,
        hosts: Sequence[str] = (),
        origins: Sequence[str] = (),
    ) -> None:
        self._app = app
        self._clients = clients
        self._hosts = {"localhost", *(host.lower() for host in hosts)}
        self._origins = {origin.lower().rstrip("/") for origin in origins}
        self._rates = _Buckets(CALLS_PER_SECOND, CALLS_AT_ONCE)
        self._guesses = _Buckets(GUESSES_PER_SECOND, GUESSES_AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request that may not pass; hand on the others."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {
            key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]
        }
        refusal = self._refusal(scope, headers)
        if refusal is None:
            client = self._client(headers.get("authorization", ""))
            refusal = self._refused_client(scope, headers, client)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        grant = Grant(client.folders if client else ())
        scope = dict(scope) | {GRANT: grant}
        if client is not None:
            # The SDK lets a session be used only by the credential that opened it.
            token = AccessToken(token=client.token_sha256.hex(), client_id=client.name, scopes=[])
            scope["user"] = AuthenticatedUser(token)
        await _pass_on(self._app, scope, receive, send, grant)

    def _refusal(self, scope: Scope, headers: dict[str, str]) -> JSONResponse | None:
        """Refuse what no token makes right: a foreign host or origin, or another path."""
        host = headers.get("host", "")
        if not self._knows_host(host):
            return _answer(421, "unknown_host", "this server is not reached under that Host")
        if not self._knows_origin(headers.get("origin", ""), host):
            return _answer(403, "unknown_origin", "pages of this Origin may not call the server")
        if scope["path"].rstrip("/") != PATH:
            return _answer(404, "not_found", f"the MCP endpoint is {PATH}; there is no OAuth here")
        return None

    def _refused_client(
        self, scope: Scope, headers: dict[str, str], client: Client | None
    ) -> JSONResponse | None:
        """Refuse a wrong token, and who calls too often."""
        address = (scope.get("client") or ("", 0))[0]
        if self._clients and client is None:
            if not headers.get("authorization"):
                return _unauthorized("", "send the header Authorization: Bearer TOKEN")
            if not self._guesses.take(address):
                return _too_many()
            return _unauthorized("invalid_token", "the bearer token is wrong")
        return None if self._rates.take(client.name if client else address) else _too_many()

    def _client(self, authorization: str) -> Client | None:
        scheme, _, token = authorization.partition(" ")
        given = _digest(token.strip().encode("utf-8", "surrogateescape"))
        found = None
        for client in self._clients:
            # Each is compared, so that the time says nothing.
            if hmac.compare_digest(given, client.token_sha256) and scheme.lower() == "bearer":
                found = client
        return found

    def _knows_host(self, host: str) -> bool:
        """Tell whether a Host header is ours: an address, or a name we were given.

        A page that rebinds its name to this machine sends its name, never an address.
        """
        name = _name_of(f"//{host}")
        return _is_address(name) or name in self._hosts

    def _knows_origin(self, origin: str, host: str) -> bool:
        if not origin or origin.lower() in self._origins:
            return True
        scheme, _, address = origin.lower().partition("://")
        own = scheme in ("http", "https") and address == host.lower()
        return own or is_loopback(_name_of(origin))


class _Buckets:
    """A token bucket for each of many callers."""

    def __init__(self, per_second: float, at_once: float) -> None:
        self._per_second, self._at_once = per_second, at_once
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str) -> bool:
        """Take one; False if the caller has none left."""
        now = time.monotonic()
        left, then = self._left.pop(name, (self._at_once, now))
        left = min(self._at_once, left + (now - then) * self._per_second)
        taken = left >= 1
        self._left[name] = (left - taken, now)
        if len(self._left) > MAX_ADDRESSES:
            self._left.popitem(last=False)
        return taken


async def _pass_on(app: ASGIApp, scope: Scope, receive: Receive, send: Send, grant: Grant) -> None:
    """Run the app; limit how long a body takes, and notice when the client goes."""
    deadline = time.monotonic() + BODY_SECONDS
    complete = late = started = False

    async def receiving() -> Message:
        nonlocal complete, late
        message: Message = {"type": "http.disconnect"}
        seconds = math.inf if complete else max(0.0, deadline - time.monotonic())
        with anyio.move_on_after(seconds) as limit:
            message = await receive()
        late = late or limit.cancelled_caught
        complete = complete or not message.get("more_body", False)
        if message["type"] == "http.disconnect":
            grant.gone.set()
        return message

    async def sending(message: Message) -> None:
        nonlocal started
        if late and not started:
            # To the app the client is gone; what it says of that is not what happened.
            return
        started = True
        await send(message)

    try:
        await app(scope, receiving, sending)
    except ClientDisconnect:
        logger.debug("a client left before its request was complete")
    if late and not started:
        took = f"the body took more than {BODY_SECONDS:.0f} s"
        # Without it, the connection would be kept for the rest of the body.
        answer = _answer(408, "timeout", took, connection="close")
        await answer(scope, receive, send)


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine's own, and reached from no other.

    >>> [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "a.example")]
    [True, True, True, False, False]
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _name_of(address: str) -> str:
    """Return the host name of an address, without port and brackets; empty if it is none."""
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


def _answer(status: int, code: str, message: str, **headers: str) -> JSONResponse:
    body = {"error": code, "error_description": message}
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    return JSONResponse(body, status_code=status, headers=named)


def _unauthorized(error: str, message: str) -> JSONResponse:
    """Return a 401 as RFC 6750 has it: without a token given, no error code is named."""
    challenge = 'Bearer realm="fine-tuning-llm"' + (f', error="{error}"' if error else "")
    return _answer(401, error or "token_required", message, www_authenticate=challenge)


def _too_many() -> JSONResponse:
    return _answer(429, "too_many_requests", "slow down", retry_after="1")
