"""This machine: interpreter, GPU and driver, memory, disk, locks, compiler, packages."""

import contextlib
import importlib.metadata
import importlib.util
import os
import platform
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil

from ft_tools import installation, workspace
from ft_tools.doctor.report import Check, Purpose, check
from ft_tools.errors import FineTuningError, Missing, MissingExtra, NoWorkspace
from ft_tools.metrics.isolation import probe
from ft_tools.models.hub import hub_home
from ft_tools.models.mlx import is_apple_silicon, is_installed, mac_name
from ft_tools.requirements import requirements
from ft_tools.runs.hardware.devices import driver_cuda, find_cards, find_device
from ft_tools.runs.launchers.table import LAUNCHERS
from ft_tools.runs.state import locks
from ft_tools.shipping import converter_script
from ft_tools.system_errors import may

MIN_PYTHON = (3, 11)
SMALL_DISK_GIB = 20.0
"""A 7B model in bfloat16 with its checkpoints takes about as much; ours."""
CUDA_BUILD = re.compile(r"^cuda\b[^=\n]*=\s*['\"]([\d.]+)['\"]", re.MULTILINE)
PACKAGES: dict[str, Purpose] = {
    "": "advice", "data": "data", "train": "train", "eval": "eval", "gguf": "gguf",
}  # fmt: skip
"""Extra, or "" for the core -> what needs it."""


def checks() -> Iterator[Check]:
    """Yield the checks of this machine."""
    about = {"version": platform.python_version(), "path": sys.executable}
    about |= {"system": platform.system(), "machine": platform.machine()}
    yield check("python_old" if sys.version_info < MIN_PYTHON else "python", **about)
    yield from gpu()
    memory, gib = psutil.virtual_memory(), 2**30
    cores = psutil.cpu_count(logical=False) or psutil.cpu_count() or 1
    yield check("memory", free=memory.available / gib, total=memory.total / gib, cores=cores)
    yield from _workspace()
    yield _disk("model cache", hub_home(), "HF_HOME")
    yield _converter()
    tried = probe.find()
    if tried.isolation is None:
        yield check("isolation_missing", reason=tried.reason, fix=probe.INSTALL)
    else:
        yield check("isolation", way=tried.isolation.way)
    for extra, purpose in PACKAGES.items():
        yield _packages(extra, purpose)


def gpu() -> Iterator[Check]:
    """Yield what computes here, and whether torch and llama.cpp are built for it."""
    if is_apple_silicon():
        mac = mac_name() or "Apple GPU"
        fix = str(MissingExtra("mlx", "mlx_lm"))
        yield check("gpu_apple" if is_installed() else "gpu_apple_idle", gpu=mac, fix=fix)
        return
    try:
        number = len(find_cards())
    except Missing as error:
        yield check("gpu_silent", fix=error)
        return
    if not number:
        hidden, backends = os.environ.get("CUDA_VISIBLE_DEVICES"), ", ".join(LAUNCHERS)
        reason = "gpu_none_shown" if hidden is None else "gpu_hidden"
        reason = reason if shutil.which("nvidia-smi") else "gpu_no_driver"
        reason = "gpu_intel_mac" if sys.platform == "darwin" else reason
        yield check(reason, hidden=hidden, backends=backends)
        return
    device = find_device()
    about = {"gib": device.memory_gib, "precision": device.precision, "model": device.model}
    yield check("gpu", plural=f"{number} x " if number > 1 else "", **about)
    yield _cuda(_built_for(), driver_cuda())
    found = importlib.util.find_spec("llama_cpp")
    if found and found.origin:
        has_cuda = any(Path(found.origin).with_name("lib").glob("*ggml-cuda*"))
        yield check("llama_cpp_cuda" if has_cuda else "llama_cpp_cpu")


def _cuda(build: str | None, driver: str) -> Check:
    """Compare the CUDA that torch was built for ("": none; None: no torch) with the driver's."""
    if not build:
        return check("cuda_no_torch" if build is None else "cuda_torch_for_cpu", driver=driver)
    is_old = driver and int(build.partition(".")[0]) > int(driver.partition(".")[0])
    return check("cuda_driver_old" if is_old else "cuda", driver=driver, build=build)


def _built_for() -> str | None:
    found = importlib.util.find_spec("torch")
    if found is None or found.origin is None:
        return None
    # Read, not imported: importing torch takes seconds.
    text = Path(found.origin).with_name("version.py").read_text(encoding="utf-8")
    version = CUDA_BUILD.search(text)
    return version[1] if version else ""


def _workspace() -> Iterator[Check]:
    """Yield whether there is a workspace, and whether runs can be kept in it."""
    try:
        folder, runs = workspace.roots()[0], workspace.runs_dir()
    except NoWorkspace as error:
        yield check("workspace_unusable", found=error.problem, fix=error.cure)
        return
    yield _disk("workspace", folder, workspace.VARIABLE)
    if runs.exists() and not may(runs, os.R_OK | os.W_OK | os.X_OK):
        yield check("runs_forbidden", runs=runs, quoted=shlex.quote(str(runs)))
    yield check("locks" if _has_locks(folder) else "locks_missing", folder=folder)


def _disk(name: str, folder: Path, variable: str) -> Check:
    there = next(place for place in [folder, *folder.parents] if place.exists())
    free = shutil.disk_usage(there).free / 2**30
    row = "disk_small" if free < SMALL_DISK_GIB else "disk"
    row = row if os.access(there, os.W_OK) else "disk_read_only"
    return check(row, name=name, folder=folder, free=free, variable=variable)


def _has_locks(folder: Path) -> bool:
    """Try the locks that runs are held by: some network file systems have none."""
    with (
        contextlib.suppress(OSError, FineTuningError),
        tempfile.TemporaryDirectory(dir=folder, prefix=".doctor-") as place,
    ):
        file = locks.take(Path(place) / "try.lock")
        works = file is not None and locks.is_held(Path(place) / "try.lock")
        if file is not None:
            os.close(file)
        return works
    return False


def _converter() -> Check:
    with contextlib.suppress(FineTuningError):
        row = "converter" if converter_script.is_here() else "converter_fetched"
        return check(row, origin=converter_script.origin())
    has_compiler = any(map(shutil.which, ("c++", "g++", "clang++")))
    return check("converter_extra" if has_compiler else "converter_no_compiler")


def _packages(extra: str, purpose: Purpose) -> Check:
    """Return whether the packages of an extra are installed in versions that work together."""
    missing, wrong, found = [], [], []
    for requirement in sorted(requirements(extra), key=lambda each: each.name):
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(requirement.name)
            continue
        found.append(f"{requirement.name} {version}")
        if not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} {version} (needs {requirement.specifier})")
    name, needed = f"extra {extra}" if extra else "core packages", [purpose]
    if not missing and not wrong:
        return Check(name=name, found=", ".join(found), needed_for=needed)
    said = [f"not installed: {', '.join(missing)}"] if missing else []
    said += [f"wrong version: {', '.join(wrong)}"] if wrong else []
    fix = installation.add_extras(*filter(None, [extra]))
    state = "broken" if wrong else "missing"
    return Check(name=name, state=state, found="; ".join(said), fix=fix, needed_for=needed)
