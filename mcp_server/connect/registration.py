"""What `connect` leaves in a client's files: the entry of this server, and the folder of the skill.

The skill's folder has SKILL.md, the references and a manifest of them. A folder that differs from
its manifest, and an entry that starts something else, are somebody's own and stay as they are.
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Literal

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import Table

from ft_tools.errors import BadInput, FineTuningError, Missing
from ft_tools.publish import MANIFEST, new_folder, verify, write_file
from mcp_server.connect.clients import NAME, Client, Scope
from mcp_server.skill_files import SKILL, skill_files

Entry = dict[str, Any]
PROGRAM_SECONDS = 60
PROGRAMS = {NAME, f"{NAME}-mcp", "ft_tools", "mcp_server"}
SHARED = ".agents"
"""A folder that several clients read, and that may be there for skills alone."""


def entry_of(client: Client, scope: Scope) -> Entry | None:
    """Return the entry of this server that a client has; None if it has none.

    Raises:
        BadInput: The file cannot be read, or holds something else where servers belong.
    """
    path = client.file(scope)
    found: Any = _read(client, path)
    for key in client.key:
        found = found.get(key, {})
        if not isinstance(found, dict):
            if client.add:
                return None
            raise BadInput(
                f"{path}: {key!r} is no table of servers; nothing was changed. Repair it, or "
                "remove it if it is empty"
            )
    found = found.get(NAME)
    if not isinstance(found, dict):
        return None
    return dict(found.unwrap() if isinstance(found, Table) else found)


def is_ours(entry: Entry) -> bool:
    """Return whether an entry starts this program, or is an address that `connect` wrote."""
    command = str(entry.get("command", ""))
    if not command:
        return str(entry.get("url", "")).rstrip("/").endswith("/mcp")
    return bool(PROGRAMS & {Path(command).stem, *map(str, entry.get("args", []))})


def write_entry(client: Client, scope: Scope, old: Entry | None, new: Entry | None) -> None:
    """Replace an entry, or remove it: by the client's own command, else in its file.

    OpenClaw refuses to write a file that becomes much shorter, so a removal that fails is made in
    the file.

    Raises:
        FineTuningError: The command failed, or the file cannot be written.
    """
    if not client.add:
        _write(client, scope, new)
        return

    def run(words: tuple[str, ...], entry: Entry | None = None) -> None:
        values = {"{scope}": scope, "{entry}": json.dumps(entry)}
        _run([values.get(word, word) for word in words])

    if old is not None and not (new and client.add_replaces):
        try:
            run(client.remove)
        except FineTuningError:
            if new is not None or entry_of(client, scope) is None:
                raise
            _write(client, scope, None)
    if new is not None:
        try:
            run(client.add, new)
        except FineTuningError:
            if old is not None and not client.add_replaces:
                run(client.add, old)
            raise


def snippet(client: Client, entry: Entry) -> str:
    """Return an entry as it stands in the client's file."""
    nested: Entry = {NAME: entry}
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
        value = tomlkit.parse(text) if client.is_toml else json.loads(text.strip() or "{}")
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


def _write(client: Client, scope: Scope, new: Entry | None) -> None:
    """Write an entry into the client's file, or remove it with the tables made for it.

    The file keeps its mode and indentation, and a link stays a link; an empty one is removed.
    """
    path = Path(os.path.realpath(client.file(scope)))
    tables = [_read(client, path)]
    for key in client.key:
        tables.append(tables[-1].setdefault(key, tomlkit.table() if client.is_toml else {}))
    if new is not None:
        tables[-1][NAME] = new
    else:
        del tables[-1][NAME]
        for parent, key in reversed([*zip(tables, client.key, strict=False)]):
            if not parent[key]:
                del parent[key]
    before = path.read_text(encoding="utf-8-sig") if path.exists() else ""
    indent = re.search(r"\n([ \t]+)\S", before)
    if client.is_toml:
        # Comments of somebody's own are no reason to remove it, empty as its tables are.
        text = tomlkit.dumps(tables[0])
    else:
        spaces = indent[1] if indent else 2
        text = json.dumps(tables[0], indent=spaces, ensure_ascii=False) + "\n"
    try:
        if text.strip() in {"", "{}"}:
            path.unlink(missing_ok=True)
            return
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o600
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, text)
        path.chmod(mode)
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise BadInput(
            f"{path} cannot be written ({why}); it is unchanged. Make it writable, or "
            "change the entry by hand (connect --print shows it)"
        ) from error


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
        raise FineTuningError(
            f"{called} took over {PROGRAM_SECONDS} s; check that {argv[0]} works, then repeat"
        ) from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()[:1]
        raise FineTuningError(f"{called} failed: {''.join(said)}; --print shows the entry")


def skill_state(folder: Path) -> Literal["absent", "current", "older", "not_ours"]:
    """Return what is at the place of the skill."""
    if not folder.is_symlink() and not folder.exists():
        return "absent"
    if folder.is_symlink() or not folder.is_dir() or verify(folder):
        return "not_ours"
    found = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path != folder / MANIFEST
    }
    if found == skill_files():
        return "current"
    # An older version may have had other references; a file of another kind is not ours.
    is_ours = all(path == SKILL or path.startswith("references/") for path in found)
    return "older" if is_ours and SKILL in found else "not_ours"


def place_skill(folder: Path) -> None:
    """Write this version of the skill, in place of an older one.

    Raises:
        BadInput: It cannot be written there.
    """
    try:
        with new_folder(folder) as staging:
            for path, content in skill_files().items():
                (staging / path).parent.mkdir(parents=True, exist_ok=True)
                (staging / path).write_bytes(content)
            if folder.exists():
                shutil.rmtree(folder)
    except (FineTuningError, OSError) as error:
        raise BadInput(
            f"the skill cannot be written to {folder} ({error}); nothing was changed. Repair that "
            "folder, or register the server alone with --no-skill"
        ) from error


def remove_skill(folder: Path) -> None:
    """Remove the skill, and the folders that were there for it alone."""
    shutil.rmtree(folder)
    with contextlib.suppress(OSError):
        folder.parent.rmdir()
        if folder.parent.parent.name == SHARED:
            folder.parent.parent.rmdir()
