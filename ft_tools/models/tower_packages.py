"""The packages that towers for images need: a multimodal model's class is not built without them.

Source: transformers 5.24.0, models/timm_wrapper/modeling_timm_wrapper.py, `requires_backends`.
"""

import json
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from ft_tools.errors import Missing

# What a model's type, or that of a part of it, needs: package -> the module that it installs.
_TIMM = {"timm": "timm", "pillow": "PIL"}
NEEDED: Mapping[str, Mapping[str, str]] = dict.fromkeys(
    ("gemma3n", "gemma3n_vision", "fast_vlm", "perception_lm", "timm_wrapper", "timm_backbone"),
    _TIMM,
)
PACKAGES = tuple(_TIMM)
# Parameters of timm's towers, as timm 1.0.31 builds them: (architecture, its arguments as JSON).
PARAMS = {
    ("mobilenetv5_300m_enc", "null"): 294_126_912,
    ("fastvit_mci3", '{"inference_mode": true}'): 122_714_208,
}


def needed(config: Mapping[str, Any]) -> list[str]:
    """Return the packages that a model of this config.json needs beside transformers.

    >>> needed({"model_type": "gemma3n"}), needed({"model_type": "gemma3n_text"})
    (['timm', 'pillow'], [])
    """
    parts = [config, *(part for part in config.values() if isinstance(part, Mapping))]
    types = (part.get("model_type") for part in parts)
    found = (NEEDED[kind] for kind in types if isinstance(kind, str) and kind in NEEDED)
    return list(dict.fromkeys(name for packages in found for name in packages))


def missing(config: Mapping[str, Any]) -> str:
    """Return what is not installed of that, with the command that installs it; empty if all is."""
    absent = [name for name in needed(config) if find_spec(_TIMM[name]) is None]
    if not absent:
        return ""
    return (
        f"the class of this model needs {' and '.join(absent)}, not installed here; run: "
        f"pip install {' '.join(absent)}"
    )


def require(config: Mapping[str, Any]) -> None:
    """Refuse to load a model whose class cannot be built here.

    Raises:
        Missing: With the packages to install.
    """
    problem = missing(config)
    if problem:
        raise Missing(problem)


def num_params(architecture: str, arguments: Mapping[str, Any] | None) -> int | None:
    """Return the parameters of a tower of timm; None where they are not known."""
    return PARAMS.get((architecture, json.dumps(arguments, sort_keys=True)))
