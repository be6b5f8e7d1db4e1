"""Memory of the machine or of the control group: what is free, and whether the kernel killed."""

import re
from pathlib import Path

import psutil

CGROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")
HOST_COUNTERS = Path("/proc/vmstat")
DROPPABLE = ("inactive_file ", "active_file ")
"""File pages in memory.stat of a control group."""
COUNT = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)
# Each step of a Slurm job has a group in the job's, which counts for all of them and has the limit.
# Source: https://slurm.schedmd.com/cgroup_v2.html, hierarchy overview.
SLURM_JOB = re.compile(r"(.*/)?job_\d+(?=/|$)")


def oom_kills() -> int | None:
    """Count the processes of this control group (else of this machine) the kernel has killed.

    In a Slurm job it is the job's group on this machine: the worker is a step of its own.

    Returns:
        A counter that only grows, of use as a difference; None where the kernel has none.

    Source: Linux Documentation/admin-guide/cgroup-v2.rst (memory.events: oom_kill); /proc/vmstat
    has oom_kill since Linux 4.13.
    """
    for path in [*(folder / "memory.events" for folder in _groups()), HOST_COUNTERS]:
        try:
            found = COUNT.search(path.read_text(encoding="ascii", errors="replace"))
        except OSError:
            continue
        if found:
            return int(found[1])
    return None


def free_fraction() -> float:
    """Return the fraction of the memory that is still available, 0 to 1.

    Of the machine, or of this control group where its limit leaves less. File pages that the
    kernel can drop count as free.
    """
    machine = psutil.virtual_memory()
    fractions = [machine.available / machine.total]
    fractions += [max(0.0, 1 - used / limit) for limit, used in _limits(machine.total)]
    return min(fractions)


def free_bytes() -> int:
    """Return the memory that is still available: of the machine, or of a tighter control group."""
    machine = psutil.virtual_memory()
    left = [max(0, limit - used) for limit, used in _limits(machine.total)]
    return int(min([machine.available, *left]))


def total_bytes() -> int:
    """Return the memory that this process may ever have: the machine's, or its group's limit."""
    total = psutil.virtual_memory().total
    return int(min([total, *(limit for limit, _ in _limits(total))]))


def _limits(machine: int) -> list[tuple[int, int]]:
    """Return (limit, used) bytes of each control group around this process that has a limit.

    Source: Linux Documentation/admin-guide/cgroup-v2.rst (memory.max, memory.current, memory.stat).
    """
    found = []
    for group in _groups():
        # A limit of any group around this one holds, too.
        folders = [group, *group.parents]
        for folder in folders[: folders.index(CGROUPS) + 1]:
            limit, used = (_number(folder / name) for name in ("memory.max", "memory.current"))
            if limit and used is not None and limit < machine:
                droppable = sum(_number(folder / "memory.stat", key) or 0 for key in DROPPABLE)
                found.append((limit, max(0, used - droppable)))
    return found


def _number(file: Path, key: str = "") -> int | None:
    """Read a number from a file of numbers, or of `key number` lines; None if it has none."""
    try:
        text = file.read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    found = re.search(rf"^{key}(\d+)$", text, re.MULTILINE)
    return int(found[1]) if found else None


def _groups() -> list[Path]:
    """Return this process's control groups, a Slurm job's before that of its step."""
    try:
        lines = OWN_GROUPS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    found: list[Path] = []
    for line in lines:
        # Version 2 has no controllers in the line.
        _, controllers, group = line.split(":", 2)
        inside = group.lstrip("/")
        if not controllers:
            job = SLURM_JOB.match(inside)
            found += [CGROUPS / part for part in (*([job[0]] if job else []), inside)]
    return found
