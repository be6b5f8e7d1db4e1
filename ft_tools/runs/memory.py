"""Whether the kernel's out-of-memory killer acted: the difference between a kill and a kill."""

import re
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")
HOST_COUNTERS = Path("/proc/vmstat")
COUNT = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)


def oom_kills() -> int | None:
    """Count the processes of this control group (else of this machine) the kernel has killed.

    Returns:
        A counter that only grows, of use as a difference; None where the kernel has none.

    Source: Linux Documentation/admin-guide/cgroup-v2.rst (memory.events: oom_kill) and
    cgroup-v1/memory.rst (memory.oom_control: oom_kill); /proc/vmstat has oom_kill since Linux 4.13.
    """
    for path in [*_group_files(), HOST_COUNTERS]:
        try:
            found = COUNT.search(path.read_text(encoding="ascii", errors="replace"))
        except OSError:
            continue
        if found:
            return int(found[1])
    return None


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
            files.append(CGROUPS / inside / "memory.events")
    return files
