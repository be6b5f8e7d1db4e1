"""Register this server in a coding agent, and give it the skill: `connect`, and `disconnect`."""

import argparse
import json
import os
import shlex
import sys
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, Field

from ft_tools import __version__, installation, workspace
from ft_tools.errors import BadInput, FineTuningError, Missing
from ft_tools.views.terminal import Format, chosen, show, show_error
from ft_tools.workspace import CACHE_VARIABLE, VARIABLE
from mcp_server.connect import client_entry, probe, skill_folder
from mcp_server.connect.clients import CLIENTS, NAME, Client, Scope, Server, entry
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


class Connection(BaseModel):
    """What was changed for a client."""

    client: str
    scope: Scope
    state: Literal["connected", "disconnected", "unchanged", "dry_run"]
    path: str = Field(description="The client's file.")
    removed: dict[str, Any] | None = Field(None, description="The entry; its values are hidden.")
    added: dict[str, Any] | None = Field(None, description="The entry.")
    skill: str = Field("", description="Folder of the skill, if that changes too.")
    notes: list[str]


def main() -> None:
    """Run one command and exit with its code."""
    given = _parser().parse_args()
    try:
        if given.action == "status":
            _write(json.dumps(_status()))
        elif given.action == "connect" and given.print:
            _print_entry(given)
        else:
            run = connect if given.action == "connect" else disconnect
            _report(run(given), given.format)
    except FineTuningError as error:
        sys.exit(show_error(error, given.format))


def connect(given: argparse.Namespace) -> Connection:
    """Give a client an entry of this server, and the skill.

    The server is tried and the skill placed before the entry is written: what may fail is first.

    Raises:
        FineTuningError: It cannot be registered there; the message says why.
    """
    client, scope = _client_and_scope(given)
    server = _server(given)
    wanted = client.entry(server)
    if scope == "user" and not client.is_installed():
        raise Missing(
            f"{client.title} was not found on this machine. Install it first, or add this to "
            f"{client.file(scope)}:\n{client_entry.snippet(client, wanted)}"
        )
    change = client_entry.plan(client, scope, wanted)
    notes: list[str] = []
    folder = _skill_to_place(client, scope, notes) if given.skill else None
    result = _result(given, change, folder, notes)
    if change.is_empty and folder is None:
        notes.append(f"{client.title} has this entry already; nothing to do ({change.path})")
        return result
    if folder is not None:
        notes.append(f"+ {folder}: the skill, {len(skill_files())} files")
    if given.dry_run:
        return result.model_copy(update={"state": "dry_run"})
    if not change.is_empty and not server.url:
        argv = [server.command, *server.arguments]
        version, tools = probe.list_tools(argv, dict(server.environment))
        notes.append(f"the command works: version {version}, {len(tools)} tools")
    if folder is not None:
        _place(folder)
    if not change.is_empty:
        client_entry.apply(client, scope, change)
    notes.append(f"{client.title} is connected. {client.left}")
    return result.model_copy(update={"state": "connected"})


def disconnect(given: argparse.Namespace) -> Connection:
    """Remove the entry of this server, and the skill, from a client.

    Raises:
        FineTuningError: The entry there is not ours, or the file cannot be edited.
    """
    client, scope = _client_and_scope(given)
    change = client_entry.plan(client, scope, None)
    notes: list[str] = []
    folder = _skill_to_remove(client, scope, notes)
    result = _result(given, change, folder, notes)
    if change.is_empty and folder is None:
        notes.append(f"{client.title} has no entry {NAME!r}; nothing to do ({change.path})")
        return result
    if folder is not None:
        notes.append(f"- {folder}: the skill")
    if given.dry_run:
        return result.model_copy(update={"state": "dry_run"})
    if not change.is_empty:
        client_entry.apply(client, scope, change)
    if folder is not None:
        skill_folder.remove(folder)
    notes.append(f"{client.title} is disconnected; open sessions keep it until they end")
    return result.model_copy(update={"state": "disconnected"})


def _result(
    given: argparse.Namespace, change: client_entry.Change, folder: Path | None, notes: list[str]
) -> Connection:
    return Connection.model_construct(
        client=given.client,
        scope=given.scope or "user",
        state="unchanged",
        path=str(change.path),
        removed=None if change.is_empty else _without_values(change.old),
        added=None if change.is_empty else change.new,
        skill=str(folder or ""),
        notes=notes,
    )


def _report(result: Connection, format: Format) -> None:
    """Print the result: for a person the entry that goes, the one that comes, and the notes."""
    if chosen(format) != "human":
        show(result, format)
        return
    client = CLIENTS[result.client]
    if result.removed or result.added:
        _write(f"{result.path}:")
    for sign, shown in (("-", result.removed), ("+", result.added)):
        if shown is not None:
            lines = client_entry.snippet(client, shown).splitlines()
            _write("\n".join(f"{sign} {line}" for line in lines))
    for note in result.notes:
        _write(note)


def _print_entry(given: argparse.Namespace) -> None:
    """Print the entry for a client; without a name, the usual one."""
    server = _server(given)
    if given.client is None:
        _write(json.dumps({"mcpServers": {NAME: entry(server)}}, indent=2))
        return
    client, _ = _client_and_scope(given)
    _write(client_entry.snippet(client, client.entry(server)))


def _place(folder: Path) -> None:
    """Put the skill in its place.

    Raises:
        BadInput: It cannot be written there.
    """
    try:
        skill_folder.place(folder)
    except (FineTuningError, OSError) as error:
        raise BadInput(
            f"the skill cannot be written to {folder} ({error}); nothing was changed. Repair that "
            "folder, or register the server alone with --no-skill"
        ) from error


def _skill_to_place(client: Client, scope: Scope, notes: list[str]) -> Path | None:
    """Return where the skill has to be written; None if it is there, or cannot be."""
    folder = client.skill(scope)
    found = skill_folder.state(folder)
    if found == "not_ours":
        notes.append(f"{folder} was written by somebody else and stays as it is")
    return folder if found in {"absent", "older"} else None


def _skill_to_remove(client: Client, scope: Scope, notes: list[str]) -> Path | None:
    """Return where the skill is, if `connect` put it there and no other client uses it."""
    folder = client.skill(scope)
    if skill_folder.state(folder) not in {"current", "older"}:
        return None
    for other in CLIENTS.values():
        if other is not client and other.skill(scope) == folder and _is_connected(other, scope):
            notes.append(f"{folder} stays for {other.title}")
            return None
    return folder


def _is_connected(client: Client, scope: Scope) -> bool:
    try:
        found = client_entry.entry_of(client, scope)
    except FineTuningError:
        return True
    return found is not None and client_entry.is_ours(found)


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
        found = client_entry.entry_of(client, scope)
    except FineTuningError as error:
        return row | {"error": str(error)}
    if found is None:
        return row if scope == "user" and client.is_installed() else None
    row |= {"registered": True, "ours": client_entry.is_ours(found)}
    row["skill"] = skill_folder.state(client.skill(scope))
    command = found.get("command")
    if not command:
        return row | {"url": found.get("url")}
    row["command"] = command
    argv = [str(word) for word in (command, *found.get("args", []))]
    environment = {key: str(value) for key, value in found.get("env", {}).items()}
    try:
        row["version"], tools = probe.list_tools(argv, environment)
        row |= {"num_tools": len(tools), "current": row["version"] == __version__}
    except FineTuningError as error:
        row["error"] = str(error)
    return row


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=NAME, description=__doc__)
    actions = parser.add_subparsers(dest="action", required=True)
    for action in ("connect", "disconnect"):
        one = actions.add_parser(action)
        one.add_argument("client", nargs="?", help=", ".join(CLIENTS))
        one.add_argument("--scope", choices=["user", "project"], help="whose file; default user")
        one.add_argument("--format", choices=get_args(Format), default="auto")
        one.add_argument("--dry-run", action="store_true", help="show the change, write nothing")
    connecting = actions.choices["connect"]
    connecting.add_argument("--workspace", help="folder the tools may read and write")
    connecting.add_argument("--http", metavar="URL", default="", help="register an HTTP server")
    connecting.add_argument(
        "--skill",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="also put the skill where the client looks for skills; default yes",
    )
    connecting.add_argument("--print", action="store_true", help="print the entry, write nothing")
    actions.add_parser("status").set_defaults(format="json")
    return parser


def _client_and_scope(given: argparse.Namespace) -> tuple[Client, Scope]:
    client = CLIENTS.get(given.client)
    if client is None:
        problem = f"unknown client {given.client!r}" if given.client else "name a client"
        raise BadInput(
            f"{problem}; known: {', '.join(CLIENTS)}. For any other, "
            f"`{NAME} connect --print` prints an entry"
        )
    scope: Scope = given.scope or "user"
    if scope == "project" and not client.project_file:
        raise BadInput(f"{client.title} has no configuration per project; leave --scope out")
    return client, scope


def _server(given: argparse.Namespace) -> Server:
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


def _without_values(old: dict[str, Any] | None) -> dict[str, Any] | None:
    """Hide the values of an old entry's variables and headers: somebody may keep secrets there."""
    if old is None:
        return None
    return {
        key: dict.fromkeys(value, "...") if isinstance(value, dict) else value
        for key, value in old.items()
    }


def _write(text: str) -> None:
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    main()
