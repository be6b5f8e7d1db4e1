"""Read, change and restore the entry of this server in a client's configuration."""

import contextlib
import json
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ft_tools.errors import BadInput, FineTuningError, Missing
from mcp_server.connect import json_edit, toml_edit
from mcp_server.connect.clients import NAME, Client, Scope

BACKUP = f".{NAME}.bak"
PROGRAM_SECONDS = 60


@dataclass(frozen=True)
class Change:
    """What would be done to a client's configuration."""

    path: Path
    before: bytes | None
    """None: there is no such file."""
    after: bytes | None
    """None: the file goes again."""
    old: dict[str, Any] | None
    new: dict[str, Any] | None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is to be done."""
        return self.old == self.new


def entry_of(client: Client, scope: Scope) -> dict[str, Any] | None:
    """Return the entry of this server that a client has; None if it has none.

    Raises:
        BadInput: The file cannot be read.
    """
    path = client.file(scope)
    found = json_edit.get(_value(client, path, _bytes(path)), (*client.key, NAME))
    return found if isinstance(found, dict) else None


def is_ours(entry: dict[str, Any]) -> bool:
    """Tell whether an entry starts this program, or is an address that `connect` wrote."""
    command = entry.get("command", "")
    words = (
        [*command, *entry.get("args", [])]
        if isinstance(command, list)
        else [
            command,
            *entry.get("args", []),
        ]
    )
    programs = {Path(str(word)).stem for word in words[:1]} | set(map(str, words[1:]))
    address = str(entry.get("url") or entry.get("serverUrl") or "")
    return bool({NAME, f"{NAME}-mcp", "ft_tools", "mcp_server"} & programs) or (
        not words[0] and address.rstrip("/").endswith("/mcp")
    )


def plan(client: Client, scope: Scope, new: dict[str, Any] | None) -> Change:
    """Return the change that gives a client an entry, or with None takes it away.

    Raises:
        BadInput: The file cannot be read or edited, or the entry there is not ours.
    """
    path = client.file(scope)
    before = _bytes(path)
    old = entry_of(client, scope)
    if old is not None and not is_ours(old):
        raise BadInput(
            f"{path} has an entry {NAME!r} that does not start this program; remove or rename it"
        )
    if old == new:
        return Change(path, before, before, old, new)
    if new is None:
        return Change(path, before, _restored(client, path, before or b"", old or {}), old, None)
    after = _with(client, path, before, new)
    if json_edit.get(_value(client, path, after), (*client.key, NAME)) != new:
        raise BadInput(f"{path} cannot be edited safely; add the entry by hand (--print shows it)")
    return Change(path, before, after, old, new)


def apply(client: Client, scope: Scope, change: Change) -> None:
    """Do a change: by the client's own program where it owns its file, else in the file.

    Raises:
        FineTuningError: The file changed meanwhile, or the program failed.
    """
    if client.title == "Claude Code" and scope == "user":
        _by_program(change)
        return
    path = Path(os.path.realpath(change.path))
    if _bytes(path) != change.before:
        raise FineTuningError(f"{path} was changed by another program just now; try again")
    backup = path.with_name(path.name + BACKUP)
    if change.after is None:
        path.unlink()
    elif change.new is None:
        _write(path, change.after)
        backup.unlink(missing_ok=True)
    else:
        if change.before is not None and not backup.exists():
            _write(backup, change.before, like=path)
        _write(path, change.after)


def _with(client: Client, path: Path, before: bytes | None, entry: dict[str, Any]) -> bytes:
    text = _text(path, before)
    try:
        if client.is_toml:
            new = toml_edit.put(text, (*client.key, NAME), entry)
        else:
            new = json_edit.put(text if text.strip() else "{}\n", (*client.key, NAME), entry)
    except ValueError as error:
        raise BadInput(f"{path} cannot be edited ({error}); --print shows the entry") from error
    return new.encode("utf-8")


def _restored(client: Client, path: Path, now: bytes, entry: dict[str, Any]) -> bytes | None:
    """Return the file without the entry: as it was before, if only the entry came in between."""
    real = Path(os.path.realpath(path))
    kept = _bytes(real.with_name(real.name + BACKUP))
    if kept is not None and _with(client, path, kept, entry) == now:
        return kept
    if kept is None and _with(client, path, None, entry) == now:
        return None
    text = _text(path, now)
    edit = toml_edit.remove if client.is_toml else json_edit.remove
    try:
        return edit(text, (*client.key, NAME)).encode("utf-8")
    except ValueError as error:
        raise BadInput(f"{path} cannot be edited ({error}); remove the entry by hand") from error


def _value(client: Client, path: Path, content: bytes | None) -> Any:
    text = _text(path, content)
    try:
        if client.is_toml:
            return toml_edit.read(text)
        return json_edit.read(text) if text.strip() else {}
    except ValueError as error:
        raise BadInput(
            f"{path} cannot be read ({error}); nothing was changed. Repair it first, or add the "
            "entry by hand (--print shows it)"
        ) from error


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror})") from error


def _text(path: Path, content: bytes | None) -> str:
    try:
        return (content or b"").decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not UTF-8 text; nothing was changed") from error


def _write(path: Path, content: bytes, like: Path | None = None) -> None:
    """Write a file beside itself and rename it; it keeps its mode."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        mode = (like or path).stat().st_mode & 0o777
    if not (like or path).exists():
        mode = 0o600
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, mode)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _by_program(change: Change) -> None:
    """Change Claude Code's user scope by its own command: it rewrites its file all the time."""
    if change.old is not None:
        _claude("remove", "--scope", "user", NAME)
    if change.new is None:
        return
    try:
        _claude("add-json", "--scope", "user", NAME, json.dumps(change.new))
    except FineTuningError:
        if change.old is not None:
            _claude("add-json", "--scope", "user", NAME, json.dumps(change.old))
        raise


def _claude(*arguments: str) -> None:
    try:
        done = subprocess.run(
            ["claude", "mcp", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PROGRAM_SECONDS,
            check=False,
        )
    except FileNotFoundError as error:
        raise Missing("the command claude is not on PATH; --print shows the entry") from error
    except subprocess.TimeoutExpired as error:
        raise FineTuningError(f"claude mcp {arguments[0]} took over {PROGRAM_SECONDS} s") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()[:1]
        raise FineTuningError(f"claude mcp {arguments[0]} failed: {''.join(said)}")
