"""The CUDA that torch was built for, against what the driver can do."""

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

from ft_tools.doctor.report import Check
from ft_tools.runs.hardware.devices import driver_cuda

CUDA_BUILD = re.compile(r"^cuda\b[^=\n]*=\s*['\"]([\d.]+)['\"]", re.MULTILINE)


def check_cuda() -> Check:
    """Compare the CUDA that torch was built for with what the driver can do."""
    build, driver = _torch_cuda(), driver_cuda()
    if build is None:
        return Check(name="CUDA", state="note", found=f"driver: CUDA {driver}; torch: none yet")
    found = f"driver: up to CUDA {driver}; torch: built for {build or 'the CPU only'}"
    if not build:
        fix = "reinstall torch with CUDA: https://pytorch.org/get-started/locally"
        return Check(name="CUDA", state="broken", found=found, fix=fix, needed_for=["gpu"])
    if driver and int(build.partition(".")[0]) > int(driver.partition(".")[0]):
        fix = f"update the NVIDIA driver to one for CUDA {build}, or install an older torch build"
        return Check(name="CUDA", state="broken", found=found, fix=fix, needed_for=["gpu"])
    return Check(name="CUDA", state="ok", found=found)


def check_llama_cpp() -> Iterator[Check]:
    """Yield a note where llama-cpp-python leaves the GPU idle: GGUF evaluation is 10x slower."""
    found = importlib.util.find_spec("llama_cpp")
    if found is None or found.origin is None:
        return
    if any(Path(found.origin).with_name("lib").glob("*ggml-cuda*")):
        yield Check(name="llama.cpp", state="ok", found="built with CUDA")
        return
    fix = (
        'CMAKE_ARGS="-DGGML_CUDA=on" pip install --force-reinstall --no-cache-dir --no-deps '
        "llama-cpp-python"
    )
    said = "built without CUDA: GGUF files are evaluated on the CPU"
    yield Check(name="llama.cpp", state="note", found=said, fix=fix)


def _torch_cuda() -> str | None:
    """Return the CUDA version that torch was built for, "" for none; None without torch."""
    found = importlib.util.find_spec("torch")
    if found is None or found.origin is None:
        return None
    # Read, not imported: importing torch takes seconds.
    text = Path(found.origin).with_name("version.py").read_text(encoding="utf-8")
    version = CUDA_BUILD.search(text)
    return version[1] if version else ""
