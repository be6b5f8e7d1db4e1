"""Flash attention as a run takes it: the installed package, or a kernel of the Hub at its commit.

A kernel is a binary: the plan names its commit, and the hash covers it.
"""

import contextlib
from functools import cache
from pathlib import Path

from pydantic import TypeAdapter

from ft_tools.models.packing import FLASH, flash_packages
from ft_tools.runs.processes.answers import AnswerFile

REPOSITORY = "kernels-community/flash-attn2"
# Source: transformers 5.24, modeling_flash_attention_utils.py, FLASH_ATTN_KERNEL_VERSIONS.
BRANCH = "v4"
SECONDS = 5.0


def implementation() -> str:
    """Return the implementation as transformers names it; empty where there is none."""
    found = flash_packages()
    if found[:1] == ["flash_attn"]:
        return FLASH
    with contextlib.suppress(LookupError):
        return f"{REPOSITORY}@{_commit()}" if found else ""
    return ""


@cache
def _commit() -> str:
    """Return the commit that transformers would take, or the one of the last plan if it is here."""
    import huggingface_hub
    from huggingface_hub import constants

    kept = AnswerFile(__name__, TypeAdapter(str), [REPOSITORY, BRANCH])
    folder = Path(constants.HF_HUB_CACHE) / f"models--{REPOSITORY.replace('/', '--')}"
    with contextlib.suppress(Exception):
        about = huggingface_hub.HfApi().model_info(REPOSITORY, revision=BRANCH, timeout=SECONDS)
        if about.sha:
            kept.write(about.sha)
            return about.sha
    # What is fetched by its commit leaves no name of its branch in the Hub's cache.
    known = kept.read()
    if known and (folder / "snapshots" / known).is_dir():
        return known
    with contextlib.suppress(OSError):
        return (folder / "refs" / BRANCH).read_text().strip()
    raise LookupError(BRANCH)
