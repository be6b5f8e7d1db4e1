"""P14: no path of a request leads out of the workspace, also while somebody swaps what it names."""

import contextlib
import os
import random
import subprocess
import sys

import pytest
from harness import until
from sizes import sized

from ft_tools import workspace as ws
from ft_tools.errors import FineTuningError

CANARY = b"canary: a file outside of the workspace"
SWAPPER = """
import os, sys
target, inside, outside, count = *sys.argv[1:4], int(sys.argv[4])
for number in range(count):
    os.symlink(outside, target + ".link")
    os.replace(target + ".link", target)
    os.link(inside, target + ".file")
    os.replace(target + ".file", target)
"""


@pytest.fixture
def outside(workspace, tmp_path_factory):
    """Give a folder outside, with links of many kinds to it inside."""
    folder = tmp_path_factory.mktemp("outside")
    (folder / "data").write_bytes(CANARY)
    (folder / "deep").mkdir()
    (folder / "deep" / "data").write_bytes(CANARY)
    inside = workspace / "in"
    inside.mkdir()
    for place in (workspace, inside):
        (place / "data").write_bytes(b"inside")
        (place / "to-file").symlink_to(folder / "data")
        (place / "to-folder").symlink_to(folder)
        (place / "relative").symlink_to(os.path.relpath(folder, place))
        (place / "chain").symlink_to("chain-2")
        (place / "chain-2").symlink_to("to-folder")
        (place / "loop").symlink_to("loop")
        (place / "root").symlink_to("/")
        (place / "proc").symlink_to("/proc/self/root")
        (place / "cwd").symlink_to("/proc/self/cwd")
        (place / "dangling").symlink_to(folder / "absent")
    twin = workspace.with_name(workspace.name + "-twin")
    twin.mkdir()
    (twin / "data").write_bytes(CANARY)
    return folder


def nasty_paths(workspace, outside, count, seed=3):
    """Yield paths of a grammar: beginnings, parts and endings that have led out somewhere."""
    rng = random.Random(seed)
    up = os.path.relpath(outside, workspace)
    starts = ["", "", "", "./", "/", "//", "~/", "~root/", "file:", "file://", "\\\\?\\", "C:\\"]
    starts += [f"{workspace}/", f"{workspace}-twin/", f"{outside}/", f"{up}/", "/proc/self/root/"]
    parts = ["..", "...", ".", "in", "in", "data", "data", "deep", "absent", "..\\"]
    parts += ["", "a b", "%2e%2e", "%00"]
    parts += ["to-file", "to-folder", "relative", "chain", "loop", "root", "proc", "cwd"]
    parts += ["dangling", "\u2024\u2024", "\u2215", "\uff0e\uff0e", "\u202e", "\x00", "\ud800"]
    parts += ["$HOME", "`id`", ";", "*", "con", "x" * 300, str(outside), str(outside).lstrip("/")]
    ends = ["", "", "/", "/.", "/..", "/data", "/deep/data", ".", " ", "\n"]
    ends += ["\x00.jsonl", "?x", "#"]
    for _ in range(count):
        middle = "/".join(rng.choice(parts) for _ in range(rng.randrange(5)))
        yield rng.choice(starts) + middle + rng.choice(ends)


def read_through(path):
    with ws.open_file(ws.existing(path)) as stream:
        return stream.read()


def escapes(path, workspace):
    """Count the functions through which a path led out."""
    found = 0
    root = os.path.realpath(workspace)
    for function in (ws.resolve, ws.existing, ws.new_folder):
        try:
            real = os.path.realpath(function(path))
        except FineTuningError:
            continue
        found += not (real == root or real.startswith(root + "/"))
    with contextlib.suppress(FineTuningError):
        found += read_through(path) == CANARY
    return found


def is_readable(path):
    """Tell whether a path names a file inside: a grammar that names none would prove nothing."""
    with contextlib.suppress(FineTuningError):
        return read_through(path) == b"inside"
    return False


@sized("nasty paths")
def test_no_path_of_the_grammar_leads_out(workspace, outside, size):
    paths = list(nasty_paths(workspace, outside, size))
    bad = [path for path in paths if escapes(path, workspace)]
    assert bad == []
    assert sum(map(is_readable, paths)) >= 3


def _naive(workspace, path):
    """Join, compare the beginning, open: what the functions must be better than."""
    joined = os.path.normpath(os.path.join(workspace, path))
    if not joined.startswith(str(workspace)):
        return b""
    try:
        with open(joined, "rb") as stream:
            return stream.read(100)
    except (OSError, ValueError):
        return b""


def test_joining_and_comparing_the_beginning_would_lead_out(workspace, outside):
    """The negative control: the same grammar finds the canary."""
    paths = nasty_paths(workspace, outside, 2_000)
    assert sum(_naive(workspace, path) == CANARY for path in paths) >= 1


def swapping(target, inside, outside, count):
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", SWAPPER, target, inside, outside, str(count)]
    )


def read_while_swapped(workspace, outside, count, read):
    """Read a path while another process swaps a file and a link; returns (reads, canaries)."""
    (workspace / "target").write_bytes(b"inside")
    names = [str(p) for p in (workspace / "target", workspace / "data", outside / "data")]
    reads = canaries = 0
    with swapping(*names, count) as swapper:
        while swapper.poll() is None:
            try:
                data = read("target")
            except (FineTuningError, OSError):
                continue
            reads += 1
            canaries += data == CANARY
    return reads, canaries


@sized("file swaps")
def test_a_link_swapped_in_while_a_file_is_opened_is_not_followed(workspace, outside, size):
    reads = rounds = canaries = 0
    while rounds < 20 and reads < 10:
        more, found = read_while_swapped(workspace, outside, size, read_through)
        reads, canaries, rounds = reads + more, canaries + found, rounds + 1
    assert canaries == 0
    assert reads > 0


def test_checking_first_and_opening_by_name_would_follow_it(workspace, outside):
    """The negative control: the same check, then an ordinary open."""

    def read(path):
        return ws.existing(path).read_bytes()

    found = until(lambda: read_while_swapped(workspace, outside, 2_000, read)[1])
    assert found >= 1
