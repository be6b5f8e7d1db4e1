"""Whether examples that are packed into one row see one another, by family."""

import contextlib
import functools
import importlib.metadata
import importlib.util
import re
from pathlib import Path

from packaging.specifiers import SpecifierSet

from ft_tools.models.families import TRAITS
from ft_tools.models.shape import ModelShape

# Heads of more dimensions have no kernel of flash attention.
MOST_HEAD_DIM = 256
FLASH = "flash_attention_2"
FLASH_CAPABILITY = 8.0
FLASH_PACKAGES = ("flash_attn", "kernels")
"""One of which is enough. Source: https://github.com/Dao-AILab/flash-attention, README."""


def flash_packages() -> list[str]:
    """Return the installed packages that attend to packed rows without a mask of all positions."""
    found = [name for name in FLASH_PACKAGES if importlib.util.find_spec(name) is not None]
    return [name for name in found if name != "kernels" or _has_kernels()]


def _has_kernels() -> bool:
    """Return whether transformers takes the installed version of `kernels`."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version("kernels") in kernels_versions()
    return False


@functools.cache
def kernels_versions() -> SpecifierSet:
    """Return the versions of `kernels` that the installed transformers takes; read, not imported.

    Source: transformers 5.25, utils/import_utils.py, KERNELS_MIN_VERSION and KERNELS_MAX_VERSION.
    """
    spec = importlib.util.find_spec("transformers")
    if spec is None or spec.origin is None:
        return SpecifierSet()
    text = Path(spec.origin).with_name("utils").joinpath("import_utils.py").read_text("utf-8")
    bounds = dict(re.findall(r'^KERNELS_(MIN|MAX)_VERSION = "([\d.]+)"', text, re.MULTILINE))
    signs = {"MIN": ">=", "MAX": "<"}
    return SpecifierSet(",".join(f"{signs[name]}{bound}" for name, bound in bounds.items()))


def takes_flash(shape: ModelShape) -> bool:
    """Return whether a model's class is known to compute with flash attention.

    Composites with a row are no text models alone: Gemma 3's attends both ways between the tokens
    of an image, which flash attention has no mask for.
    """
    is_text = shape.is_described or shape.text_path == "model"
    return (
        is_text
        and shape.model_type not in TRAITS["refuses_flash"]
        and shape.head_dim <= MOST_HEAD_DIM
    )


def may_be_packed(shape: ModelShape) -> bool:
    """Return whether packed examples are known not to see one another.

    True for families with a row, which attend through masks made of position_ids alone; for others
    only where it was checked.
    """
    return not shape.is_described or shape.model_type in TRAITS["keeps_packed_apart"]
