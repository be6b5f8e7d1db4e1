"""Start a registered server as a client does, and ask it for its tools."""

import os
import tempfile

import anyio
from mcp import Client, MCPError
from mcp.client.stdio import StdioServerParameters, stdio_client

from ft_tools.errors import FineTuningError

SECONDS = 60.0


def list_tools(argv: list[str], environment: dict[str, str]) -> tuple[str, list[str]]:
    """Return the server's version and its tools.

    The process gets what clients pass on (HOME, PATH and the like) and the entry's own variables;
    it starts in an empty folder.

    Raises:
        FineTuningError: It does not start or does not answer.
    """
    try:
        return anyio.run(_list_tools, argv, environment)
    except* TimeoutError:
        problem = f"the server did not answer within {SECONDS:.0f} s"
    except* (MCPError, anyio.ClosedResourceError, anyio.BrokenResourceError):
        problem = "the server ended, or wrote something else on stdout, instead of answering"
    except* OSError as errors:
        problem = f"{argv[0]} does not start ({errors.exceptions[0]})"
    raise FineTuningError(problem)


async def _list_tools(argv: list[str], environment: dict[str, str]) -> tuple[str, list[str]]:
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as quiet:
        server = StdioServerParameters(command=argv[0], args=argv[1:], env=environment, cwd=folder)
        with anyio.fail_after(SECONDS):
            async with Client(stdio_client(server, errlog=quiet), mode="legacy") as client:
                tools = (await client.list_tools()).tools
                info = client.server_info
                return info.version if info else "", [tool.name for tool in tools]
