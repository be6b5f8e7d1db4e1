"""What isolates a process here, and the command that starts one."""

import json
import os
import shutil
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

Way = Literal["bubblewrap", "root", "user_namespace", "limits_only"]
SYSTEM_FOLDERS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/nix/store")
PACKAGES = {"site-packages", "dist-packages"}
FILES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random", "/etc/ld.so.cache")
ENVIRONMENT: Mapping[str, str] = {
    "PATH": "/usr/bin:/bin",
    "HOME": "/tmp",
    "LANG": "C.UTF-8",
    # Threads count as processes, and each takes address space.
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
}
"""All that a jailed process has of one."""


@dataclass(frozen=True)
class Limits:
    """What a jailed process may take."""

    memory_mib: int = 1024
    """Of each process in address space, and of all together in memory."""
    processes: int = 16
    file_mib: int = 8
    tmp_mib: int = 32
    open_files: int = 64
    cpu_seconds: int | None = None
    """None: for what runs as long as its owner; each answer is timed by that."""

    def as_rlimits(self, way: Way) -> dict[str, int]:
        """Return the limits by the names of `resource`."""
        limits = {"FSIZE": self.file_mib * 2**20, "NOFILE": self.open_files, "CORE": 0}
        if sys.platform == "linux":
            # macOS refuses it below what every process there has reserved.
            limits["AS"] = self.memory_mib * 2**20
        if self.cpu_seconds is not None:
            limits["CPU"] = self.cpu_seconds
        # Without a namespace the system counts all processes of the user.
        return limits if way == "limits_only" else limits | {"NPROC": self.processes}


@dataclass(frozen=True)
class Isolation:
    """A way to isolate a process."""

    way: Way

    def command(self, limits: Limits) -> list[str]:
        """Return the command of a process that confines itself, and waits for its program."""
        tmp_bytes, seen = limits.tmp_mib * 2**20, visible()
        config = {"way": self.way, "limits": limits.as_rlimits(self.way), "tmp_bytes": tmp_bytes}
        source = Path(__file__).with_name("inside.py").read_text(encoding="utf-8")
        python = [os.path.realpath(sys.executable), "-I", "-S", "-c", source]
        command = _bubblewrap(tmp_bytes, seen) if self.way == "bubblewrap" else []
        return [*command, *python, json.dumps(config | seen)]


LIMITS_ONLY = Isolation("limits_only")
"""For the user's own code where nothing isolates: a process with limits, and no more."""


@cache
def visible() -> dict[str, Any]:
    """Return what of the file system a jailed process sees, all of it read-only."""
    there = [Path(name) for name in SYSTEM_FOLDERS if os.path.lexists(name)]
    links = {str(path): os.readlink(path) for path in there if path.is_symlink()}
    # Folders of the search path with installed packages, which are no project.
    named = [path for path in map(Path, sys.path) if path.name in PACKAGES]
    libraries = [path for path in named if path.is_dir()]
    base = Path(sys.base_prefix).resolve()
    wanted = [*(path for path in there if not path.is_symlink()), base, *libraries]
    wanted += [Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib")]
    folders: list[Path] = []
    for path in sorted({path.resolve() for path in wanted if path.is_dir()}):
        if not any(path.is_relative_to(other) for other in folders):
            folders.append(path)
    return {
        "folders": [str(path) for path in folders],
        "links": links,
        "files": [name for name in FILES if os.path.exists(name)],
        "libraries": [str(path.resolve()) for path in libraries],
    }


def _bubblewrap(tmp_bytes: int, seen: Mapping[str, Any]) -> list[str]:
    command = [shutil.which("bwrap") or "bwrap", "--unshare-all", "--unshare-user"]
    command += ["--disable-userns", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    command += ["--hostname", "jail", "--size", str(tmp_bytes), "--tmpfs", "/tmp"]
    for path, target in seen["links"].items():
        command += ["--symlink", target, path]
    for path in seen["folders"]:
        command += ["--ro-bind", path, path]
    for path in seen["files"]:
        command += ["--dev-bind" if path.startswith("/dev/") else "--ro-bind", path, path]
    command += ["--remount-ro", "/", "--clearenv"]
    for name, value in ENVIRONMENT.items():
        command += ["--setenv", name, value]
    return [*command, "--"]
