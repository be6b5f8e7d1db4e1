"""Memory of the machine or of the control group: what is free, and whether the kernel killed.

Source: Linux Documentation/admin-guide/cgroup-v2.rst (memory.max, memory.current, memory.stat,
memory.events) and cgroup-v1/memory.rst (memory.limit_in_bytes, memory.usage_in_bytes,
memory.oom_control); /proc/vmstat has oom_kill since Linux 4.13.
"""

import re
from pathlib import Path

import psutil

CGROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")
HOST_COUNTERS = Path("/proc/vmstat")
# Of a control group: limit, usage, and file pages that can be dropped; version 2, version 1.
GROUP_MEMORY = (
    ("memory.max", "memory.current", ("inactive_file ", "active_file ")),
    (
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        ("total_inactive_file ", "total_active_file "),
    ),
)
# Each step of a Slurm job has a group in the job's, which counts for all of them and has the limit.
# Source: https://slurm.schedmd.com/cgroup_v2.html, hierarchy overview.
SLURM_JOB = re.compile(r"(.*/)?job_\d+(?=/|$)")


def oom_kills() -> int | None:
    """Count the processes of this control group (else of this machine) the kernel has killed.

    In a Slurm job it is the job's group on this machine: the worker is a step of its own.

    Returns:
        A counter that only grows, of use as a difference; None where the kernel has none.
    """
    counts = (_number(path, "oom_kill ") for path in [*_group_files(), HOST_COUNTERS])
    return next((count for count in counts if count is not None), None)


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
    """Return (limit, used) bytes of each control group around this process that has a limit."""
    found = []
    for counters in _group_files():
        # A limit of any group around this one holds, too.
        folders = [counters.parent, *counters.parent.parents]
        for folder in folders[: folders.index(CGROUPS) + 1 if CGROUPS in folders else 1]:
            for limit_file, used_file, keys in GROUP_MEMORY:
                limit, used = (_number(folder / name) for name in (limit_file, used_file))
                if limit and used is not None and limit < machine:
                    droppable = sum(_number(folder / "memory.stat", key) or 0 for key in keys)
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


def _group_files() -> list[Path]:
    """Return where this process's control group may count, version 1 before version 2."""
    try:
        lines = OWN_GROUPS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    files: list[Path] = []
    for line in lines:
        _, controllers, group = line.split(":", 2)
        inside = group.lstrip("/")
        if "memory" in controllers.split(","):
            # A container may see its own group as the root.
            files[:0] = [CGROUPS / "memory" / part / "memory.oom_control" for part in (inside, "")]
        elif not controllers:
            job = SLURM_JOB.match(inside)
            around = [job[0]] if job else []
            files += [CGROUPS / part / "memory.events" for part in (*around, inside)]
    return files
