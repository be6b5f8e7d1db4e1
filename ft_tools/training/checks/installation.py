"""What a run on this machine's GPU would find missing only at its first step, or before it.

The plan shows it as `missing`, and a confirmation is refused until it is there.
"""

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from ft_tools import workspace
from ft_tools.models.packing import FLASH, FLASH_CAPABILITY, FLASH_PACKAGES
from ft_tools.publish import private_folder, write_file
from ft_tools.runs.hardware.devices import Device, driver_cuda
from ft_tools.runs.processes.start import command, environment
from ft_tools.training.findings import refusal

TIMEOUT_SECONDS = 40.0
# Attention implementation -> least compute capability, packages of which one is enough.
# Source: https://github.com/Dao-AILab/flash-attention, README, requirements.
ATTENTION = {
    FLASH: (FLASH_CAPABILITY, FLASH_PACKAGES),
    "flash_attention_3": (9.0, ("flash_attn_interface", "kernels")),
}
COMPILERS = ("cc", "gcc", "clang")


class TorchBuild(BaseModel):
    """What the installed torch was built for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: str
    cuda: str
    architectures: list[str]


def require_attention(device: Device, training: Mapping[str, Any], *, is_here: bool) -> None:
    """Refuse an attention implementation that this GPU or this environment does not have.

    Raises:
        BadInput: With the GPU's capability or the package to install.
    """
    wanted = (training.get("model_init_kwargs") or {}).get("attn_implementation")
    if wanted not in ATTENTION:
        return
    needed, packages = ATTENTION[wanted]
    where = f"training.model_init_kwargs.attn_implementation={wanted!r}"
    if device.name == "cpu":
        raise refusal("attention_needs_a_gpu", where=where)
    if device.capability is not None and device.capability < needed:
        sizes = {"needed": needed, "capability": device.capability}
        raise refusal("attention_capability", where=where, device=device.model, **sizes)
    if is_here and not any(importlib.util.find_spec(package) for package in packages):
        raise refusal("attention_package", where=where, packages=", ".join(packages))


def missing(device: Device) -> list[str]:
    """Return what a run on this machine's GPU lacks, each with its cure."""
    if device.name == "cpu":
        return []
    found = [_torch_problem(device), _compiler_problem()]
    return [problem for problem in found if problem]


def covers(architectures: list[str], capability: float) -> bool:
    """Return whether code for these architectures runs on a GPU of this capability.

    Machine code (sm) runs on the same major number and an equal or higher minor one; PTX (compute)
    is compiled for any later GPU. Source: CUDA C++ Programming Guide, binary and PTX compatibility.

    >>> covers(["sm_75", "sm_80"], 8.6), covers(["sm_75", "sm_80"], 7.0)
    (True, False)
    >>> covers(["sm_90", "compute_90"], 12.0), covers(["sm_90"], 12.0)
    (True, False)
    """
    card = divmod(round(capability * 10), 10)
    for name in architectures:
        kind, _, number = name.partition("_")
        digits = number.rstrip("abcdefghijklmnopqrstuvwxyz")
        if not digits.isdigit():
            continue
        built = divmod(int(digits), 10)
        if kind == "compute" and built <= card and digits == number:
            return True
        if kind == "sm" and built[0] == card[0] and built[1] <= card[1]:
            return True
    return False


def _torch_problem(device: Device) -> str:
    build = torch_build()
    if build is None:
        return ""
    cure = "install torch for this GPU's CUDA (https://pytorch.org)"
    if not build.cuda:
        return (
            f"the installed torch {build.version} has no CUDA, so it cannot use {device.model}; "
            f"{cure}"
        )
    driver = driver_cuda()
    if driver and _major(build.cuda) > _major(driver):
        return (
            f"the installed torch {build.version} is built for CUDA {build.cuda}, and the NVIDIA "
            f"driver knows CUDA up to {driver}; update the driver, or install a torch built for "
            f"CUDA {_major(driver)} (https://pytorch.org)"
        )
    if device.capability and not covers(build.architectures, device.capability):
        return (
            f"the installed torch {build.version} is built for {' '.join(build.architectures)}, "
            f"and {device.model} has compute capability {device.capability:g}; {cure}"
        )
    return ""


def _major(version: str) -> int:
    """Return the first number: a driver runs code of any minor version of its CUDA.

    Source: https://docs.nvidia.com/deploy/cuda-compatibility
    """
    return int(version.partition(".")[0])


def _compiler_problem() -> str:
    """Return what Triton lacks, which TRL computes its loss with: it compiles at the first step."""
    if importlib.util.find_spec("triton") is None:
        return ""
    if not any(shutil.which(name) for name in (os.environ.get("CC") or "cc", *COMPILERS)):
        return (
            "the loss on a GPU is compiled at the first step, and there is no C compiler; install "
            "one (apt-get install gcc) or set CC"
        )
    header = Path(sysconfig.get_path("include")) / "Python.h"
    if not header.is_file():
        return (
            f"the loss on a GPU is compiled at the first step, and {header} is missing; install "
            "Python's development files (apt-get install python3-dev)"
        )
    return ""


def torch_build() -> TorchBuild | None:
    """Ask the installed torch what it was built for; remembered for its version and place."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    named = (
        f"{importlib.metadata.version('torch')} {spec.origin} {os.stat(spec.origin).st_mtime_ns}"
    )
    digest = hashlib.sha256(named.encode()).hexdigest()[:16]
    kept = workspace.cache_dir() / "torch" / f"{digest}.json"
    try:
        return TorchBuild.model_validate_json(kept.read_bytes())
    except (OSError, ValidationError):
        pass
    try:
        answer = subprocess.run(
            command("ft_tools.training.worker.cuda_build"),
            capture_output=True,
            timeout=TIMEOUT_SECONDS,
            check=True,
            env=environment() | {"CUDA_VISIBLE_DEVICES": ""},
        )
        build = TorchBuild.model_validate(json.loads(answer.stdout))
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    private_folder(kept.parent)
    write_file(kept, build.model_dump_json())
    return build
