"""From a config.json to a ModelShape, one row a model family.

Each family is a row of FAMILIES: how its block is built, and what its config.json may leave out
because the library has a default. Module names are those of transformers 5.24, as PEFT sees them.

Source: the `modeling_*.py` and `configuration_*.py` files of transformers 5.24.0,
https://github.com/huggingface/transformers/tree/v5.24.0/src/transformers/models
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ft_tools.errors import BadInput, UnknownName
from ft_tools.models.shape import Linear, ModelShape

SHAPE_FIELDS = (
    "num_layers, hidden_size, intermediate_size, num_heads, num_kv_heads, head_dim, vocab_size, "
    "tied_embeddings"
)


@dataclass(frozen=True)
class Dims:
    """The sizes of a config.json, under one set of names."""

    h: int
    """hidden size"""
    q: int
    """width of all query heads"""
    kv: int
    """width of all key heads"""
    d: int
    """width of one head"""
    i: int
    """intermediate size, of one expert where there are experts"""
    config: Mapping[str, Any]

    def flag(self, key: str, default: bool = False) -> bool:
        """Return a yes-or-no setting of the config."""
        value = self.config.get(key)
        return default if value is None else bool(value)


@dataclass(frozen=True)
class Family:
    """How the blocks of a model family are built."""

    linears: Callable[[Dims], list[Linear]]
    norm_params: Callable[[Dims], int]
    num_norms: Callable[[Dims], int] = lambda dims: 2
    gated: bool = True
    tied: bool = False
    head_dim: int | None = None
    final_norm_factor: int = 1
    """1 for a weight, 2 for a weight and a bias, 0 for a norm without parameters."""
    normed_width: Callable[[Dims], int] = lambda dims: 0
    outer: Callable[[Dims, int], int] = lambda dims, vocab: 0
    experts_key: str | None = None
    expert_width_key: str = "intermediate_size"
    expert_names: tuple[str, str, str] | None = None
    """What PEFT calls an expert's gate, up and down projection; None where it finds none."""
    keys: Mapping[str, str] = field(default_factory=dict)
    """Where this family writes a size under a name of its own."""
    defaults: Mapping[str, int] = field(default_factory=dict)
    """Sizes that its config.json may leave out."""


def _qkvo(dims: Dims, qkv_bias: bool = False, o_bias: bool = False) -> list[Linear]:
    return [
        Linear("q_proj", dims.q, dims.h, qkv_bias),
        Linear("k_proj", dims.kv, dims.h, qkv_bias),
        Linear("v_proj", dims.kv, dims.h, qkv_bias),
        Linear("o_proj", dims.h, dims.q, o_bias),
    ]


def _gated_mlp(dims: Dims, width: int | None = None, bias: bool = False) -> list[Linear]:
    width = dims.i if width is None else width
    return [
        Linear("gate_proj", width, dims.h, bias),
        Linear("up_proj", width, dims.h, bias),
        Linear("down_proj", dims.h, width, bias),
    ]


def _llama(dims: Dims) -> list[Linear]:
    bias = dims.flag("attention_bias")
    return _qkvo(dims, bias, bias) + _gated_mlp(dims, bias=dims.flag("mlp_bias"))


def _plain(dims: Dims) -> list[Linear]:
    return _qkvo(dims) + _gated_mlp(dims)


def _qwen2(dims: Dims) -> list[Linear]:
    return _qkvo(dims, qkv_bias=True) + _gated_mlp(dims)


def _qwen3_attention(dims: Dims) -> list[Linear]:
    bias = dims.flag("attention_bias")
    return _qkvo(dims, bias, bias)


def _qwen3(dims: Dims) -> list[Linear]:
    return _qwen3_attention(dims) + _gated_mlp(dims)


def _qwen2_moe(dims: Dims) -> list[Linear]:
    shared = _gated_mlp(dims, int(dims.config["shared_expert_intermediate_size"]))
    return [
        *_qkvo(dims, qkv_bias=dims.flag("qkv_bias", default=True)),
        *(m._replace(name=f"shared_expert.{m.name}") for m in shared),
        Linear("shared_expert_gate", 1, dims.h),
    ]


def _phi3(dims: Dims) -> list[Linear]:
    return [
        Linear("qkv_proj", dims.q + 2 * dims.kv, dims.h),
        Linear("o_proj", dims.h, dims.q),
        Linear("gate_up_proj", 2 * dims.i, dims.h),
        Linear("down_proj", dims.h, dims.i),
    ]


def _phi(dims: Dims) -> list[Linear]:
    attention = _qkvo(dims, qkv_bias=True, o_bias=True)
    attention[-1] = attention[-1]._replace(name="dense")
    mlp = [Linear("fc1", dims.i, dims.h, bias=True), Linear("fc2", dims.h, dims.i, bias=True)]
    return attention + mlp


def _falcon(dims: Dims) -> list[Linear]:
    bias = dims.flag("bias")
    return [
        Linear("query_key_value", dims.q + 2 * dims.kv, dims.h, bias),
        Linear("dense", dims.h, dims.q, bias),
        Linear("dense_h_to_4h", dims.i, dims.h, bias),
        Linear("dense_4h_to_h", dims.h, dims.i, bias),
    ]


def _gpt_neox(dims: Dims) -> list[Linear]:
    bias = dims.flag("attention_bias", default=True)
    return [
        Linear("query_key_value", 3 * dims.q, dims.h, bias),
        Linear("dense", dims.h, dims.q, bias),
        Linear("dense_h_to_4h", dims.i, dims.h, bias=True),
        Linear("dense_4h_to_h", dims.h, dims.i, bias=True),
    ]


def _starcoder2(dims: Dims) -> list[Linear]:
    bias = dims.flag("use_bias", default=True)
    mlp = [Linear("c_fc", dims.i, dims.h, bias), Linear("c_proj", dims.h, dims.i, bias)]
    return _qkvo(dims, bias, bias) + mlp


def _gpt2(dims: Dims) -> list[Linear]:
    return [
        Linear("attn.c_attn", dims.q + 2 * dims.kv, dims.h, bias=True),
        Linear("attn.c_proj", dims.h, dims.q, bias=True),
        Linear("mlp.c_fc", dims.i, dims.h, bias=True),
        Linear("mlp.c_proj", dims.h, dims.i, bias=True),
    ]


def _expert_linears(family: Family, dims: Dims, num_experts: int) -> tuple[Linear, ...]:
    """Name the router and the experts as PEFT 0.21 does.

    It adapts the fused gate and up projection with twice the rank, so that each of the two counts
    as a matrix of twice the width.

    Source: peft/utils/transformers_weight_conversion.py
    """
    if family.expert_names is None:
        return ()
    gate, up, down = family.expert_names
    return (
        Linear("gate", num_experts, dims.h),
        Linear(gate, 2 * dims.i, dims.h, copies=num_experts),
        Linear(up, 2 * dims.i, dims.h, copies=num_experts),
        Linear(down, dims.h, dims.i, copies=num_experts),
    )


def _falcon_num_norms(dims: Dims) -> int:
    two = dims.flag("new_decoder_architecture") or not dims.flag("parallel_attn", default=True)
    return 2 if two else 1


def _positions(dims: Dims, vocab: int) -> int:
    return int(dims.config["n_positions"]) * dims.h


_GPT2_KEYS = {
    "hidden_size": "n_embd",
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "intermediate_size": "n_inner",
}
_LLAMA = Family(_llama, lambda dims: 2 * dims.h)
_GEMMA2 = Family(_llama, lambda dims: 4 * dims.h, num_norms=lambda dims: 4, tied=True, head_dim=256)
_GPT2 = Family(
    _gpt2,
    lambda dims: 4 * dims.h,
    gated=False,
    tied=True,
    final_norm_factor=2,
    outer=_positions,
    keys=_GPT2_KEYS,
)

FAMILIES: Mapping[str, Family] = {
    "llama": _LLAMA,
    "mistral": Family(_plain, lambda dims: 2 * dims.h),
    "qwen2": Family(_qwen2, lambda dims: 2 * dims.h),
    "qwen3": Family(
        _qwen3,
        lambda dims: 2 * dims.h + 2 * dims.d,
        head_dim=128,
        normed_width=lambda dims: dims.q + dims.kv,
    ),
    "gemma": Family(_llama, lambda dims: 2 * dims.h, tied=True, head_dim=256),
    "gemma2": _GEMMA2,
    "gemma3_text": Family(
        _llama,
        lambda dims: 4 * dims.h + 2 * dims.d,
        num_norms=lambda dims: 4,
        tied=True,
        head_dim=256,
        normed_width=lambda dims: dims.q + dims.kv,
        defaults={"num_attention_heads": 8, "num_key_value_heads": 4, "vocab_size": 262208},
    ),
    "phi3": Family(_phi3, lambda dims: 2 * dims.h),
    "phi": Family(
        _phi,
        lambda dims: 2 * dims.h,
        num_norms=lambda dims: 1,
        gated=False,
        final_norm_factor=2,
        outer=lambda dims, vocab: vocab,  # the head has a bias
    ),
    "smollm3": Family(_llama, lambda dims: 2 * dims.h, tied=True),
    "granite": _LLAMA,
    "olmo": Family(_llama, lambda dims: 0, final_norm_factor=0),
    "olmo2": Family(
        _llama,
        lambda dims: 2 * dims.h + dims.q + dims.kv,
        normed_width=lambda dims: dims.q + dims.kv,
    ),
    "olmo3": Family(
        _llama,
        lambda dims: 2 * dims.h + dims.q + dims.kv,
        normed_width=lambda dims: dims.q + dims.kv,
    ),
    "falcon": Family(
        _falcon,
        lambda dims: 2 * dims.h * _falcon_num_norms(dims),
        num_norms=lambda dims: _falcon_num_norms(dims),
        gated=False,
        tied=True,
        final_norm_factor=2,
    ),
    "gpt_neox": Family(_gpt_neox, lambda dims: 4 * dims.h, gated=False, final_norm_factor=2),
    "starcoder2": Family(
        _starcoder2, lambda dims: 4 * dims.h, gated=False, tied=True, final_norm_factor=2
    ),
    "gpt2": _GPT2,
    "gpt_bigcode": _GPT2,
    "mixtral": Family(
        lambda dims: _qkvo(dims),
        lambda dims: 2 * dims.h,
        experts_key="num_local_experts",
        expert_names=("w1", "w3", "w2"),
    ),
    "granitemoe": Family(
        lambda dims: _qkvo(dims, dims.flag("attention_bias"), dims.flag("attention_bias")),
        lambda dims: 2 * dims.h,
        experts_key="num_local_experts",
    ),
    "qwen3_moe": Family(
        _qwen3_attention,
        lambda dims: 2 * dims.h + 2 * dims.d,
        normed_width=lambda dims: dims.q + dims.kv,
        experts_key="num_experts",
        expert_width_key="moe_intermediate_size",
        expert_names=("gate_proj", "up_proj", "down_proj"),
    ),
    "qwen2_moe": Family(
        _qwen2_moe,
        lambda dims: 2 * dims.h,
        experts_key="num_experts",
        expert_width_key="moe_intermediate_size",
    ),
    "olmoe": Family(
        lambda dims: _qkvo(dims, dims.flag("attention_bias"), dims.flag("attention_bias")),
        lambda dims: 2 * dims.h + dims.q + dims.kv,
        normed_width=lambda dims: dims.q + dims.kv,
        experts_key="num_experts",
        expert_names=("gate_proj", "up_proj", "down_proj"),
    ),
}


def shape_from_config(config: Mapping[str, Any], name: str = "") -> ModelShape:
    """Work out a model's shape from its config.json.

    Args:
        config: The parsed config.json. A multimodal one is read through its `text_config`; its
            vision tower is not counted, and the shape's notes say so.
        name: What to call the model in messages; the config's own name if empty.

    Returns:
        The shape of one block and of what surrounds it.

    Raises:
        UnknownName: The `model_type` is none of FAMILIES.
        BadInput: A size is missing, or layers of different kinds are mixed.
    """
    notes: tuple[str, ...] = ()
    text = config.get("text_config")
    if isinstance(text, Mapping) and text.get("model_type"):
        config = text
        notes = ("the vision tower is not counted: the text model alone",)
    model_type = str(config.get("model_type", ""))
    if model_type not in FAMILIES:
        cure = f"pass the shapes instead: {SHAPE_FIELDS}; or name a model of a listed family"
        raise UnknownName("model_type", model_type, FAMILIES, cure)
    family = FAMILIES[model_type]
    _refuse_mixed_layers(config, model_type)
    sizes = _Sizes(config, family, model_type)
    dims = sizes.dims()
    vocab = sizes.number("vocab_size")
    num_experts = sizes.number(family.experts_key) if family.experts_key else 0
    tied = dims.flag("tie_word_embeddings", default=family.tied)
    return ModelShape(
        name=name or str(config.get("_name_or_path") or model_type),
        model_type=model_type,
        num_layers=sizes.number("num_hidden_layers"),
        hidden_size=dims.h,
        intermediate_size=dims.i,
        num_heads=dims.q // dims.d,
        num_kv_heads=dims.kv // dims.d,
        head_dim=dims.d,
        vocab_size=vocab,
        tied=tied,
        gated=family.gated,
        linears=tuple(family.linears(dims)),
        num_norms=family.num_norms(dims),
        normed_width=family.normed_width(dims),
        norm_params=family.norm_params(dims),
        expert_linears=_expert_linears(family, dims, num_experts),
        num_experts=num_experts,
        experts_per_token=sizes.number("num_experts_per_tok") if family.experts_key else 0,
        shared_width=int(config.get("shared_expert_intermediate_size") or 0),
        outer_params=family.final_norm_factor * dims.h + family.outer(dims, vocab),
        softcap=bool(config.get("attn_logit_softcapping")),
        max_positions=config.get("max_position_embeddings") or config.get("n_positions"),
        notes=notes,
    )


@dataclass(frozen=True)
class _Sizes:
    """Reads sizes out of a config.json, with the library's defaults."""

    config: Mapping[str, Any]
    family: Family
    model_type: str

    def number(self, key: str) -> int:
        value = self.optional(key)
        if value is None:
            raise BadInput(
                f"the config of this {self.model_type} model has no {key!r}; add it, or pass the "
                f"shapes: {SHAPE_FIELDS}"
            )
        return value

    def optional(self, key: str) -> int | None:
        value = self.config.get(key)
        if value is None:
            value = self.config.get(self.family.keys.get(key, key), self.family.defaults.get(key))
        if value is not None and (not isinstance(value, int) or value < 1):
            raise BadInput(f"{key} is {value!r} in the model's config; it must be a whole number")
        return value

    def dims(self) -> Dims:
        hidden = self.number("hidden_size")
        heads = self.number("num_attention_heads")
        head_dim = self.optional("head_dim") or self.family.head_dim or hidden // heads
        width = self.optional(self.family.expert_width_key)
        if width is None:
            width = self._four_times(hidden)
        return Dims(
            h=hidden,
            q=heads * head_dim,
            kv=self._kv_heads(heads) * head_dim,
            d=head_dim,
            i=width,
            config=self.config,
        )

    def _four_times(self, hidden: int) -> int:
        if self.model_type in {"falcon", "gpt2", "gpt_bigcode"}:
            return self.optional("ffn_hidden_size") or 4 * hidden
        return self.number(self.family.expert_width_key)

    def _kv_heads(self, heads: int) -> int:
        if self.model_type in {"falcon", "gpt_bigcode"}:
            grouped = bool(self.config.get("new_decoder_architecture"))
            if self.config.get("multi_query", True) and not grouped:
                return 1
            return self.optional("num_kv_heads") or heads
        return self.optional("num_key_value_heads") or heads


def _refuse_mixed_layers(config: Mapping[str, Any], model_type: str) -> None:
    """Refuse a MoE model that has dense blocks too: one block would not stand for all."""
    mixed = config.get("mlp_only_layers") or config.get("decoder_sparse_step", 1) != 1
    if mixed:
        raise BadInput(
            f"this {model_type} model mixes dense and expert blocks; pass the shapes of an "
            f"equivalent model instead: {SHAPE_FIELDS}"
        )
