"""P19: on a shared machine another user can neither look into a run nor get in its way."""

import contextlib
import json
import os
import shutil
import stat
import tempfile
from pathlib import Path

import pytest
from harness import ENDED, launch, until_state

from ft_tools import workspace as ws
from ft_tools.errors import BadInput

# The child that is forked only makes system calls, so the threads it lacks are not missed.
pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")

STRANGER = 65534
UMASKS = (0o000, 0o022, 0o077)


@pytest.fixture
def shared(runs_here, monkeypatch):
    """Give a workspace on a path that every user may enter."""
    if os.geteuid() != 0:
        pytest.skip("a second user needs root")
    folder = Path(tempfile.mkdtemp(prefix="shared-"))
    folder.chmod(0o755)
    monkeypatch.setenv(ws.VARIABLE, str(folder))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(params=UMASKS, ids=lambda mask: f"umask {mask:03o}")
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def as_stranger(act):
    """Run a function as another user, in a forked child; returns what it returned."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(STRANGER)
            os.setuid(STRANGER)
            os.write(write, json.dumps(act()).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as stream:
        said = stream.read()
    os.waitpid(child, 0)
    return json.loads(said)


def intrude(paths):
    """Try everything on every path; returns (tries, what succeeded)."""
    tries, done = 0, []
    for path in paths:
        beside = os.path.join(os.path.dirname(path), "intruder")
        acts = {
            "list": lambda p=path: os.listdir(p),
            "read": lambda p=path: open(p, "rb").close(),
            "write": lambda p=path: open(p, "ab").close(),
            "remove": lambda p=path: os.unlink(p),
            "move": lambda p=path, b=beside: os.rename(p, b),
            "create": lambda b=beside: open(b, "wb").close(),
            "link": lambda p=path, b=beside: os.symlink("/etc/passwd", b),
        }
        for name, act in acts.items():
            tries += 1
            with contextlib.suppress(OSError):
                act()
                done.append(f"{name} {path}")
    return tries, done


def test_another_user_can_do_nothing_to_a_run(shared, umask):
    run_ids = [launch("steps:2", "publish") for _ in range(3)]
    assert {until_state(run_id, *ENDED) for run_id in run_ids} == {"succeeded"}
    inside = list((shared / "runs").rglob("*"))
    modes = {stat.S_IMODE(p.stat().st_mode) for p in inside if p.is_file()}
    assert modes == {0o600}
    assert {stat.S_IMODE(p.stat().st_mode) for p in inside if p.is_dir()} == {0o700}
    tries, done = as_stranger(lambda: intrude([str(path) for path in inside]))
    assert done == []
    assert tries >= 200


def test_the_same_intrusions_would_succeed_in_ordinary_folders(shared):
    """The negative control: a folder made with the default mode under umask 000."""
    before = os.umask(0)
    (shared / "naive").mkdir()
    (shared / "naive" / "file").write_text("x")
    os.umask(before)
    _, done = as_stranger(lambda: intrude([str(shared / "naive" / "file")]))
    assert {line.split()[0] for line in done} >= {"read", "write", "create"}


def make_folder(path):
    os.mkdir(path, 0o777)
    os.chmod(path, 0o777)
    return True


def test_a_runs_folder_that_another_user_made_first_is_refused(shared):
    shared.chmod(0o1777)
    assert as_stranger(lambda: make_folder(str(shared / "runs")))
    with pytest.raises(BadInput, match="belongs to user 65534"):
        launch("steps:1")
    assert not list((shared / "runs").iterdir())
