"""GPUs of other makers, which nothing here can use: found, named and sized, to be warned of."""

import json
import os
import shutil
import subprocess
from typing import Any

from ft_tools.runs.hardware.devices import DRIVER_SECONDS, device_files, hides_all

AMD_FILES = ("/dev/kfd",)


def unused_gpu() -> str:
    """Return a warning when this machine has a GPU that nothing here can use; empty without.

    AMD's and Intel's are named and sized by their makers' programs, where these are installed.
    """
    if hides_all(os.environ.get("CUDA_VISIBLE_DEVICES")):
        return ""
    files = device_files(AMD_FILES)
    if files:
        names = _amd_cards() or ["an AMD GPU"]
        return f"{files[0]} shows {', '.join(names)}; ROCm is not supported, so the CPU is used"
    names = _intel_cards()
    if names:
        return f"xpu-smi shows {', '.join(names)}; Intel GPUs are not supported, so the CPU is used"
    return ""


def _amd_cards() -> list[str]:
    """Return AMD's GPUs by name and memory; empty where rocm-smi does not answer.

    Source: `rocm-smi --showproductname --showmeminfo vram --json`, ROCm 5 to 7.
    """
    answer = _json_of("rocm-smi", "--showproductname", "--showmeminfo", "vram", "--json")
    found = []
    for card, about in sorted(answer.items()):
        if not card.startswith("card") or not isinstance(about, dict):
            continue
        plain = {str(key).casefold(): str(value) for key, value in about.items()}
        size = plain.get("vram total memory (b)", "")
        name = plain.get("card series") or plain.get("card model") or "an AMD GPU"
        found.append(f"{name} ({int(size) / 2**30:.0f} GiB)" if size.isdigit() else name)
    return found


def _intel_cards() -> list[str]:
    """Return Intel's GPUs by name; empty where xpu-smi does not answer.

    Source: `xpu-smi discovery -j`, XPU Manager 1.2.
    """
    listed = _json_of("xpu-smi", "discovery", "-j").get("device_list")
    rows = [row for row in listed if isinstance(row, dict)] if isinstance(listed, list) else []
    return [str(row.get("device_name", "an Intel GPU")) for row in rows]


def _json_of(program: str, *arguments: str) -> dict[str, Any]:
    """Return what a program prints as a JSON object; empty where it is missing or fails."""
    path = shutil.which(program)
    if path is None:
        return {}
    try:
        answer = subprocess.run(
            [path, *arguments], capture_output=True, timeout=DRIVER_SECONDS, check=True
        )
        value = json.loads(answer.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
