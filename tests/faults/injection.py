"""Kill a program, or let its system calls fail, at each call in turn (strace's inject)."""

import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from harness import processes_naming, until
from programs import MARKER

PROGRAM = Path(__file__).parent / "programs.py"
CALLS = (
    *("write", "pwrite64", "fsync", "fdatasync", "ftruncate", "copy_file_range", "flock"),
    *("openat", "close", "rename", "renameat2", "mkdir", "mkdirat", "rmdir", "unlink", "unlinkat"),
    *("chmod", "fchmod", "fchmodat", "getdents64"),
)
SECONDS = 300


def require_strace() -> None:
    """Skip the test where strace is absent or may not trace."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    if subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True).returncode:
        pytest.skip("strace may not trace here")


def clean(folder: Path) -> None:
    """Remove a workspace once its runs have ended: a late one would write into the next."""
    # Each look reads what every process of the machine was started with.
    until(lambda: not processes_naming(folder), pause=0.05)
    shutil.rmtree(folder)


def call_points(name: str, prepare, folder: Path) -> list[tuple[str, int]]:
    """Return each call that a program makes after the marker, as (system call, its number)."""
    log = folder.with_name(f"{folder.name}-{name}.strace")
    # Once for the compiled modules, which the first run writes.
    prepare(folder)
    _run(name, folder, "trace=none", log)
    clean(folder)
    prepare(folder)
    _run(name, folder, f"trace={','.join(CALLS)},access,faccessat2", log)
    clean(folder)
    before: Counter[str] = Counter()
    found = []
    begun = False
    for line in log.read_text(errors="replace").splitlines():
        call = re.match(r"(?:\d+ +)?(\w+)\(", line)
        if call is None:
            continue
        if MARKER in line:
            begun = True
        elif call[1] in CALLS:
            before[call[1]] += 1
            if begun:
                found.append((call[1], before[call[1]]))
    assert begun
    return found


def durable_steps(name: str, prepare, folder: Path) -> list[tuple[str, str]]:
    """Return what a program makes durable and renames, in order: (fsync or rename, path)."""
    prepare(folder)
    log = folder.with_name(f"{folder.name}-{name}.strace")
    _run(name, folder, "trace=fsync,rename", log)
    clean(folder)
    found = re.findall(r'(fsync)\(\d+<([^>]+)>|(rename)\("[^"]+", "([^"]+)"', log.read_text())
    return [(row[0] or row[2], row[1] or row[3]) for row in found]


def inject(name: str, folder: Path, call: str, number: int, what: str):
    """Run a program with a fault at one call; `what` is signal=SIGKILL or error=ENOSPC."""
    log = folder.with_name(f"{folder.name}-{name}.strace")
    return _run(name, folder, f"inject={call}:{what}:when={number}", log)


def _run(name: str, folder: Path, expression: str, log: Path):
    # Isolated, and without site where it can be: start-up calls are the same in each trial.
    light = [] if name in ("change_status", "start_run") else ["-I", "-S"]
    # strace follows no child: the supervisor that a start makes is left alone.
    strace = ["strace", "-qq", "-y", "-o", str(log), "-e", expression]
    if expression.startswith("inject="):
        strace[-2:-2] = ["-e", f"trace={expression.split('=')[1].split(':')[0]}"]
    return subprocess.run(
        [*strace, sys.executable, *light, str(PROGRAM), name, str(folder)],
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )


def spread(found: list, most: int | None) -> list:
    """Return evenly spread elements, the first and the last among them."""
    if most is None or len(found) <= most:
        return found
    return [found[round(i * (len(found) - 1) / (most - 1))] for i in range(most)]
