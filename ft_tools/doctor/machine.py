"""The machine: interpreter, GPU and driver, memory, disk, locks, compiler."""

import os
import platform
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil

from ft_tools import workspace
from ft_tools.doctor.cuda import check_cuda, check_llama_cpp
from ft_tools.doctor.report import Check, Purpose
from ft_tools.errors import FineTuningError, Missing, MissingExtra, NoWorkspace
from ft_tools.metrics.isolation import probe
from ft_tools.models.hub import hub_home
from ft_tools.models.mlx import is_apple_silicon, is_installed, mac_name
from ft_tools.runs.hardware.devices import find_cards, find_device
from ft_tools.runs.launchers.table import LAUNCHERS
from ft_tools.runs.state import locks
from ft_tools.shipping import converter_script
from ft_tools.system_errors import may

MIN_PYTHON = (3, 11)
RUNS: list[Purpose] = ["train", "eval", "gguf"]
"""What keeps runs in the workspace."""
ELSEWHERE = f"train elsewhere: backend={', '.join(LAUNCHERS)}"
SMALL_DISK_GIB = 20.0
"""A 7B model in bfloat16 with its checkpoints takes about as much; ours."""


def checks() -> Iterator[Check]:
    """Yield the checks of this machine."""
    yield _interpreter()
    yield from _gpu()
    yield _memory()
    yield from _workspace()
    yield _disk("model cache", hub_home(), "HF_HOME")
    yield _converter()
    yield _isolation()


def _isolation() -> Check:
    """Try to break out of what would isolate code that a model wrote."""
    tried = probe.find()
    if tried.isolation is None:
        found = f"nothing isolates code that a model wrote, so it is refused: {tried.reason}"
        return Check(name="isolation", state="note", found=found, fix=probe.INSTALL)
    found = f"code that a model wrote is isolated ({tried.isolation.way}), and could not break out"
    return Check(name="isolation", state="ok", found=found)


def _interpreter() -> Check:
    version = platform.python_version()
    found = f"Python {version} ({sys.executable}) on {platform.system()} {platform.machine()}"
    if sys.version_info < MIN_PYTHON:
        fix = "install Python 3.11 or newer, then install this package with it"
        return Check(
            name="interpreter", state="broken", found=found, fix=fix, needed_for=["advice"]
        )
    return Check(name="interpreter", state="ok", found=found)


def _gpu() -> Iterator[Check]:
    if is_apple_silicon():
        gpu = mac_name() or "Apple GPU"
        if is_installed():
            found = f"{gpu}: MLX trains adapters and evaluates; merges run on the CPU"
            yield Check(name="GPU", state="note", found=found)
            return
        found = f"{gpu}, idle without MLX: everything runs on the CPU"
        fix = str(MissingExtra("mlx", "mlx_lm"))
        yield Check(name="GPU", state="note", found=found, fix=fix)
        return
    try:
        number = len(find_cards())
    except Missing as error:
        yield Check(
            name="GPU",
            state="broken",
            found="an NVIDIA GPU is there, and its driver does not answer",
            fix=str(error),
            needed_for=["gpu"],
        )
        return
    if not number and sys.platform == "darwin":
        found = "a Mac with an Intel processor: PyTorch has no version for it, so nothing trains"
        fix = ELSEWHERE
        yield Check(name="GPU", state="missing", found=found, fix=fix, needed_for=["gpu"])
        return
    if not number and shutil.which("nvidia-smi") is None:
        yield Check(
            name="GPU",
            state="missing",
            found="no NVIDIA driver (nvidia-smi is not on PATH); small models train on the CPU",
            fix=f"install the NVIDIA driver, or {ELSEWHERE}",
            needed_for=["gpu"],
        )
        return
    if not number:
        hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
        why = f"; CUDA_VISIBLE_DEVICES={hidden!r} hides them" if hidden is not None else ""
        fix = "unset CUDA_VISIBLE_DEVICES" if hidden is not None else "nvidia-smi shows the reason"
        yield Check(
            name="GPU",
            state="broken",
            found=f"the driver is installed but shows no GPU{why}",
            fix=fix,
            needed_for=["gpu"],
        )
        return
    device = find_device()
    plural = f"{number} x " if number > 1 else ""
    found = f"{plural}{device.model}, {device.memory_gib} GiB, {device.precision}"
    yield Check(name="GPU", state="ok", found=found)
    yield check_cuda()
    yield from check_llama_cpp()


def _memory() -> Check:
    memory = psutil.virtual_memory()
    cores = psutil.cpu_count(logical=False) or psutil.cpu_count() or 1
    found = (
        f"{memory.available / 2**30:.0f} of {memory.total / 2**30:.0f} GiB of memory free, "
        f"{cores} cores"
    )
    return Check(name="memory", state="ok", found=found)


def _workspace() -> Iterator[Check]:
    """Yield whether there is a workspace, and whether runs can be kept in it."""
    try:
        folder = workspace.roots()[0]
        runs = workspace.runs_dir()
    except NoWorkspace as error:
        yield Check(
            name="workspace",
            state="broken",
            found=error.problem,
            fix=error.cure,
            needed_for=["advice"],
        )
        return
    yield _disk("workspace", folder, workspace.VARIABLE)
    if runs.exists() and not may(runs, os.R_OK | os.W_OK | os.X_OK):
        yield Check(
            name="runs",
            state="broken",
            found=f"{runs} may not be read and written by this user",
            fix=f"chmod u+rwx {shlex.quote(str(runs))} (or ask its owner)",
            needed_for=RUNS,
        )
    yield _locks(folder)


def _disk(name: str, folder: Path, variable: str) -> Check:
    there = next(place for place in [folder, *folder.parents] if place.exists())
    free = shutil.disk_usage(there).free / 2**30
    found = f"{folder}: {free:.0f} GiB free"
    if not os.access(there, os.W_OK):
        found = f"{folder} cannot be written"
        fix = f"name another folder in {variable}"
        return Check(name=name, state="broken", found=found, fix=fix, needed_for=RUNS)
    if free < SMALL_DISK_GIB:
        fix = "free some space, or name a folder on a larger disk"
        return Check(name=name, state="note", found=found, fix=fix)
    return Check(name=name, state="ok", found=found)


def _locks(folder: Path) -> Check:
    """Try the locks that runs are held by: some network file systems have none."""
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".doctor-") as place:
            file = locks.take(Path(place) / "try.lock")
            works = file is not None and locks.is_held(Path(place) / "try.lock")
            if file is not None:
                os.close(file)
    except (OSError, FineTuningError):
        works = False
    if works:
        return Check(name="locks", state="ok", found="file locks work in the workspace")
    return Check(
        name="locks",
        state="broken",
        found=f"file locks do not work in {folder}",
        fix=f"name a folder on a local disk in {workspace.VARIABLE}",
        needed_for=RUNS,
    )


def _converter() -> Check:
    try:
        if converter_script.is_here():
            return Check(name="GGUF converter", state="ok", found=converter_script.origin())
        found = f"will be fetched once: {converter_script.origin()}"
        return Check(name="GGUF converter", state="note", found=found)
    except FineTuningError:
        pass
    compilers = [name for name in ("cmake", "c++", "g++", "clang++") if shutil.which(name)]
    found = "comes with the extra gguf, which compiles llama.cpp"
    if not set(compilers) - {"cmake"}:
        return Check(
            name="GGUF converter",
            state="missing",
            found=f"{found}; there is no C++ compiler",
            fix="install a C++ compiler (Debian, Ubuntu: apt-get install build-essential)",
            needed_for=["gguf"],
        )
    return Check(name="GGUF converter", state="note", found=found)
