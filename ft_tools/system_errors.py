"""Turn an error of the operating system into one that says the path, the problem and the remedy."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ft_tools.errors import BadInput, DiskFull, FineTuningError, NotFound, brief

NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
BROKEN_DISK = {errno.EIO, errno.EROFS}
FORBIDDEN = {errno.EACCES, errno.EPERM}
GONE = {errno.ENOENT, errno.ENOTDIR, errno.ESTALE}
LIMITS = {errno.EMFILE: "open files", errno.ENFILE: "open files", errno.EAGAIN: "processes"}


@contextmanager
def explained() -> Iterator[None]:
    """Raise what a caller can act on instead of an `OSError` that names a path.

    Raises:
        FineTuningError: In place of such an error.
    """
    try:
        yield
    except OSError as error:
        if (known := explain(error)) is None:
            raise
        raise known from error


def explain(error: OSError) -> FineTuningError | None:
    """Return an error that says what to do.

    Returns:
        None if it names no path: then it is a socket or a pipe, and whoever uses it knows more.
    """
    named = next((name for name in (error.filename2, error.filename) if name), None)
    if named is None or isinstance(named, int):
        return None
    return explain_at(Path(os.fsdecode(named)), error)


def explain_at(where: Path, error: OSError) -> FineTuningError:
    """Return an error that says what to do about a path that could not be read or written."""
    said, number = error.strerror or type(error).__name__, error.errno
    if number in NO_SPACE:
        return DiskFull(
            f"no space left while writing {where} ({said}); free some space and run it again"
        )
    if number in BROKEN_DISK:
        return DiskFull(
            f"the disk refused to write {where} ({said}); check the disk, or name a folder on "
            "another one, and run it again"
        )
    if number in FORBIDDEN:
        return BadInput(_forbidden(where, said))
    if number in GONE:
        return NotFound(f"{where} is not there ({said}); check the path, then repeat the call")
    if number in LIMITS:
        return FineTuningError(
            f"too many {LIMITS[number]}; raise the limit (ulimit) or close other programs, then "
            "repeat the call"
        )
    return BadInput(f"{brief(where)}: {said}; name another file or folder")


def _forbidden(path: Path, said: str) -> str:
    """Return which file or folder on the way this user may not use, and the command."""
    whole = path.absolute()
    for folder in [*reversed(whole.parents), *([whole] if os.path.isdir(whole) else [])]:
        if os.path.exists(folder) and not may(folder, os.X_OK):
            return _no(path, folder, "enter", "rx")
    if not os.path.lexists(path):
        there = next(folder for folder in whole.parents if folder.exists())
        return _no(path, there, "write in", "w")
    for verb, right in (("read", "r"), ("write", "w")):
        if not may(path, {"r": os.R_OK, "w": os.W_OK}[right]):
            return _no(path, path, verb, right)
    return f"{path} may not be used by this user ({said}); name another file or folder"


def _no(path: Path, blocked: Path, verb: str, right: str) -> str:
    # What would have been written may have a name of our own.
    before = "" if verb == "write in" or blocked == path else f"{path}: "
    quoted = str(blocked).replace("'", "'\\''")
    return (
        f"{before}this user may not {verb} {blocked}; run: chmod u+{right} '{quoted}' (or ask its "
        "owner), or name another file or folder"
    )


def may(path: Path, mode: int) -> bool:
    """Return whether this user may use a path so, as `os.access` has it."""
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)
