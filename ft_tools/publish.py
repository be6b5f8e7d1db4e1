"""Write files and folders so that nobody ever sees half of one.

Write beside the target, fsync, rename, fsync the folder. A folder gets `manifest.json` (sha256 and
size of each file) before it is renamed; `verify` compares. Folders are 0700, files 0600.
"""

import errno
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ft_tools.errors import DiskFull, OutputExists

MANIFEST = "manifest.json"
NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def write_file(path: Path, content: str | bytes) -> None:
    """Replace a file in one step; it is the old one or the new one, never in between.

    Raises:
        DiskFull: There is no space; the old file is intact.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    beside = path.with_name(f".tmp-{path.name}-{secrets.token_hex(4)}")
    try:
        with disk_full_is_named(path):
            file = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(file, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            os.rename(beside, path)
            sync_folder(path.parent)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def append_line(path: Path, line: str) -> None:
    """Append one line with a single write; a reader drops a torn last line."""
    with disk_full_is_named(path):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(file, line.encode("utf-8") + b"\n")
        finally:
            os.close(file)


@contextmanager
def new_folder(final: Path) -> Iterator[Path]:
    """Give a staging folder; publish it under its final name when the block ends well.

    Raises:
        OutputExists: The final name is taken by something that is not an empty folder.
        DiskFull: There is no space; nothing was published.
    """
    private_folder(final.parent)
    staging = final.with_name(f".tmp-{final.name}-{secrets.token_hex(4)}")
    try:
        with disk_full_is_named(final):
            staging.mkdir(mode=0o700)
            yield staging
            seal(staging)
            try:
                os.rename(staging, final)
            except OSError as error:
                if error.errno in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}:
                    raise OutputExists(f"{final} is not empty; name a new folder") from error
                raise
            sync_folder(final.parent)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def seal(folder: Path) -> None:
    """Make a folder's files private and durable, and write its manifest last."""
    entries = {}
    for path in sorted(folder.rglob("*")):
        if path.is_dir():
            path.chmod(0o700)
            sync_folder(path)
        elif path.name != MANIFEST or path.parent != folder:
            path.chmod(0o600)
            sync_file(path)
            name = path.relative_to(folder).as_posix()
            entries[name] = {"sha256": sha256(path), "bytes": path.stat().st_size}
    write_file(folder / MANIFEST, json.dumps({"files": entries}, indent=1))
    sync_folder(folder)


def verify(folder: Path) -> list[str]:
    """Compare a folder with its manifest.

    Returns:
        What is wrong, a line each; empty when every file is there and unchanged.
    """
    try:
        entries = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return [f"{MANIFEST} is missing or unreadable"]
    wrong = []
    for name, entry in entries.items():
        path = folder / name
        if not path.is_file():
            wrong.append(f"{name} is missing")
        elif path.stat().st_size != entry["bytes"] or sha256(path) != entry["sha256"]:
            wrong.append(f"{name} is not what was written")
    return wrong


def private_folder(folder: Path) -> None:
    """Create a folder and what is missing above it, for this user only."""
    if not folder.is_dir():
        private_folder(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def sha256(path: Path) -> str:
    """Return the sha256 of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sync_file(path: Path) -> None:
    """Make a file's content durable."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    sync_file(folder)


def require_space(folder: Path, needed_bytes: int, what: str) -> None:
    """Refuse early when the disk cannot hold what will be written.

    Raises:
        DiskFull: Less than `needed_bytes` is free.
    """
    there = folder
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    if free < needed_bytes:
        raise DiskFull(
            f"{what} needs {needed_bytes / 2**30:.2f} GiB in {folder}, {free / 2**30:.2f} GiB are "
            "free; free some space or name a folder on another disk"
        )


@contextmanager
def disk_full_is_named(path: Path) -> Iterator[None]:
    """Turn the operating system's 'no space' into the error that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_SPACE:
            raise DiskFull(
                f"no space left while writing {path}; free some space and run it again"
            ) from error
        raise
