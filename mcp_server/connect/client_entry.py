"""Read, add and remove the entry of this server in a client's configuration."""

import json
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomlkit
from tomlkit.exceptions import TOMLKitError

from ft_tools.errors import BadInput, FineTuningError, Missing
from ft_tools.publish import write_file
from mcp_server.connect.clients import NAME, Client, Scope

PROGRAM_SECONDS = 60
PROGRAMS = {NAME, f"{NAME}-mcp", "ft_tools", "mcp_server"}


@dataclass(frozen=True)
class Change:
    """What would be done to a client's configuration."""

    path: Path
    old: dict[str, Any] | None
    new: dict[str, Any] | None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is to be done."""
        return self.old == self.new


def plan(client: Client, scope: Scope, new: dict[str, Any] | None) -> Change:
    """Return the change that gives a client an entry, or with None takes it away.

    Raises:
        BadInput: The file cannot be read, or the entry there is not ours.
    """
    old = entry_of(client, scope)
    path = client.file(scope)
    if old is not None and not is_ours(old):
        raise BadInput(
            f"{path} has an entry {NAME!r} that does not start this program; remove or rename it"
        )
    return Change(path, old, new)


def entry_of(client: Client, scope: Scope) -> dict[str, Any] | None:
    """Return the entry of this server that a client has; None if it has none.

    Raises:
        BadInput: The file cannot be read, or holds something else where servers belong.
    """
    path = client.file(scope)
    found: Any = _read(client, path)
    for key in client.key:
        found = found.get(key, {})
        if not isinstance(found, dict) and client.add:
            return None
        if not isinstance(found, dict):
            raise BadInput(
                f"{path}: {key!r} is no table of servers; nothing was changed. Repair it, or "
                "remove it if it is empty"
            )
    found = found.get(NAME)
    if not isinstance(found, dict):
        return None
    unwrapped: dict[str, Any] = found.unwrap() if hasattr(found, "unwrap") else found
    return unwrapped


def is_ours(entry: dict[str, Any]) -> bool:
    """Return whether an entry starts this program, or is an address that `connect` wrote."""
    command = str(entry.get("command", ""))
    if not command:
        return str(entry.get("url", "")).rstrip("/").endswith("/mcp")
    return bool(PROGRAMS & {Path(command).stem, *map(str, entry.get("args", []))})


def apply(client: Client, scope: Scope, change: Change) -> None:
    """Carry out a change: by the client's own command where it has one, else in its file.

    Raises:
        FineTuningError: The command failed, or the file cannot be written.
    """
    if client.add:
        _by_command(client, scope, change)
    else:
        _in_file(client, change)


def _in_file(client: Client, change: Change) -> None:
    document = _read(client, change.path)
    table = document
    for key in client.key:
        table = table.setdefault(key, {} if not client.is_toml else tomlkit.table())
    if change.new is not None:
        table[NAME] = change.new
    else:
        del table[NAME]
        _remove_empty(document, client.key)
    try:
        _write(client, change.path, document)
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise BadInput(
            f"{change.path} cannot be written ({why}); it is unchanged. Make it writable, or "
            "change the entry by hand (connect --print shows it)"
        ) from error


def snippet(client: Client, entry: dict[str, Any]) -> str:
    """Return an entry as it stands in the client's file."""
    nested: dict[str, Any] = {NAME: entry}
    for key in reversed(client.key):
        nested = {key: nested}
    return tomlkit.dumps(nested).strip() if client.is_toml else json.dumps(nested, indent=2)


def _read(client: Client, path: Path) -> Any:
    """Return a client's configuration as nested dicts.

    Raises:
        BadInput: It cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        if client.is_toml:
            return tomlkit.parse(text)
        value = json.loads(text) if text.strip() else {}
        if not isinstance(value, dict):
            raise ValueError("it is no JSON object")
    except FileNotFoundError:
        return tomlkit.document() if client.is_toml else {}
    except (OSError, ValueError, TOMLKitError) as error:
        if client.add:
            # Its own command reads and writes the file, with whatever is in it.
            return {}
        raise BadInput(
            f"{path} cannot be read ({error}); nothing was changed. Comments in JSON are not "
            "supported: add the entry by hand (--print shows it)"
        ) from error
    return value


def _remove_empty(document: Any, keys: tuple[str, ...]) -> None:
    """Remove the tables that were made for the entry."""
    for depth in range(len(keys), 0, -1):
        parent = document
        for key in keys[: depth - 1]:
            parent = parent[key]
        if not parent[keys[depth - 1]]:
            del parent[keys[depth - 1]]


def _write(client: Client, path: Path, document: Any) -> None:
    """Replace a file in one step; it keeps its mode, and a link stays a link."""
    real = Path(os.path.realpath(path))
    text = tomlkit.dumps(document) if client.is_toml else ""
    # Comments of somebody's own are no reason to remove a file, empty as its tables are.
    if not document and not text.strip():
        real.unlink(missing_ok=True)
        return
    mode, indent = 0o600, None
    if real.exists():
        mode = real.stat().st_mode & 0o777
        indent = re.search(r"\n([ \t]+)\S", real.read_text(encoding="utf-8-sig"))
    if not client.is_toml:
        text = json.dumps(document, indent=indent[1] if indent else 2, ensure_ascii=False) + "\n"
    real.parent.mkdir(parents=True, exist_ok=True)
    write_file(real, text)
    real.chmod(mode)


def _by_command(client: Client, scope: Scope, change: Change) -> None:
    """Change a client by its own command: replace the entry, or remove it.

    OpenClaw refuses to write a file that becomes much shorter, so a removal that fails is made in
    the file.

    Raises:
        FineTuningError: The command failed.
    """
    values = {"{scope}": scope, "{entry}": json.dumps(change.new)}
    if change.new is None:
        try:
            _run([values.get(word, word) for word in client.remove])
        except FineTuningError:
            if entry_of(client, scope) is None:
                raise
            _in_file(client, change)
        return
    is_removed = change.old is not None and not client.add_replaces
    if is_removed:
        _run([values.get(word, word) for word in client.remove])
    try:
        _run([values.get(word, word) for word in client.add])
    except FineTuningError:
        if is_removed:
            values["{entry}"] = json.dumps(change.old)
            _run([values.get(word, word) for word in client.add])
        raise


def _run(argv: list[str]) -> None:
    called = " ".join(argv[:3])
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PROGRAM_SECONDS,
            check=False,
        )
    except FileNotFoundError as error:
        raise Missing(f"{argv[0]} is not on PATH; --print shows the entry") from error
    except subprocess.TimeoutExpired as error:
        raise FineTuningError(f"{called} took over {PROGRAM_SECONDS} s") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()[:1]
        raise FineTuningError(f"{called} failed: {''.join(said)}")
