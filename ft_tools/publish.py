"""Write files and folders atomically: a reader never sees half of one.

Write beside the target, fsync, rename, fsync the folder. A folder gets `manifest.json` (sha256 and
size of each file) before it is renamed; `verify` compares. Folders are 0700, files 0600, whatever
the umask is. What a killed writer leaves has a name that starts with `.tmp-`: readers ignore it.
A staging folder is locked while its writer lives, so `sweep` can tell a dead one from a slow one.

POSIX only: flock, and renames that replace.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ft_tools import workspace
from ft_tools.errors import BadInput, DiskFull, OutputExists
from ft_tools.system_errors import BROKEN_DISK, NO_SPACE, explain_at

MANIFEST = "manifest.json"
STAGING = ".tmp-"
NAME_CHARS = 50


def write_file(path: Path, content: str | bytes) -> None:
    """Replace a file in one step; it is the old one or the new one, never in between.

    Raises:
        DiskFull: It cannot be written; the old file is intact.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    beside = _beside(path)
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
        # A disk that refuses this too must not hide the first error.
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        raise


def append_line(path: Path, line: str) -> None:
    """Append one line with one write, which the kernel keeps whole among concurrent writers.

    A line that an earlier writer left torn is ended first, so that it spoils only itself.

    Raises:
        DiskFull: It cannot be written, or only a part of it.
    """
    with disk_full_is_named(path):
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            size = os.fstat(file).st_size
            torn = size > 0 and os.pread(file, 1, size - 1) != b"\n"
            data = b"\n" * torn + line.encode("utf-8") + b"\n"
            if os.write(file, data) < len(data):
                raise OSError(errno.ENOSPC, "short write")
        finally:
            os.close(file)


def whole_lines(path: Path) -> list[bytes]:
    """Return the lines of a file that have their end, without the empty ones."""
    try:
        *whole, _torn = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    return [line for line in whole if line]


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the JSON objects of a file, one a line; torn lines are dropped."""
    rows = []
    for line in whole_lines(path):
        with contextlib.suppress(ValueError, RecursionError):
            rows.append(json.loads(line))
    return [row for row in rows if isinstance(row, dict)]


@contextmanager
def new_folder(final: Path) -> Iterator[Path]:
    """Yield a staging folder; publish it under its final name if the block succeeds.

    Staging folders that killed writers of the same folder left behind are removed first.

    Raises:
        OutputExists: The final name is taken by something that is not an empty folder.
        BadInput: The staging folder was given a symbolic link.
        DiskFull: It cannot be written; nothing was published.
    """
    private_folder(final.parent)
    with disk_full_is_named(final):
        sweep(final.parent, f"{STAGING}{final.name[:NAME_CHARS]}-")
        staging, lock = _staging_folder(final)
        try:
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
        finally:
            _close(lock)


def sweep(folder: Path, prefix: str = STAGING) -> int:
    """Remove staging folders whose writers are dead: nobody holds their locks.

    Returns:
        How many were removed.
    """
    removed = 0
    for staging in list(folder.iterdir()):
        if not staging.name.startswith(prefix) or staging.is_symlink() or not staging.is_dir():
            continue
        try:
            lock = os.open(staging, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(staging, ignore_errors=True)
            removed += 1
        except OSError:
            # Somebody is writing it, or this file system has no locks: leave it alone.
            continue
        finally:
            _close(lock)
    return removed


def _beside(path: Path) -> Path:
    # Names may have 255 bytes: a long one is cut, the random part keeps it apart.
    return path.with_name(f"{STAGING}{path.name[:NAME_CHARS]}-{secrets.token_hex(4)}")


def _staging_folder(final: Path) -> tuple[Path, int]:
    """Make and lock a staging folder; a sweeper that got in between costs another round."""
    while True:
        staging = _beside(final)
        staging.mkdir(mode=0o700)
        try:
            lock = os.open(staging, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        except OSError:
            with contextlib.suppress(OSError):
                staging.rmdir()
            raise
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _close(lock)
            continue
        except OSError:
            # No locks on this file system: then nothing is swept here either.
            return staging, lock
        if staging.exists():
            return staging, lock
        _close(lock)


def _close(lock: int) -> None:
    # Nothing was written through it, so an error says nothing about what was published.
    with contextlib.suppress(OSError):
        os.close(lock)


def seal(folder: Path) -> None:
    """Make a folder's files private and durable, and write its manifest last.

    Raises:
        BadInput: It has a symbolic link; what that points to is not ours to publish or to chmod.
    """
    entries = {}
    # What is in a folder comes before the folder: a durable name has durable content.
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_symlink():
            raise BadInput(f"{path} is a symbolic link; copy the file it points to")
        if path.is_dir():
            path.chmod(0o700)
            sync_folder(path)
        elif path != folder / MANIFEST:
            path.chmod(0o600)
            sync_file(path)
            name = path.relative_to(folder).as_posix()
            entries[name] = {"sha256": sha256(path), "bytes": path.stat().st_size}
    write_file(folder / MANIFEST, json.dumps({"files": dict(sorted(entries.items()))}, indent=1))


def verify(folder: Path) -> list[str]:
    """Compare a folder with its manifest.

    Returns:
        What is wrong, a line each; empty when every file is there and unchanged.
    """
    try:
        entries = json.loads((folder / MANIFEST).read_bytes())["files"]
        expected = {str(k): (int(v["bytes"]), str(v["sha256"])) for k, v in entries.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return [f"{MANIFEST} is missing or unreadable"]
    wrong = []
    for name, (num_bytes, digest) in expected.items():
        path = folder / name
        try:
            if "\0" in name or not path.resolve().is_relative_to(folder.resolve()):
                wrong.append(f"{name!r} is outside the folder")
            elif path.stat().st_size != num_bytes or sha256(path) != digest:
                wrong.append(f"{name} has changed since it was written")
        except OSError:
            wrong.append(f"{name} is missing or unreadable")
    return wrong


def private_folder(folder: Path) -> None:
    """Create a folder and what is missing above it, for this user only.

    Raises:
        OutputExists: A file has that name.
        BadInput: This user may not make it.
        DiskFull: It cannot be made.
    """
    if folder.is_dir():
        return
    private_folder(folder.parent)
    with disk_full_is_named(folder):
        try:
            # Another process may make it at the same moment.
            folder.mkdir(mode=0o700, exist_ok=True)
        except FileExistsError as error:
            raise OutputExists(f"{folder} is not a folder; name another one") from error
        except PermissionError as error:
            raise BadInput(
                f"{folder} cannot be created: no permission to write in {folder.parent}; start the "
                f"server in another folder, or set {workspace.VARIABLE} (data and runs) and "
                f"{workspace.CACHE_VARIABLE} (downloads) to folders that this user may write"
            ) from error
        sync_folder(folder.parent)


def require_own(folder: Path) -> None:
    """Refuse a folder in which another user could swap what is ours.

    Raises:
        BadInput: Another user owns it, or may write in it.
    """
    for about in (folder.lstat(), folder.stat()):
        if about.st_uid != os.geteuid():
            raise BadInput(
                f"{folder} belongs to user {about.st_uid}, not to {os.geteuid()}; remove it, or "
                "choose another workspace"
            )
    if folder.stat().st_mode & 0o022:
        raise BadInput(f"{folder} is writable by other users; run: chmod go-w '{folder}'")


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
    try:
        sync_file(folder)
    except OSError as error:
        # Some network file systems know no fsync of a folder; there is nothing better to do there.
        if error.errno != errno.EINVAL:
            raise


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
            f"{what} needs {needed_bytes / 2**30:.2f} GiB in {folder}, but only "
            f"{free / 2**30:.2f} GiB are free; free some space, or name a folder on another disk"
        )


@contextmanager
def disk_full_is_named(path: Path) -> Iterator[None]:
    """Turn the operating system's disk errors into one that says what to do.

    Raises:
        DiskFull: No space, no quota, a file size limit, a read-only file system or an I/O error.
    """
    try:
        yield
    except OSError as error:
        if error.errno in NO_SPACE | BROKEN_DISK:
            raise explain_at(path, error) from error
        raise


def link_or_copy(source: Path, target: Path) -> None:
    """Link a file under a second name; copy it where that is on another disk."""
    try:
        os.link(source, target)
    except OSError:
        # Another disk, or one that has no links.
        shutil.copyfile(source, target)
