"""Attempts to break out of isolation, and the program that runs one.

`told` is what there is to find.
Each is a body of Python that sets `reached` to what it got; where nothing isolates, all get it.
"""

ATTEMPTS = {
    "connect to a server": """
import socket
socket.create_connection(("127.0.0.1", told["port"]), 2).close()
reached = True
""",
    "send a datagram": """
import socket
one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
reached = one.sendto(b"x", ("192.0.2.1", 9)) == 1
""",
    "connect to an abstract socket": """
import socket
socket.socket(socket.AF_UNIX).connect(chr(0) + told["abstract"])
reached = True
""",
    "read a secret": "reached = open(told['secret']).read() == 'secret'",
    "read a secret by a link": """
import os
os.symlink(told["secret"], told["link"])
reached = open(told["link"]).read() == "secret"
os.unlink(told["link"])
""",
    "read a secret by another root": """
import os
reached = any(
    open(f"/proc/{one}/root" + told["secret"]).read() == "secret" for one in ("self", 1)
)
""",
    "list the workspace": "import os; reached = 'secret' in os.listdir(told['folder'])",
    "list the home": "import os; reached = len(os.listdir(told['home'])) > told['at_most']",
    "write in the workspace": """
import os
path = os.path.join(told["folder"], "written")
open(path, "w").close()
reached = os.path.exists(path)
""",
    "write to the system": """
import os
reached = False
for folder in ("/", "/usr", "/dev", "/etc", "/var/tmp"):
    path = os.path.join(folder, told["mark"])
    try:
        open(path, "w").close()
        os.unlink(path)
        reached = True
    except OSError:
        pass
""",
    "read the environment": "import os; reached = os.environ.get('SECRET_TOKEN') == 'secret'",
    "read an environment in /proc": """
reached = b"PATH=" in open(f"/proc/{told['owner']}/environ", "rb").read()
""",
    "see the owner's process": "import os; os.kill(told['owner'], 0); reached = True",
    "signal the group of the owner's process": """
import os
reached = os.getpgid(0) == told["group"] or os.getpgid(told["owner"]) > 0
""",
    "start many processes": """
import os, signal
children = []
reached = False
try:
    for _ in range(40):
        child = os.fork()
        if not child:
            signal.pause()
            os._exit(0)
        children.append(child)
    reached = True
finally:
    for child in children:
        os.kill(child, 9)
        os.waitpid(child, 0)
""",
    "start many threads": """
import threading
end = threading.Event()
started = []
try:
    for _ in range(40):
        one = threading.Thread(target=end.wait)
        one.start()
        started.append(one)
    reached = True
finally:
    end.set()
""",
    "take much memory": "reached = len(bytearray(told['bytes'])) > 0",
    "write a large file": """
import os, tempfile
with tempfile.TemporaryFile() as file:
    file.write(bytes(told["file_bytes"]))
    file.flush()
    reached = True
""",
    "open many files": """
opened = [open("/dev/null") for _ in range(100)]
reached = True
""",
    "raise its limits": """
import resource
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
reached = hard >= 100
""",
    "read the users of the machine": """
import os
reached = os.path.exists("/etc/passwd") or os.path.exists("/etc/hostname")
""",
    "use a device": """
import os
reached = any(os.path.exists(f"/dev/{name}") for name in ("tty", "mem", "kvm", "fuse", "shm"))
""",
    "open a socket to the host of a virtual machine": """
import socket
reached = socket.socket(40, socket.SOCK_STREAM).family == 40
""",
    "outlive its owner": """
import ctypes
reached = ctypes.CDLL(None).prctl(1, 0, 0, 0, 0) == 0
""",
    "take memory that no limit counts": """
import os
reached = os.memfd_create("x") > 0
""",
    "take memory that outlives it": """
import ctypes
libc = ctypes.CDLL(None)
number = libc.shmget(0, 4096, 0o1600)
reached = number >= 0 and libc.shmctl(number, 0, 0) == 0
""",
    "read the name of the machine": """
import os
reached = os.uname().nodename == told["name"]
""",
    "keep an inherited file": """
import os
reached = False
for number in range(3, 64):
    try:
        reached |= os.readlink(f"/proc/self/fd/{number}").endswith("inherited")
    except OSError:
        pass
    try:
        reached |= os.pread(number, 9, 0) == b"inherited"
    except OSError:
        pass
""",
}
ROOTS = {
    "mount over a folder": """
import ctypes
reached = ctypes.CDLL(None).mount(b"none", b"/tmp", b"tmpfs", 0, None) == 0
""",
    "make a user namespace": """
import ctypes
reached = ctypes.CDLL(None).unshare(0x10000000) == 0
""",
    "leave the root": """
import os
os.mkdir("/tmp/x")
os.chroot("/tmp/x")
reached = True
""",
    "become root": "import os; os.setuid(0); reached = os.getuid() == 0",
    "make a device": """
import os, stat
os.mknod("/tmp/device", stat.S_IFBLK | 0o600, os.makedev(254, 0))
reached = True
""",
    "set the name of the machine": """
import ctypes
reached = ctypes.CDLL(None).sethostname(b"x", 1) == 0
""",
    "trace a process": """
import ctypes, os
reached = ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0) == 0 and os.getppid() > 0
""",
}
"""What only root can; nobody tries these without isolation."""

_WRITE = """
import os
for number in range(3, 64):
    try:
        os.write(number, {})
    except OSError:
        pass
"""
_SPREAD = """
import os, time
kept = [bytearray(b"x") * 60_000_000]
for _ in range(7):
    if not os.fork():
        kept.append(bytearray(b"x") * 60_000_000)
        break
time.sleep(60)
"""
ENDLESS = [
    ("while True: pass", {"time"}),
    ("import time; time.sleep(60)", {"time"}),
    ("kept = []\nwhile True: kept.append(bytearray(10**6))", {False, "time", "memory"}),
    ("import os\nwhile True: os.fork()", {False, "time", "memory"}),
    (_SPREAD, {"memory"}),
    (_WRITE.format("b'x' * 2**23"), {"output"}),
    (_WRITE.format("b'x' + bytes([10])"), {"no_message"}),
    ("import os; os._exit(0)", {"ended"}),
    ("import ctypes; ctypes.string_at(0)", {"ended"}),
]
"""What takes all it can, and how it may end; False: an error inside."""


def main(receive, send):
    """Run each attempt that is sent."""
    while (asked := receive()) is not None:
        module = {"told": asked["told"], "reached": False}
        try:
            exec(asked["attempt"], module)
            send(bool(module["reached"]))
        except BaseException:
            send(False)
