"""The rotary base in its older spelling, so that every program reads what was trained with.

transformers 5 writes `rope_parameters` only. Programs that know just `rope_theta` and
`rope_scaling` then take their own default and load a wrong model in silence: mlx-lm and what is
built on it. Source: https://github.com/ml-explore/mlx-lm/issues/1563
"""

from collections.abc import Mapping
from typing import Any

FULL, SLIDING = "full_attention", "sliding_attention"
PLAIN = "default"
NEWER = {"proportional"}
"""Types that came with `rope_parameters`: no program knows the older spelling of them, and
transformers takes `rope_scaling` in place of the whole (Gemma 4)."""


def older_spelling(rope: Mapping[str, Any]) -> dict[str, Any]:
    """Return the older keys for `rope_parameters`, of one kind of layer or of two.

    >>> older_spelling({"rope_type": "default", "rope_theta": 1e6})
    {'rope_theta': 1000000.0}
    """
    by_layer = {name: part for name, part in rope.items() if isinstance(part, Mapping)}
    full = by_layer.get(FULL) if by_layer else rope
    if full is None or "rope_theta" not in full or full.get("rope_type") in NEWER:
        return {}
    found: dict[str, Any] = {"rope_theta": full["rope_theta"]}
    if full.get("partial_rotary_factor") is not None:
        found["partial_rotary_factor"] = full["partial_rotary_factor"]
    if full.get("rope_type", PLAIN) != PLAIN:
        apart = {"rope_theta", "partial_rotary_factor"}
        found["rope_scaling"] = {key: value for key, value in full.items() if key not in apart}
    local = by_layer.get(SLIDING)
    if local is not None and "rope_theta" in local:
        found["rope_local_base_freq"] = local["rope_theta"]
    return found
