"""How the blocks of each model family are built: the rows of families.toml, and their sizes."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ft_tools import facts
from ft_tools.models.shape import Linear

Norms = Literal["rms", "rms_fp32", "layer"]
"""RMSNorm; one that scales in fp32; LayerNorm."""
Sizes = Mapping[str, int]
"""Symbol of families.toml -> number."""
_DATA = facts.table_of("families.toml", "models")
TERM = re.compile(r"(\d*)([a-z]*)")


@dataclass(frozen=True)
class Family:
    """How the blocks of a model family are built, and what its config.json may leave out."""

    layouts: tuple[str, ...]
    bias: Mapping[str, bool | str] = field(default_factory=dict)
    norm_params: str = "2h"
    num_norms: int = 2
    normed_width: str = ""
    gated: bool = True
    tied: bool = False
    head_dim: int | None = None
    norms: Norms = "rms"
    pre_norms: bool = True
    post_norms: bool = False
    """Whether attention and MLP have a norm before them, and after them."""
    activation: str = "silu"
    """What the activation is where config.json does not say."""
    final_norm: int = 1
    """1 for a weight, 2 for a weight and a bias, 0 for a norm without parameters."""
    head_bias: bool = False
    positions: bool = False
    """Whether positions have an embedding of their own."""
    one_kv_head: bool = False
    """Whether one key head is usual, and a width of four times the hidden size."""
    experts_key: str = ""
    expert_width_key: str = "intermediate_size"
    expert_names: tuple[str, str, str] | None = None
    """What PEFT calls an expert's gate, up and down projection; None where it finds none."""
    experts_path: str = "mlp.experts"
    """Where its fused experts are in a block."""
    keys: Mapping[str, str] = field(default_factory=dict)
    """Where this family writes a size under a name of its own."""
    defaults: Mapping[str, int] = field(default_factory=dict)
    """Sizes that its config.json may leave out."""
    full_every: int = 0
    """Every which block attends to all tokens, where the others have a window; 0: none does."""

    def linears(self, sizes: Sizes, config: Mapping[str, Any]) -> tuple[Linear, ...]:
        """Return the nn.Linear modules of one block."""
        found = []
        for layout in self.layouts:
            for group, modules in _DATA["layouts"][layout].items():
                bias = has_bias(self.bias.get(group, False), config)
                for name, shape in modules.items():
                    d_out, d_in = (number(part, sizes) for part in shape.split())
                    found.append(Linear(name, d_out, d_in, bias))
        return tuple(found)


def has_bias(said: bool | str, config: Mapping[str, Any]) -> bool:
    """Return whether a group has a bias, by its row or by the key that the row names.

    >>> has_bias("use_bias=true", {}), has_bias("use_bias", {}), has_bias(True, {})
    (True, False, True)
    """
    if isinstance(said, bool):
        return said
    key, _, default = said.partition("=")
    value = config.get(key)
    return bool(default) if value is None else bool(value)


def number(text: str, sizes: Sizes) -> int:
    """Return a sum of sizes.

    >>> number("2h+2d", {"h": 64, "d": 16}), number("", {}), number("1", {})
    (160, 0, 1)
    """
    total = 0
    for part in filter(None, text.split("+")):
        times, symbol = TERM.fullmatch(part).groups()  # type: ignore[union-attr]
        total += int(times or 1) * (sizes[symbol] if symbol else 1)
    return total


def _row(name: str) -> dict[str, Any]:
    row = dict(_DATA["families"][name])
    return _row(row.pop("like")) | row if "like" in row else row


FAMILIES: Mapping[str, Family] = {name: Family(**_row(name)) for name in _DATA["families"]}
Trait = Literal["overflows_float16", "keeps_packed_apart", "mixes_packed", "refuses_flash"]
TRAITS: Mapping[Trait, frozenset[str]] = {
    name: frozenset(types) for name, types in _DATA["traits"].items()
}


def has_trait(config: Mapping[str, Any], trait: Trait) -> bool:
    """Return whether a model of this config.json, or its language model, is known for a trait.

    >>> has_trait({"model_type": "gemma3_text"}, "overflows_float16")
    True
    """
    parts = (config, config.get("text_config"))
    types = [part.get("model_type") for part in parts if isinstance(part, Mapping)]
    # What a damaged file holds instead is refused by whoever loads it.
    return any(kind in TRAITS[trait] for kind in types if isinstance(kind, str))
