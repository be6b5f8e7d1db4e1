"""Whether examples that are packed into one row see one another, by family."""

import contextlib
import importlib.metadata
import importlib.util

from packaging.specifiers import SpecifierSet

from ft_tools.models.families import TRAITS
from ft_tools.models.shape import ModelShape

# Heads of more dimensions have no kernel of flash attention.
MOST_HEAD_DIM = 256
FLASH = "flash_attention_2"
FLASH_CAPABILITY = 8.0
FLASH_PACKAGES = ("flash_attn", "kernels")
"""One of which is enough. Source: https://github.com/Dao-AILab/flash-attention, README."""
KERNELS_VERSIONS = SpecifierSet(">=0.18.2,<0.19")
"""Source: transformers 5.24, utils/import_utils.py, KERNELS_MIN_VERSION."""


def flash_packages() -> list[str]:
    """Return the installed packages that attend to packed rows without a mask of all positions."""
    found = [name for name in FLASH_PACKAGES if importlib.util.find_spec(name) is not None]
    return [name for name in found if name != "kernels" or _has_kernels()]


def _has_kernels() -> bool:
    """Return whether transformers takes the installed version of `kernels`."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version("kernels") in KERNELS_VERSIONS
    return False


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
