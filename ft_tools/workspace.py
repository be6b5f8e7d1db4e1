"""The folders that a request may name, and how a path is kept inside them.

`FINE_TUNING_LLM_WORKSPACE` lists the folders, separated like PATH; the default is the directory
the server was started in. Relative paths are resolved against the first one. Runs live in `runs/`
under it.
"""

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

from ft_tools.errors import (
    BadInput,
    NotFound,
    NoWorkspace,
    OutputExists,
    OutsideWorkspace,
    brief,
)
from ft_tools.system_errors import explain_at, may

VARIABLE = "FINE_TUNING_LLM_WORKSPACE"
CACHE_VARIABLE = "FINE_TUNING_LLM_CACHE"


def roots() -> list[Path]:
    """Return the workspace folders, resolved; the first one is where runs are kept.

    Raises:
        NoWorkspace: The first one is not there.
    """
    folders = named(os.environ.get(VARIABLE, ""))
    if not folders[0].is_dir():
        what = "is not a folder" if folders[0].exists() else "does not exist"
        cure = f"create it, or name another in {VARIABLE}"
        raise NoWorkspace(f"workspace {folders[0]} {what}", cure)
    return folders


def named(paths: str) -> list[Path]:
    """Return folders that are separated like PATH, resolved; the working one if there is none.

    Raises:
        NoWorkspace: It is the working folder, which is gone.
    """
    parts = [part for part in paths.split(os.pathsep) if part]
    try:
        return [Path(part).expanduser().resolve() for part in parts or [os.getcwd()]]
    except FileNotFoundError as error:
        cure = f"start in another one, or set {VARIABLE} to the workspace"
        raise NoWorkspace("the working directory no longer exists", cure) from error


def runs_dir() -> Path:
    """Return the folder that holds the runs; it may not be there yet.

    Raises:
        NoWorkspace: The workspace is not there, or has a file of that name.
    """
    folder = roots()[0] / "runs"
    if os.path.lexists(folder) and not os.path.isdir(folder):
        cure = f"rename it, or name another workspace in {VARIABLE}"
        raise NoWorkspace(f"{folder} is a file, where the folder of the runs has to be", cure)
    return folder


def cache_dir() -> Path:
    """Return the folder for models and tools that are fetched once.

    Raises:
        BadInput: It is not named, and this user has no home.
    """
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named).expanduser().resolve()
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The XDG specification: a relative path in it is to be ignored.
    if base.is_absolute():
        return base / "fine-tuning-llm"
    try:
        return Path.home() / ".cache" / "fine-tuning-llm"
    except RuntimeError as error:
        raise BadInput(
            f"this user has no home directory for the cache; set {CACHE_VARIABLE} to a folder"
        ) from error


def resolve(path: str) -> Path:
    """Resolve a path of a request; symbolic links are followed before it is checked.

    Raises:
        OutsideWorkspace: It leaves the workspace.
        BadInput: It is empty, or no file can have that name.
    """
    if not path or "\0" in path:
        raise BadInput(f"path {path!r} is empty or has a NUL character; name a file or a folder")
    try:
        resolved = (roots()[0] / path).resolve()
        resolved.exists()
    except (RuntimeError, ValueError) as error:
        why = (
            "a loop of symbolic links" if isinstance(error, RuntimeError) else "not a Unicode text"
        )
        raise BadInput(f"path {brief(repr(path))} is {why}; name another file or folder") from error
    except OSError as error:
        raise explain_at(roots()[0] / path, error) from error
    if not any(resolved.is_relative_to(root) for root in roots()):
        allowed = os.pathsep.join(map(str, roots()))
        raise OutsideWorkspace(
            f"path {path!r} is outside the workspace {allowed}; move it inside, or add its folder "
            f"to {VARIABLE} and restart the server"
        )
    return resolved


def existing(path: str) -> Path:
    """Resolve a path that has to be there.

    Raises:
        OutsideWorkspace: It leaves the workspace.
        NotFound: Nothing is there.
    """
    resolved = resolve(path)
    if not resolved.exists():
        cure = "check the spelling"
        if path.startswith("~"):
            cure = "~ is not expanded: give the path in full"
        elif "://" in path:
            cure = "addresses are not fetched: download it into the workspace first"
        raise NotFound(f"no file or folder {path!r} (looked for {resolved}); {cure}")
    return resolved


def unused(name: str) -> str:
    """Return a name for a new folder: this one, or with the first number that is not there yet."""
    root = roots()[0]
    names = (name, *(f"{name}-{number}" for number in range(2, 1000)))
    return next((one for one in names if not (root / one).exists()), name)


def new_folder(path: str) -> Path:
    """Resolve a folder that will be written: absent, or empty.

    Raises:
        OutsideWorkspace: It leaves the workspace.
        OutputExists: Something is in it already.
        BadInput: This user may not write there.
        DiskFull: The file system is read-only.
    """
    resolved = resolve(path)
    there = next(folder for folder in [resolved, *resolved.parents] if os.path.lexists(folder))
    if not there.is_dir():
        raise OutputExists(f"output folder {path!r}: {there} is not a folder; name a new folder")
    try:
        is_empty = there != resolved or not any(resolved.iterdir())
    except OSError as error:
        raise explain_at(resolved, error) from error
    if not is_empty:
        raise OutputExists(
            f"output folder {path!r} is not empty; name a new folder, nothing is overwritten"
        )
    if not may(there, os.W_OK | os.X_OK):
        number = errno.EROFS if os.statvfs(there).f_flag & os.ST_RDONLY else errno.EACCES
        raise explain_at(resolved, OSError(number, os.strerror(number)))
    return resolved


def open_file(resolved: Path) -> BinaryIO:
    """Open a resolved path for reading without following any link on the way.

    `resolve` has followed the links; one that appears between the check and the opening is refused
    here, because each component is opened relative to the one before it.

    Raises:
        OutsideWorkspace: A component became a symbolic link, or it is not under a root.
        NotFound: It is gone.
        BadInput: It is not a regular file, or may not be read.
    """
    root = next((root for root in roots() if resolved.is_relative_to(root)), None)
    if root is None or ".." in resolved.parts:
        raise OutsideWorkspace(f"{resolved} is outside the workspace")
    file = _open_below(root, resolved)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise BadInput(f"{resolved} is not a regular file; name a data file")
    return os.fdopen(file, "rb")


def _open_below(root: Path, resolved: Path) -> int:
    """Open a path step by step from a root; returns a descriptor."""
    *folders, name = resolved.relative_to(root).parts or (".",)
    step = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        folder = os.open(root, step)
        try:
            for part in folders:
                deeper = os.open(part, step, dir_fd=folder)
                os.close(folder)
                folder = deeper
            # Without O_NONBLOCK a named pipe would wait here for its writer.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            return os.open(name, flags, dir_fd=folder)
        finally:
            os.close(folder)
    except FileNotFoundError as error:
        raise NotFound(f"{resolved} no longer exists; check the spelling") from error
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENOTDIR, errno.EMLINK}:
            raise OutsideWorkspace(
                f"{resolved} became a link while it was being opened; name the file itself"
            ) from error
        raise explain_at(resolved, error) from error
