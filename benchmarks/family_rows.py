"""Small models of the families of 2026, in every size that is asked for.

`config(name, unit)` is a config.json; the hidden size is 64 units. Layers, heads and experts are
few, so that the real class trains in seconds at unit 1, and is traced with its own vocabulary at
unit 16. The families are rows of `family_rows.toml`, at unit 1.
"""

import tomllib
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

TINY_VOCABULARY = 512
ROWS = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))
NAMES = tuple(ROWS["families"])
OWN_VOCABULARY = {name: row["vocabulary"] for name, row in ROWS["families"].items()}
IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
TOKENIZER = {name: row.get("tokenizer", "bytes") for name, row in ROWS["families"].items()}
CONVERTED_ALONE = {name for name, row in ROWS["families"].items() if "converted" in row}
HIDDEN_SIZE = 64
ABOUT = ("vocabulary", "tokenizer", "converted")
LEAST = "least_"
# Widths that grow with the hidden size; of a tower only what it hands to the text.
WIDTHS = {
    *("block_ff_dim", "hidden_size_per_layer_input", "laurel_rank", "mamba_d_ssm"),
    *("mamba_d_head", "mrope_section", "rotary_dim", "intermediate_size", "intermediate_size_mlp"),
    *("moe_intermediate_size", "moe_shared_expert_intermediate_size"),
    *("shared_expert_intermediate_size", "shared_intermediate_size"),
    *("head_dim", "global_head_dim", "index_head_dim", "linear_head_dim", "linear_key_head_dim"),
    *("linear_value_head_dim", "mamba_head_dim", "v_head_dim", "qk_nope_head_dim"),
    *("qk_rope_head_dim", "kv_lora_rank", "q_lora_rank", "o_lora_rank"),
}
TOWER_WIDTHS = {"out_hidden_size"}


def config(name: str, unit: int = 1, vocabulary: int = TINY_VOCABULARY) -> dict[str, Any]:
    """Return the config.json of a small model of a family.

    Args:
        name: One of NAMES.
        unit: The hidden size is 64 times this.
        vocabulary: Tokens.
    """
    row = {k: v for k, v in ROWS["families"][name].items() if k not in ABOUT}
    own = _scaled(_whole(row), unit, WIDTHS)
    plain = _scaled(ROWS["plain"], unit, WIDTHS)
    plain |= {"vocab_size": vocabulary, "hidden_size": HIDDEN_SIZE * unit} | IDS
    if "text_config" not in own:
        return _least(plain | own)
    tied = {"tie_word_embeddings": False}
    return own | {"text_config": _least(plain | own["text_config"]) | tied} | tied | IDS


def converted(name: str, vocabulary: int) -> dict[str, Any]:
    """Return the config.json of the small model of a family that llama.cpp converts and runs."""
    found = config(name, vocabulary=vocabulary)
    for key, value in ROWS["families"][name].get("converted", {}).items():
        found[key] = found[key] | value if isinstance(value, dict) else value
    return found


def _whole(table: dict[str, Any]) -> dict[str, Any]:
    """Return a table with the keys of its parts, and so the tables in it."""
    found: dict[str, Any] = {}
    for part in table.get("parts", ()):
        found |= _whole(ROWS["parts"][part])
    for key, value in table.items():
        if key != "parts":
            found[key] = _whole(value) if isinstance(value, dict) else value
    return found


def _scaled(table: dict[str, Any], unit: int, widths: AbstractSet[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, dict):
            found[key] = _scaled(value, unit, TOWER_WIDTHS if key == "vision_config" else widths)
        elif key in widths:
            found[key] = [unit * v for v in value] if isinstance(value, list) else unit * value
        else:
            found[key] = value
    return found


def _least(table: dict[str, Any]) -> dict[str, Any]:
    """Apply the rows that say how small a key may be."""
    found = {key: value for key, value in table.items() if not key.startswith(LEAST)}
    for key in table.keys() - found.keys():
        of = key.removeprefix(LEAST)
        found[of] = max(found[of], table[key])
    return found
