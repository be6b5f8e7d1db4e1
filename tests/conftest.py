"""Fixtures that several test folders use."""

import gc
import os
import signal
import subprocess

import pytest
from hypothesis import settings

from ft_tools import workspace as workspace_module
from ft_tools.runs.hardware import devices

# The same commit has the same colour everywhere: `make test` tries the same examples each time.
# `make fuzz` explores at random, and what it finds becomes a plain test.
# No test asks the Hub: those of the Hub start one of their own.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

# A preflight takes seconds for each cache; its own tests ask for it.
os.environ.setdefault("FINE_TUNING_LLM_PREFLIGHT", "0")

# Nothing here compiles with torch, and bitsandbytes loads the compiler at its import if it may: 1.3
# seconds of each process.
os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")

# Collecting the tests imports torch and all around it, a million objects that live to the end:
# looking through them for garbage again and again took a quarter of the tests that train.
gc.disable()

# A shell that runs the suite in the background has it ignore Ctrl-C, and every program that a test
# starts would inherit that.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Two test processes must not wait for one another's device, nor see one another's files, and share
# the cores: threads of both that wait for each other on one core take longer than one of each.
if _worker := os.environ.get("PYTEST_XDIST_WORKER"):
    _cores = (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, _cores)))
    _caches = workspace_module.cache_dir() / "tests"
    os.environ["XDG_CACHE_HOME"] = str(_caches / _worker)
    # What takes long to fetch or unpack, and then stays as it is, is there once for all of them.
    for _name in ("models", "llama.cpp"):
        (_caches / _name).mkdir(parents=True, exist_ok=True)
        _own = workspace_module.cache_dir() / _name
        _own.parent.mkdir(parents=True, exist_ok=True)
        if not _own.exists():
            _own.symlink_to(_caches / _name)

settings.register_profile("plain", derandomize=True, max_examples=100, deadline=None)
settings.register_profile("explore", max_examples=500, print_blob=True, deadline=None)
settings.load_profile(os.environ.get("FINE_TUNING_LLM_HYPOTHESIS", "plain"))


def pytest_collection_finish():
    """Collect garbage from here on, but never look at what was imported."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="module", autouse=True)
def _quick_disk(request):
    """Let nothing in this process wait for the disk, as it would a hundred thousand times.

    That files are durable is proved in tests/faults, which waits.
    """
    with pytest.MonkeyPatch.context() as patch:
        if "faults" not in request.path.parts:
            patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """Give a workspace of its own, and return its folder."""
    monkeypatch.setenv(workspace_module.VARIABLE, str(tmp_path))
    return tmp_path


@pytest.fixture
def smi(tmp_path, monkeypatch):
    """Give a function that puts a program named nvidia-smi on PATH; there are no device files."""
    program, folder = tmp_path / "bin" / "nvidia-smi", tmp_path / "driver"
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv(devices.FILES_VARIABLE, str(tmp_path / "root"))

    def prints(*rows, parts="", shown="", code=0, before=""):
        """Print rows of cards, with -L their parts, without arguments what is shown."""
        for made in (program.parent, folder):
            made.mkdir(exist_ok=True)
        for name, lines in (("rows", rows), ("parts", [parts]), ("shown", [shown])):
            (folder / name).write_text("\n".join(lines) + "\n")
        program.write_text(
            f'#!/bin/sh\n{before}\ncd "{folder}"\n[ -z "$1" ] && exec cat shown\n'
            f'[ "$1" = -L ] && exec cat parts\ncat rows; exit {code}\n'
        )
        program.chmod(0o700)

    return prints


@pytest.fixture
def small_disk(tmp_path):
    """Give a function that mounts an empty disk of so many KiB."""
    place = tmp_path / "disk"

    def mounted(kib):
        place.mkdir()
        options = f"size={kib}k,mode=0700"
        mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        if subprocess.run(mount, capture_output=True).returncode:
            pytest.skip("tmpfs may not be mounted here")
        return place

    yield mounted
    subprocess.run(["umount", "-l", str(place)], capture_output=True)
