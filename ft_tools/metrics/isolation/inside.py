"""What a jailed process does first, as `python -I -S -c THIS CONFIG`: standard library only.

Under `bubblewrap` it is confined already. Otherwise it makes its own namespaces here: as root
without a user namespace, so that it can become a user that has no other process; as anyone else
in one. The new root is a chroot below the root of its mounts: in a chroot no further user
namespace can be made. Nothing of /proc or /sys is there.

Then limits, no privileges, and the program that its owner sends as the first line. Lines of JSON go
both ways over what were stdin and stdout; the code that runs here has /dev/null in their place.

Source: man 2 pivot_root, 7 user_namespaces, 7 pid_namespaces, 7 capabilities, 2 prctl, 2 seccomp
"""

import ctypes
import json
import os
import resource
import signal
import struct
import sys
from typing import Any

# From linux/sched.h, sys/mount.h, linux/prctl.h and linux/capability.h.
NEW_MOUNTS, NEW_HOST, NEW_IPC = 0x20000, 0x4000000, 0x8000000
NEW_USERS, NEW_PIDS, NEW_NET = 0x10000000, 0x20000000, 0x40000000
READ_ONLY, NO_SETUID, NO_DEVICES, REMOUNT = 1, 2, 4, 32
BIND, RECURSIVE, PRIVATE = 1 << 12, 1 << 14, 1 << 18
HERE, BELOW_TOO = -100, 0x8000
DETACH = 2
FILTER_CALLS = 22
DIE_WITH_PARENT, DROP_BOUND, NO_NEW_PRIVILEGES, AMBIENT, CLEAR_ALL = 1, 24, 38, 47, 4
CAPABILITIES_V3 = 0x20080522
BASE = "/proc"
"""A folder that is always there to mount the new root on; nothing needs the old one any more."""
OWN_USER = 1_900_000_000
"""First of the numbers that no user has: with one of its own, limits count nobody else."""
NOBODY = 65534
INSIDE_USER = 1000
TMP_OPTIONS = "size={bytes},nr_inodes=4096,mode=1777"

# Processor -> its number in linux/audit.h; below, a system call's numbers there, in this order.
PROCESSORS = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
REFUSED = {
    "shmget": (29, 194), "semget": (64, 190), "msgget": (68, 186), "mq_open": (240, 180),
    "memfd_create": (319, 279), "memfd_secret": (447, 447),
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "syslog": (103, 116), "bpf": (321, 280), "perf_event_open": (298, 241),
    "userfaultfd": (323, 282), "io_uring_setup": (425, 425), "fanotify_init": (300, 262),
    "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40), "umount2": (166, 39),
    "pivot_root": (155, 41), "chroot": (161, 51), "open_by_handle_at": (304, 265),
    "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "fsmount": (432, 432), "mount_setattr": (442, 442),
}  # fmt: skip
"""Memory and names that no limit and no namespace counts, and ways into the kernel that code has
no need of."""
SOCKET, PRCTL, CLONE, CLONE3 = (41, 198), (157, 167), (56, 220), (435, 435)
FAMILIES = (1, 2, 10)
"""Sockets that a namespace keeps in: unix, IPv4, IPv6; those to a virtual machine's host it does
not."""

libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    """Confine this process, and run the program."""
    config = json.loads(sys.argv[1])
    receive_from, send_to = os.dup(0), os.dup(1)
    null = os.open("/dev/null", os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    os.close(null)
    with os.fdopen(receive_from, "rb") as lines, os.fdopen(send_to, "wb", buffering=0) as out:

        def receive() -> Any:
            line = lines.readline()
            return json.loads(line) if line else None

        def send(message: Any) -> None:
            out.write(json.dumps(message).encode() + b"\n")

        try:
            confine(config, [receive_from, send_to])
        except OSError as error:
            send({"refused": f"{error.filename or 'system call'}: {error.strerror}"})
            return
        send({"ready": True})
        program = receive()
        if program is not None:
            sys.path += config["libraries"]
            module: dict[str, Any] = {"__name__": "program"}
            exec(compile(program["program"], "program", "exec"), module)
            module["main"](receive, send)


def confine(config: dict[str, Any], channel: list[int]) -> None:
    """Take from this process what the code that it will run must not have.

    Raises:
        OSError: The system does not allow it; `filename` is what was tried.
    """
    way = config["way"]
    if way in ("root", "user_namespace"):
        enter_namespaces(is_root=way == "root", channel=channel)
        change_root(config)
    if way != "limits_only":
        # Else a signal to the group of this process would reach its owner's, whatever namespace.
        os.setsid()
    for name, value in config["limits"].items():
        number = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(number)[1]
        lower = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(number, (lower, lower))
    if sys.platform == "linux":
        check("no_new_privs", libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0))
    if way in ("root", "user_namespace"):
        drop_privileges(is_root=way == "root")
    if way != "limits_only":
        check("die with parent", libc.prctl(DIE_WITH_PARENT, signal.SIGKILL, 0, 0, 0))
        os.chdir("/tmp")
        refuse_calls()


def enter_namespaces(*, is_root: bool, channel: list[int]) -> None:
    """Continue as the first process of namespaces of its own; this one waits for its end."""
    check("die with parent", libc.prctl(DIE_WITH_PARENT, signal.SIGKILL, 0, 0, 0))
    user, group = os.geteuid(), os.getegid()
    flags = NEW_MOUNTS | NEW_HOST | NEW_IPC | NEW_PIDS | NEW_NET
    check("unshare", libc.unshare(flags | (0 if is_root else NEW_USERS)))
    if not is_root:
        write("/proc/self/setgroups", "deny")
        write("/proc/self/uid_map", f"{INSIDE_USER} {user} 1")
        write("/proc/self/gid_map", f"{INSIDE_USER} {group} 1")
    if child := os.fork():
        # The channel is the child's alone, which closes it by ending.
        for number in channel:
            os.close(number)
        os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 255)


def change_root(config: dict[str, Any]) -> None:
    """Make a root with nothing but the interpreter, its libraries and a small /tmp."""
    check("sethostname", libc.sethostname(b"jail", 4))
    mount("none", "/", "", RECURSIVE | PRIVATE)
    mount("tmpfs", BASE, "tmpfs", NO_SETUID | NO_DEVICES, "size=1m,mode=755")
    root = f"{BASE}/root"
    os.makedirs(f"{BASE}/old")
    os.makedirs(f"{root}/tmp")
    options = TMP_OPTIONS.format(bytes=config["tmp_bytes"])
    mount("tmpfs", f"{root}/tmp", "tmpfs", NO_SETUID | NO_DEVICES, options)
    for path, target in config["links"].items():
        os.symlink(target, root + path)
    for path in config["folders"]:
        os.makedirs(root + path, exist_ok=True)
        bind(path, root + path)
    for path in config["files"]:
        os.makedirs(os.path.dirname(root + path), exist_ok=True)
        os.close(os.open(root + path, os.O_CREAT | os.O_WRONLY))
        bind(path, root + path, is_device=path.startswith("/dev/"))
    number = REFUSED["pivot_root"][processor()]
    check("pivot_root", libc.syscall(number, BASE.encode(), f"{BASE}/old".encode()))
    os.chdir("/")
    check("umount", libc.umount2(b"/old", DETACH))
    mount("none", "/", "", REMOUNT | BIND | READ_ONLY | NO_SETUID | NO_DEVICES)
    os.chroot("/root")
    os.chdir("/")


def bind(source: str, target: str, *, is_device: bool = False) -> None:
    """Show a file or folder of the old root at the same place of the new one, read-only.

    What is mounted below it comes along, as it has to in a user namespace, and is read-only too.
    """
    mount(source, target, "", BIND | RECURSIVE)
    if not is_device:
        change = struct.pack("=QQQQ", READ_ONLY | NO_SETUID | NO_DEVICES, 0, 0, 0)
        arguments = (HERE, target.encode(), BELOW_TOO, change, len(change))
        number = REFUSED["mount_setattr"][processor()]
        check(f"mount_setattr {target}", libc.syscall(number, *arguments))


def drop_privileges(*, is_root: bool) -> None:
    """Become a user with no capability, and with no way to one."""
    for capability in range(64):
        if libc.prctl(DROP_BOUND, capability, 0, 0, 0) and capability == 0:
            check("drop capabilities", -1)
    libc.prctl(AMBIENT, CLEAR_ALL, 0, 0, 0)
    if is_root:
        os.setgroups([])
        own = OWN_USER + int.from_bytes(os.urandom(3), "big")
        try:
            os.setresgid(own, own, own)
            os.setresuid(own, own, own)
        except OSError:
            # A container may map few numbers.
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
    header = (ctypes.c_uint32 * 2)(CAPABILITIES_V3, 0)
    check("capset", libc.capset(header, (ctypes.c_uint32 * 6)()))


def refuse_calls() -> None:
    """Let system calls fail that would go around the namespaces and limits."""
    at = processor()
    load, equal, has, above, end = 0x20, 0x15, 0x45, 0x35, 0x06
    allow, kill = 0x7FFF0000, 0x80000000
    no_permission, no_family, no_call = (0x50000 | number for number in (1, 97, 38))
    program = [(load, 0, 0, 4), (equal, 1, 0, [*PROCESSORS.values()][at]), (end, 0, 0, kill)]
    program += [(load, 0, 0, 0), (above, 0, 1, 1 << 30), (end, 0, 0, no_permission)]
    for numbers in REFUSED.values():
        program += [(equal, 0, 1, numbers[at]), (end, 0, 0, no_permission)]
    # Its flags lie in memory, where a filter cannot look; libraries fall back on clone.
    program += [(equal, 0, 1, CLONE3[at]), (end, 0, 0, no_call)]
    for numbers, test, value in ((CLONE, has, NEW_USERS), (PRCTL, equal, DIE_WITH_PARENT)):
        program += [(equal, 0, 4, numbers[at]), (load, 0, 0, 16), (test, 0, 1, value)]
        program += [(end, 0, 0, no_permission), (end, 0, 0, allow)]
    program += [(equal, 0, 3 + len(FAMILIES), SOCKET[at]), (load, 0, 0, 16)]
    program += [(equal, len(FAMILIES) - i, 0, one) for i, one in enumerate(FAMILIES)]
    program += [(end, 0, 0, no_family), (end, 0, 0, allow), (end, 0, 0, allow)]
    lines = b"".join(struct.pack("=HBBI", *line) for line in program)
    filters = ctypes.create_string_buffer(lines)
    header = struct.pack("@HP", len(program), ctypes.addressof(filters))
    check("seccomp", libc.prctl(FILTER_CALLS, 2, ctypes.create_string_buffer(header), 0, 0))


def processor() -> int:
    """Return the place of this processor's numbers; OSError where they are not known."""
    name = os.uname().machine
    if name not in PROCESSORS:
        raise OSError(0, f"numbers are not known for {name}", "system calls")
    return [*PROCESSORS].index(name)


def mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    """Mount, or raise."""
    arguments = (source.encode(), target.encode(), kind.encode() or None)
    found = libc.mount(*arguments, ctypes.c_ulong(flags), options.encode() or None)
    check(f"mount {target}", found)


def write(path: str, text: str) -> None:
    """Write a setting of the system."""
    with open(path, "w") as file:
        file.write(text)


def check(what: str, result: int) -> None:
    """Raise what a system call ended with."""
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


if __name__ == "__main__":
    main()
