"""Serve over streamable HTTP: `python -m mcp_server.http`; without a token, this machine only."""

import argparse
import hmac
import ipaddress
import logging
import os
import sys

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from ft_tools.errors import BadInput
from mcp_server.server import server

TOKEN_VARIABLE = "FINE_TUNING_LLM_HTTP_TOKEN"


def serve_http(host: str = "127.0.0.1", port: int = 8765) -> None:
    """Serve over streamable HTTP at /mcp.

    Raises:
        BadInput: The host is not this machine's loopback and no token protects the server.
    """
    token = os.environ.get(TOKEN_VARIABLE, "")
    if not _is_loopback(host) and not token:
        raise BadInput(
            f"host {host!r} is reachable from other machines; set {TOKEN_VARIABLE} to a secret "
            "that clients send as a bearer token, or keep 127.0.0.1 and use an SSH tunnel"
        )
    app: ASGIApp = server.streamable_http_app(host=host)
    if token:
        app = BearerToken(app, token)
    uvicorn.run(app, host=host, port=port, log_level="warning")


class BearerToken:
    """Let requests through that carry the token."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self.app = app
        self.expected = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 401 to a request without the token."""
        if scope["type"] == "http":
            given = dict(scope["headers"]).get(b"authorization", b"")
            if not hmac.compare_digest(given, self.expected):
                await send({"type": "http.response.start", "status": 401, "headers": []})
                await send({"type": "http.response.body", "body": b"bearer token required"})
                return
        await self.app(scope, receive, send)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def main() -> None:
    """Run the server named on the command line."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    parser = argparse.ArgumentParser(prog="python -m mcp_server.http", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=8765, help="port to listen on")
    arguments = parser.parse_args()
    try:
        serve_http(arguments.host, arguments.port)
    except BadInput as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
