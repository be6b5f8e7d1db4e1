"""From a config.json to a ModelShape: sizes, their defaults, and what is refused."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ft_tools.errors import BadInput, UnknownName, brief
from ft_tools.models.families import FAMILIES, Family, Sizes, number
from ft_tools.models.shape import Block, Linear, ModelShape, adapted_of

OWN_SIZES = (
    "write its sizes into a config.json with the model_type of a similar family, such as llama, "
    "and pass that file"
)
MAX_SIZE = 2**24
"""Of a width, a vocabulary or a number of anything: more is a slip, not a model."""


# Composites that are sized by their language model's row, and a tower of SigLIP.
WITH_TOWERS = {"gemma3"}
# Where transformers 5 keeps the language model of a composite.
INNER = "model.language_model"
# Source: transformers 5.24, models/siglip/configuration_siglip.py: what a config may leave out.
SIGLIP = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "image_size": 224,
    "patch_size": 16,
    "vision_use_head": True,
}


def has_row(config: Mapping[str, Any]) -> bool:
    """Return whether a config's shape follows from a row of the families alone.

    Not where blocks differ, or where towers stand beside the language model.
    """
    if config.get("model_type") in WITH_TOWERS:
        return True
    is_text = not isinstance(config.get("text_config"), Mapping)
    return is_text and not _has_mixed_blocks(config) and config.get("model_type") in FAMILIES


def shape_from_config(config: Mapping[str, Any], name: str = "") -> ModelShape:
    """Work out a model's shape from its config.json.

    Returns:
        The shape of one block and of what surrounds it.

    Raises:
        UnknownName: The `model_type` is none of FAMILIES.
        BadInput: A size is missing or impossible, or layers of different kinds are mixed.
    """
    text = config.get("text_config")
    whole = config
    is_composite = isinstance(text, Mapping) and bool(text.get("model_type"))
    if isinstance(text, Mapping) and is_composite:
        config = text
    model_type = str(config.get("model_type", ""))
    family = _family_of(config, model_type)
    sizes = _Sizes(config, family, model_type)
    of_block = sizes.of_block()
    h, d = of_block["h"], of_block["d"]
    vocab = sizes.number("vocab_size")
    num_experts, experts_per_token = _num_experts(sizes, family)
    tied = config.get("tie_word_embeddings")
    tower = _tower(whole, h) if is_composite else _Tower()
    has_one_norm = _has_one_norm(config, model_type)
    num_layers = sizes.number("num_hidden_layers")
    window, num_windowed = _windows(config, family, num_layers)
    norms = number(family.norm_params, of_block) // (2 if has_one_norm else 1)
    linears = family.linears(of_block, config)
    block = _block(model_type, num_layers, family, of_block, linears, num_experts, norms)
    positions = sizes.optional("max_position_embeddings") or sizes.optional("n_positions")
    outer = family.final_norm * h + (vocab if family.head_bias else 0) + tower.params
    return ModelShape(
        name=name or str(config.get("_name_or_path") or model_type),
        model_type=model_type,
        num_layers=num_layers,
        hidden_size=h,
        intermediate_size=of_block["i"],
        num_heads=of_block["q"] // d,
        num_kv_heads=of_block["kv"] // d,
        head_dim=d,
        vocab_size=vocab,
        tied=family.tied if tied is None else bool(tied),
        gated=family.gated,
        num_norms=1 if has_one_norm else family.num_norms,
        normed_width=number(family.normed_width, of_block),
        blocks=(block,),
        peft_agrees=family.expert_names is None and block.adapted == linears,
        num_experts=num_experts,
        experts_per_token=experts_per_token,
        shared_width=of_block["s"],
        outer_params=outer + (sizes.number("n_positions") * h if family.positions else 0),
        outer_linears=tower.linears,
        layer_norms=family.norms == "layer",
        fp32_norms=family.norms == "rms_fp32",
        pre_norms=family.pre_norms,
        post_norms=family.post_norms,
        composed_gelu=_activation(config, family) == "gelu_new",
        softcap=bool(config.get("attn_logit_softcapping")),
        window=window,
        num_windowed=num_windowed,
        max_positions=positions,
        notes=tower.notes,
        **(_INSIDE if is_composite else {}),
    )


def _num_experts(sizes: "_Sizes", family: Family) -> tuple[int, int]:
    """Return the experts of a block, and those that a token passes; 0 for a dense one.

    Raises:
        BadInput: A token passes more than there are.
    """
    if not family.experts_key:
        return 0, 0
    count, per_token = sizes.number(family.experts_key), sizes.number("num_experts_per_tok")
    if per_token > count:
        raise sizes.impossible("num_experts_per_tok", f"at most {count}, all experts")
    return count, per_token


def _has_one_norm(config: Mapping[str, Any], model_type: str) -> bool:
    """Return whether attention and MLP share one norm, as in most of Falcon."""
    is_parallel = model_type == "falcon" and not config.get("new_decoder_architecture")
    return is_parallel and bool(config.get("parallel_attn", True))


def _block(
    kind: str,
    count: int,
    family: Family,
    of_block: Mapping[str, int],
    linears: tuple[Linear, ...],
    num_experts: int,
    norms: int,
) -> Block:
    """Return the blocks of a model: layers, experts with their router, and norms."""
    h, i = of_block["h"], of_block["i"]
    expert_params = num_experts * (3 if family.gated else 2) * h * i

    def of_each(*matrices: tuple[str, int, int]) -> tuple[Linear, ...]:
        return tuple(
            Linear(name, d_out, d_in, copies=num_experts) for name, d_out, d_in in matrices
        )

    path, converted = family.experts_path, tuple[Linear, ...]()
    fused = of_each((f"{path}.gate_up_proj", 2 * i, h), (f"{path}.down_proj", h, i))
    if family.expert_names is not None:
        # PEFT 0.21 adapts the fused gate and up projection with twice the rank, so that each of
        # the two counts as a matrix of twice the width.
        # Source: peft/utils/transformers_weight_conversion.py
        gate, up, down = family.expert_names
        each = of_each((gate, 2 * i, h), (up, 2 * i, h), (down, h, i))
        converted = (Linear("gate", num_experts, h), *each)
    return Block(
        kind=kind,
        count=count,
        params=sum(one.params for one in linears) + expert_params + num_experts * h + norms,
        expert_params=expert_params,
        linears=linears,
        adapted=adapted_of(linears),
        experts=fused if num_experts else (),
        converted=converted,
    )


def _family_of(config: Mapping[str, Any], model_type: str) -> Family:
    """Return the row of a config's family.

    Raises:
        UnknownName: There is none.
        BadInput: Layers of different kinds are mixed.
    """
    if model_type not in FAMILIES:
        cure = f"use a model of a known family, or {OWN_SIZES}"
        raise UnknownName("model_type", model_type, FAMILIES, cure)
    if _has_mixed_blocks(config):
        raise BadInput(
            f"this {model_type} model mixes dense and expert blocks; {OWN_SIZES}, as those of an "
            "equivalent model"
        )
    return FAMILIES[model_type]


_INSIDE: dict[str, Any] = {
    "text_path": INNER,
    "stack": f"{INNER}.layers",
    "excluded": rf"(?!{re.escape(INNER)}\.).*",
}


@dataclass(frozen=True)
class _Tower:
    """What stands beside a language model, and what the shape's notes say of it."""

    linears: tuple[Linear, ...] = ()
    """Those of all its blocks, one after the other."""
    params: int = 0
    notes: tuple[str, ...] = ()


def _tower(config: Mapping[str, Any], text_width: int) -> _Tower:
    """Count Gemma 3's tower and projector.

    Source: transformers 5.24, models/siglip/modeling_siglip.py, gemma3/modeling_gemma3.py.
    """
    if config.get("model_type") not in WITH_TOWERS:
        return _Tower(notes=("the vision tower is not counted: the text model alone",))
    given = config.get("vision_config")
    said = given.items() if isinstance(given, Mapping) else ()
    sizes = SIGLIP | {key: value for key, value in said if isinstance(value, int) and value >= 0}
    h, i, blocks = sizes["hidden_size"], sizes["intermediate_size"], sizes["num_hidden_layers"]
    patch = sizes["patch_size"]
    around = 3 * patch**2 * h + h + (sizes["image_size"] // patch) ** 2 * h + 2 * h
    # A norm's weight in the projector, whose matrix is no nn.Linear.
    around += h * text_width + h
    widths = {"q_proj": (h, h), "k_proj": (h, h), "v_proj": (h, h), "out_proj": (h, h)}
    widths |= {"fc1": (i, h), "fc2": (h, i)}
    linears = tuple(
        Linear(f"vision_tower.{name}", blocks * d_out, d_in, bias=True)
        for name, (d_out, d_in) in widths.items()
    )
    inside = sum(linear.params for linear in linears) + blocks * 4 * h
    pooling = inside // blocks - h if sizes["vision_use_head"] else 0
    notes = ("multimodal: the vision tower is loaded, stays frozen and sees no input",)
    return _Tower(linears, inside + pooling + around, notes)


def _windows(config: Mapping[str, Any], family: Family, num_layers: int) -> tuple[int, int]:
    """Return to how many tokens blocks with a window attend, and how many blocks have one.

    Qwen 2 and 3 have windows above `max_window_layers` where that is asked for, which no published
    checkpoint does: they are not counted.

    Source: transformers 5.24, layer_types of the configurations; cache_utils.py, DynamicCache.
    """
    window = config.get("sliding_window", family.defaults.get("sliding_window"))
    if not isinstance(window, int) or "max_window_layers" in config:
        return 0, 0
    pattern = config.get("sliding_window_pattern")
    every = pattern if isinstance(pattern, int) else family.full_every
    types = config.get("layer_types")
    if isinstance(types, list):
        return window, types.count("sliding_attention")
    return window, num_layers - (num_layers // every if every else 0)


def _activation(config: Mapping[str, Any], family: Family) -> str:
    named = (config.get(key) for key in ("hidden_activation", "hidden_act", "activation_function"))
    return str(next(filter(None, named), family.activation))


@dataclass(frozen=True)
class _Sizes:
    """Reads sizes out of a config.json, with the library's defaults."""

    config: Mapping[str, Any]
    family: Family
    model_type: str

    def number(self, key: str) -> int:
        value = self.optional(key)
        if value is None:
            raise BadInput(f"the config of this {self.model_type} model has no {key!r}; add it")
        return value

    def optional(self, key: str) -> int | None:
        value = self.config.get(key)
        if value is None:
            value = self.config.get(self.family.keys.get(key, key), self.family.defaults.get(key))
        most = 2**63 if "position" in key else MAX_SIZE
        if value is not None and (not isinstance(value, int) or not 1 <= value <= most):
            raise self.impossible(key, f"a positive integer, at most {most}", value)
        return value

    def impossible(self, key: str, must: str, value: object = None) -> BadInput:
        """Return the refusal of a size."""
        value = self.optional(key) if value is None else value
        return BadInput(f"{key} is {brief(repr(value))} in the model's config; it must be {must}")

    def of_block(self) -> Sizes:
        """Return the sizes of a block, by the symbols of families.toml."""
        hidden = self.number("hidden_size")
        heads = self.number("num_attention_heads")
        head_dim = self.optional("head_dim") or self.family.head_dim
        if head_dim is None and hidden % heads:
            raise self.impossible(
                "hidden_size", f"a multiple of the {heads} heads, or give head_dim"
            )
        head_dim = head_dim or hidden // heads
        kv_heads = self._kv_heads(heads)
        if heads % kv_heads:
            raise self.impossible(
                "num_key_value_heads", f"a divisor of the {heads} query heads", kv_heads
            )
        width = self.optional(self.family.expert_width_key)
        if width is None and (self.family.one_kv_head or self.family.positions):
            width = self.optional("ffn_hidden_size") or 4 * hidden
        shared = int(self.config.get("shared_expert_intermediate_size") or 0)
        return {
            "h": hidden,
            "q": heads * head_dim,
            "kv": kv_heads * head_dim,
            "d": head_dim,
            "i": self.number(self.family.expert_width_key) if width is None else width,
            "s": shared,
        }

    def _kv_heads(self, heads: int) -> int:
        if self.family.one_kv_head:
            grouped = bool(self.config.get("new_decoder_architecture"))
            if self.config.get("multi_query", True) and not grouped:
                return 1
            return self.optional("num_kv_heads") or heads
        return self.optional("num_key_value_heads") or heads


def _has_mixed_blocks(config: Mapping[str, Any]) -> bool:
    """Return whether a MoE model has dense blocks too: one block would not stand for all."""
    return bool(config.get("mlp_only_layers")) or config.get("decoder_sparse_step", 1) != 1
