"""Register this server in a coding agent, and give it the skill: `connect`, and `disconnect`."""

import json
import os
import shlex
import sys
import tempfile
from pathlib import Path
from typing import Any, Literal

import anyio
import mcp
from mcp.client.stdio import StdioServerParameters, stdio_client
from pydantic import BaseModel, Field

from ft_tools import __version__, installation, workspace
from ft_tools.errors import BadInput, FineTuningError, Missing
from ft_tools.views.terminal import Format, chosen, show, show_error
from ft_tools.workspace import CACHE_VARIABLE, VARIABLE
from mcp_server.connect import registration
from mcp_server.connect.clients import CLIENTS, NAME, Client, Scope, Server
from mcp_server.skill_files import skill_files

PASSED = (
    CACHE_VARIABLE,
    "HF_HOME",
    "HF_ENDPOINT",
    "HF_HUB_OFFLINE",
    "CUDA_VISIBLE_DEVICES",
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
)
"""Variables that most clients don't pass on; written down if they are set now."""
FORWARDED = ("HF_TOKEN",)
"""Secrets: only their names are written, where a client can refer to a variable."""
USUAL = Client(title="", user_file=("", "", ""), programs=(), left="")
"""What most clients that are not in the table take."""
ANSWER_SECONDS = 60.0


class Wanted(BaseModel):
    """What the command line was asked for: the one argument of this program, as JSON."""

    action: Literal["connect", "disconnect", "status"]
    client: str | None = None
    scope: Scope = "user"
    workspace: str | None = None
    http: str | None = None
    skill: bool = True
    print: bool = False
    dry_run: bool = False
    format: Format = "auto"


class Connection(BaseModel):
    """What was changed for a client."""

    client: str
    scope: Scope
    state: Literal["connected", "disconnected", "unchanged", "dry_run"]
    path: str = Field(description="The client's file.")
    added: dict[str, Any] | None = Field(None, description="The entry.")
    skill: str = Field("", description="Folder of the skill, if that changes too.")
    notes: list[str]


def main() -> None:
    """Run one command and exit with its code."""
    given = Wanted.model_validate_json(sys.argv[1])
    try:
        if given.action == "status":
            _write(json.dumps(_status()))
        elif given.print:
            client = _client_of(given) if given.client else USUAL
            _write(registration.snippet(client, client.entry(_server(given))))
        else:
            _report(change(given), given.format)
    except FineTuningError as error:
        sys.exit(show_error(error, given.format))


def change(given: Wanted) -> Connection:
    """Give a client an entry of this server and the skill, or take both away.

    The server is tried and the skill placed before the entry is written: what may fail is first.

    Raises:
        FineTuningError: The entry there is not ours, or something cannot be written.
    """
    adds = given.action == "connect"
    client, scope = _client_of(given), given.scope
    server = _server(given) if adds else None
    wanted = client.entry(server) if server else None
    path = client.file(scope)
    if wanted and scope == "user" and not client.is_installed():
        raise Missing(
            f"{client.title} was not found on this machine. Install it first, or add this to "
            f"{path}:\n{registration.snippet(client, wanted)}"
        )
    old = registration.entry_of(client, scope)
    if old is not None and not registration.is_ours(old):
        raise BadInput(
            f"{path} has an entry {NAME!r} that does not start this program; remove or rename it"
        )
    changes = old != wanted
    notes: list[str] = []
    folder = _skill_to_change(client, scope, notes, adds=adds) if not adds or given.skill else None
    result = Connection.model_construct(
        client=str(given.client),
        scope=scope,
        state="unchanged",
        path=str(path),
        added=wanted if changes else None,
        skill=str(folder or ""),
        notes=notes,
    )
    if not changes and folder is None:
        has = "has this entry already" if adds else f"has no entry {NAME!r}"
        notes.append(f"{client.title} {has}; nothing to do ({path})")
        return result
    if folder is not None:
        notes.append(f"{'+' if adds else '-'} {folder}: the skill, {len(skill_files())} files")
    if given.dry_run:
        return result.model_copy(update={"state": "dry_run"})
    if changes and server and not server.url:
        argv = [server.command, *server.arguments]
        version, tools = list_tools(argv, dict(server.environment))
        notes.append(f"the command works: version {version}, {len(tools)} tools")
    if folder is not None and adds:
        registration.place_skill(folder)
    if changes:
        registration.write_entry(client, scope, old, wanted)
    if folder is not None and not adds:
        registration.remove_skill(folder)
    left = client.left if adds else "Open sessions keep it until they end."
    state = "connected" if adds else "disconnected"
    notes.append(f"{client.title} is {state}. {left}")
    return result.model_copy(update={"state": state})


def list_tools(argv: list[str], environment: dict[str, str]) -> tuple[str, list[str]]:
    """Start a registered server as a client does; return its version and its tools.

    The process gets what clients pass on (HOME, PATH and the like) and the entry's own variables;
    it starts in an empty folder.

    Raises:
        FineTuningError: It does not start or does not answer.
    """

    async def ask() -> tuple[str, list[str]]:
        with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as quiet:
            server = StdioServerParameters(
                command=argv[0], args=argv[1:], env=environment, cwd=folder
            )
            with anyio.fail_after(ANSWER_SECONDS):
                async with mcp.Client(stdio_client(server, errlog=quiet), mode="legacy") as client:
                    tools = (await client.list_tools()).tools
                    info = client.server_info
                    return info.version if info else "", [tool.name for tool in tools]

    try:
        return anyio.run(ask)
    except* TimeoutError:
        problem = f"the server did not answer within {ANSWER_SECONDS:.0f} s"
    except* (mcp.MCPError, anyio.ClosedResourceError, anyio.BrokenResourceError):
        problem = "the server ended, or wrote something else on stdout, instead of answering"
    except* OSError as errors:
        problem = f"{argv[0]} does not start ({errors.exceptions[0]})"
    raise FineTuningError(f"{problem}; run {shlex.join(argv)} to see why")


def _report(result: Connection, format: Format) -> None:
    """Print the result: for a person the entry and the notes."""
    if chosen(format) != "human":
        show(result, format)
        return
    if result.added is not None:
        _write(f"{result.path}:")
        lines = registration.snippet(CLIENTS[result.client], result.added).splitlines()
        _write("\n".join(f"+ {line}" for line in lines))
    for note in result.notes:
        _write(note)


def _skill_to_change(client: Client, scope: Scope, notes: list[str], *, adds: bool) -> Path | None:
    """Return where the skill has to be written or removed; None if nowhere.

    It is removed if `connect` put it there and no other client uses it.
    """
    folder = client.skill(scope)
    found = registration.skill_state(folder)
    if adds:
        if found == "not_ours":
            notes.append(f"{folder} was written by somebody else and stays as it is")
        return folder if found in {"absent", "older"} else None
    for other in CLIENTS.values():
        if other is not client and other.skill(scope) == folder and _is_connected(other, scope):
            notes.append(f"{folder} stays for {other.title}")
            return None
    return folder if found in {"current", "older"} else None


def _is_connected(client: Client, scope: Scope) -> bool:
    try:
        found = registration.entry_of(client, scope)
    except FineTuningError:
        return True
    return found is not None and registration.is_ours(found)


def _status() -> list[dict[str, Any]]:
    """Describe each client that is installed here, and its entry, for `doctor`."""
    rows = []
    for name, client in CLIENTS.items():
        scopes: list[Scope] = ["user", "project"] if client.project_file else ["user"]
        rows += [row for scope in scopes if (row := _row(name, client, scope))]
    return rows


def _row(name: str, client: Client, scope: Scope) -> dict[str, Any] | None:
    """Describe a client's entry, without the values of its environment."""
    row: dict[str, Any] = {"client": name, "title": client.title, "scope": scope}
    row["path"] = str(client.file(scope))
    try:
        found = registration.entry_of(client, scope)
        if found is None:
            return row if scope == "user" and client.is_installed() else None
        row |= {"registered": True, "ours": registration.is_ours(found)}
        row["skill"] = registration.skill_state(client.skill(scope))
        if not (command := found.get("command")):
            return row | {"url": found.get("url")}
        row["command"] = command
        argv = [str(word) for word in (command, *found.get("args", []))]
        environment = {key: str(value) for key, value in found.get("env", {}).items()}
        row["version"], tools = list_tools(argv, environment)
        return row | {"num_tools": len(tools), "current": row["version"] == __version__}
    except FineTuningError as error:
        return row | {"error": str(error)}


def _client_of(given: Wanted) -> Client:
    client = CLIENTS.get(given.client or "")
    if client is None:
        problem = f"unknown client {given.client!r}" if given.client else "name a client"
        raise BadInput(
            f"{problem}; known: {', '.join(CLIENTS)}. For any other, "
            f"`{NAME} connect --print` prints an entry"
        )
    if given.scope == "project" and not client.project_file:
        raise BadInput(f"{client.title} has no configuration per project; leave --scope out")
    return client


def _server(given: Wanted) -> Server:
    """Return what is registered: this installation, with its workspace.

    Raises:
        BadInput: The workspace is no folder, or all of somebody's files.
        Missing: This installation is temporary.
    """
    if given.http:
        if not given.http.startswith(("http://", "https://")):
            raise BadInput(f"--http {given.http!r}: expected an address such as http://HOST/mcp")
        return Server(url=given.http)
    here = installation.this()
    if here.tool == "uvx":
        raise Missing(f"this installation is temporary; install it first: {here.command()}")
    folders = workspace.named(given.workspace or os.environ.get(VARIABLE, ""))
    for folder in folders:
        if not folder.is_dir():
            create = f"create it (mkdir -p {shlex.quote(str(folder))})"
            first = "rename that file" if folder.exists() else create
            raise BadInput(
                f"workspace {str(folder)!r} is not a folder; {first}, or name the folder of your "
                "data: --workspace DIR"
            )
        if folder == Path(folder.anchor) or folder == Path.home().resolve():
            raise BadInput(
                f"workspace {str(folder)!r} would let an agent read and write everything there; "
                "name the folder of your data: --workspace DIR"
            )
    environment = {VARIABLE: os.pathsep.join(map(str, folders))}
    environment |= {name: os.environ[name] for name in PASSED if os.environ.get(name)}
    script = Path(sys.executable).with_name(NAME)
    command = str(script)
    arguments: tuple[str, ...] = ("serve",)
    if not script.is_file():
        # Run out of a folder without an installation.
        environment["PYTHONPATH"] = str(Path(__file__).parents[2])
        command, arguments = sys.executable, ("-P", "-m", "mcp_server")
    forwarded = tuple(name for name in FORWARDED if os.environ.get(name))
    return Server(command, arguments, tuple(environment.items()), forwarded)


def _write(text: str) -> None:
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    main()
