"""llm-compressor's own environment: it excludes the transformers that training needs.

Built on first use into the cache, with the python of this process and pip, and used from then on by
its own python. The marker is written last: a folder without it is no environment, whatever a killed
build left in it.
"""

import importlib.metadata
import json
import os
import shutil
import sys
import time
from pathlib import Path

from ft_tools import workspace
from ft_tools.publish import private_folder, require_space, write_file
from ft_tools.runs.state import locks
from ft_tools.shipping.findings import refusal
from ft_tools.shipping.programs import POLL_SECONDS, Stop, watched

# Pins transformers<=5.17, where training here needs 5.24. Source: its package metadata on PyPI.
VERSION = "0.14.0.1"
REQUIREMENT = f"llmcompressor=={VERSION}"
MARKER = "environment.json"
# Measured with PyTorch's CPU build: 1.4 GiB. The CUDA build that PyPI serves by default takes about
# 5 GiB more. Source: https://pypi.org/project/torch/#files and the nvidia packages it requires.
CPU_BYTES = 3 * 2**29
CUDA_BYTES = 7 * 2**30


def folder() -> Path:
    """Return where the environment is, or will be."""
    python = f"py{sys.version_info.major}.{sys.version_info.minor}"
    return workspace.cache_dir() / "environments" / f"llmcompressor-{VERSION}-{python}"


def python() -> Path:
    """Return the environment's python."""
    return folder() / "bin" / "python"


def is_built() -> bool:
    """Return whether the environment needs no building."""
    return (folder() / MARKER).is_file() and python().exists()


def missing_bytes() -> int:
    """Estimate what building it takes; 0 if it is there. pip fetches PyTorch's build as here."""
    if is_built():
        return 0
    try:
        version = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        version = ""
    return CPU_BYTES if version.endswith("+cpu") else CUDA_BYTES


def build(log: Path, stop: Stop) -> Path:
    """Build the environment unless it is there; returns its python.

    Raises:
        DiskFull: There is no space for it.
        Missing: It cannot be built: no pip, no network, or no version for this python.
    """
    place = folder()
    private_folder(place.parent)
    while (lock := locks.take(place.with_name(f"{place.name}.lock"))) is None:
        # Another run builds it.
        stop()
        time.sleep(POLL_SECONDS)
    try:
        if not is_built():
            require_space(place.parent, missing_bytes(), f"the environment of {REQUIREMENT}")
            shutil.rmtree(place, ignore_errors=True)
            _build(place, log, stop)
    finally:
        os.close(lock)
    return python()


def _build(place: Path, log: Path, stop: Stop) -> None:
    began = time.monotonic()
    # What this process imports from must not be seen as installed there.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    for argv in (
        [sys.executable, "-m", "venv", str(place)],
        [str(place / "bin" / "python"), "-m", "pip", "install", "--progress-bar=off", REQUIREMENT],
    ):
        code, _ = watched(argv, log, stop, environment)
        if code != 0:
            raise refusal("environment_not_built", requirement=REQUIREMENT, step=argv[2], code=code)
    about = {"requirement": REQUIREMENT, "seconds": round(time.monotonic() - began, 1)}
    write_file(place / MARKER, json.dumps(about))
