"""Code of a model reaches nothing; each attempt has a control that does without isolation."""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ft_tools.metrics.isolation.jail import LIMITS_ONLY, Isolation, Limits, visible
from ft_tools.metrics.isolation.probe import available, find, try_out
from ft_tools.metrics.isolation.process import JailedProcess, JailEnded
from tests.unit import attempts

PROGRAM = Path(attempts.__file__)
ISOLATION = available()
needs_isolation = pytest.mark.skipif(
    ISOLATION is None, reason=f"nothing isolates here: {find().reason}"
)
FEW = Limits(memory_mib=256, processes=16)
MANY = Limits(memory_mib=2**16, file_mib=2**10, open_files=1024)


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    """Return what there is to find on this machine: `told` of the attempts."""
    folder = tmp_path_factory.mktemp("workspace")
    secret = folder / "secret"
    secret.write_text("secret")
    inherited = folder / "inherited"
    inherited.write_text("inherited")
    file = os.open(inherited, os.O_RDONLY)
    os.set_inheritable(file, True)
    ways = {Path(name).relative_to(Path.home()).parts[:1] for name in visible()["folders"]
            if Path(name).is_relative_to(Path.home())}  # fmt: skip
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.socket(socket.AF_UNIX) as unix,
    ):
        unix.bind(f"\0{folder}")
        unix.listen()
        yield {
            "port": server.getsockname()[1],
            "abstract": str(folder),
            "secret": str(secret),
            "folder": str(folder),
            "link": f"/tmp/link-{os.getpid()}",
            "home": str(Path.home()),
            "at_most": len(ways),
            "mark": f"mark-{os.getpid()}",
            "owner": os.getpid(),
            "group": os.getpgid(0),
            "bytes": 2**30,
            "file_bytes": 2**25,
            "name": os.uname().nodename,
        }
    os.close(file)


@pytest.fixture(scope="module")
def jail():
    with JailedProcess(ISOLATION, PROGRAM, FEW) as process:
        yield process


def reached(process, attempt, told, seconds=20):
    return process.ask({"attempt": attempt, "told": told}, time.monotonic() + seconds)


@needs_isolation
@pytest.mark.parametrize("name", attempts.ATTEMPTS | attempts.ROOTS)
def test_code_in_isolation_cannot(name, jail, there):
    attempt = (attempts.ATTEMPTS | attempts.ROOTS)[name]
    assert reached(jail, attempt, there) is False


NOT_HERE = {
    "send a datagram": "this machine may have no route of its own",
    "open a socket to the host of a virtual machine": "this kernel may have none",
}


@pytest.mark.parametrize("name", attempts.ATTEMPTS)
def test_code_without_isolation_can(name, there):
    """The control: as a plain process, so that it is the isolation that holds above."""
    source = f"told = {there!r}\nreached = False\n{attempts.ATTEMPTS[name]}\nassert reached"
    environment = os.environ | {"SECRET_TOKEN": "secret"}
    found = subprocess.run(
        [sys.executable, "-c", source], env=environment, capture_output=True, close_fds=False
    )
    if found.returncode and name in NOT_HERE:
        pytest.skip(NOT_HERE[name])
    assert found.returncode == 0, found.stderr.decode()


@needs_isolation
@pytest.mark.parametrize(("attempt", "why"), attempts.ENDLESS)
def test_what_does_not_end_is_ended_with_all_that_it_started(attempt, why, there):
    began = time.monotonic()
    with JailedProcess(ISOLATION, PROGRAM, FEW) as process:
        pids = [one.pid for one in process._tree()]
        try:
            ended = reached(process, attempt, there, seconds=3)
        except JailEnded as error:
            ended = error.why
    assert ended in why
    assert time.monotonic() - began < 15
    assert len(pids) > 1
    assert all_end(pids)


@needs_isolation
def test_a_message_that_is_not_read_does_not_hold_its_owner(there):
    with JailedProcess(ISOLATION, PROGRAM, FEW) as process:
        sleep = {"attempt": "import time; time.sleep(60)", "told": there}
        process._write(sleep, time.monotonic() + 1)
        with pytest.raises(JailEnded, match="time"):
            process.ask("x" * 2**22, time.monotonic() + 1)


@needs_isolation
def test_a_jail_ends_with_its_owner():
    """Killed with SIGKILL, the owner can end nothing itself."""
    source = (
        "import time; from pathlib import Path\n"
        "from ft_tools.metrics.isolation.probe import require\n"
        "from ft_tools.metrics.isolation.process import JailedProcess\n"
        "from ft_tools.metrics.isolation.jail import Limits\n"
        f"jail = JailedProcess(require(), Path({str(PROGRAM)!r}), Limits())\n"
        "print(*(one.pid for one in jail._tree()), flush=True)\n"
        "jail.ask({'attempt': 'while True: pass', 'told': {}}, time.monotonic() + 60)"
    )
    owner = subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, text=True)
    pids = [int(one) for one in owner.stdout.readline().split()]
    assert len(pids) > 1
    owner.kill()
    owner.wait()
    owner.stdout.close()
    assert all_end(pids)


def all_end(pids):
    deadline = time.monotonic() + 10
    while any(map(_is_running, pids)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not any(map(_is_running, pids))


def _is_running(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.skipif(sys.platform != "linux", reason="isolation needs Linux")
def test_the_probe_finds_what_no_isolation_lets_through():
    assert "the network" in try_out(LIMITS_ONLY)
    assert "files of this machine" in try_out(LIMITS_ONLY)


@needs_isolation
@pytest.mark.parametrize("way", ["bubblewrap", "user_namespace"])
def test_other_ways_let_nothing_through_but_the_processes_of_root(way):
    found = try_out(Isolation(way))
    if "reached" not in found and found:
        pytest.skip(found)
    allowed = "code in it reached more processes than its limit" if os.geteuid() == 0 else ""
    assert found in {"", allowed}


@pytest.mark.skipif(not shutil.which("unshare"), reason="needs unshare to take namespaces away")
def test_without_any_isolation_code_is_refused_with_what_was_tried():
    """In a user namespace that may have no other, and in which root is the only user."""
    source = "from ft_tools.metrics.isolation.probe import require; require()"
    script = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$0" -c "$1"'
    found = subprocess.run(
        ["unshare", "--user", "--map-root-user", "sh", "-c", script, sys.executable, source],
        capture_output=True,
        text=True,
    )
    if found.stderr.startswith("unshare: "):
        pytest.skip(found.stderr)
    assert found.returncode == 1
    assert "ft_tools.errors.Missing" in found.stderr
    for way in ("root", "bubblewrap", "user_namespace"):
        assert f"{way}: " in found.stderr
