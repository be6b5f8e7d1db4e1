"""What MLX can do with a model here, found without importing it."""

import ast
import importlib.util
import platform
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

GROUP_SIZE = 64
"""Weights that share a scale and a bias."""
SECONDS = 5.0
NOT_PLAIN = (
    "modules_to_save", "target_parameters", "trainable_token_indices", "layer_replication",
    "use_dora",
)  # fmt: skip
"""Arguments of an adapter that change more than the linear layers' A and B."""


def is_apple_silicon() -> bool:
    """Return whether this machine is a Mac with an Apple chip."""
    return sys.platform == "darwin" and platform.machine() == "arm64"


def mac_name() -> str:
    """Return this Mac as the catalog names it, `M4 Max 64GB`; empty where the system does not tell.

    Source: sysctl(3), machdep.cpu.brand_string and hw.memsize.
    """
    program = shutil.which("sysctl")
    if program is None:
        return ""
    asked = [program, "-n", "machdep.cpu.brand_string", "hw.memsize"]
    try:
        answer = subprocess.run(asked, capture_output=True, text=True, timeout=SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    chip, _, size = answer.stdout.strip().partition("\n")
    if not chip.startswith("Apple ") or not size.isdigit():
        return ""
    return f"{chip.removeprefix('Apple ')} {int(size) / 2**30:g}GB"


def is_installed() -> bool:
    """Return whether mlx-lm is installed."""
    return importlib.util.find_spec("mlx_lm") is not None


@cache
def model_types() -> frozenset[str]:
    """Return the model types that the installed mlx-lm builds, without importing it."""
    found = importlib.util.find_spec("mlx_lm")
    folders = list(found.submodule_search_locations or []) if found else []
    if not folders:
        return frozenset()
    models = {file.stem for file in (Path(folders[0]) / "models").glob("*.py")}
    tree = ast.parse((Path(folders[0]) / "utils.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "MODEL_REMAPPING":
            models |= set(ast.literal_eval(node.value))
    return frozenset(models)
