"""How the blocks of each model family are built, one row a family.

Each family is a row of FAMILIES: how its block is built, and what its config.json may leave out
because the library has a default. Module names are those of transformers 5.24, as PEFT sees them.

Source: the `modeling_*.py` and `configuration_*.py` files of transformers 5.24.0,
https://github.com/huggingface/transformers/tree/v5.24.0/src/transformers/models
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ft_tools.models.shape import Linear


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


Norms = Literal["rms", "rms_fp32", "layer"]
"""RMSNorm; one that scales in fp32; LayerNorm."""


@dataclass(frozen=True)
class Family:
    """How the blocks of a model family are built."""

    linears: Callable[[Dims], list[Linear]]
    norm_params: Callable[[Dims], int]
    num_norms: Callable[[Dims], int] = lambda dims: 2
    gated: bool = True
    tied: bool = False
    head_dim: int | None = None
    norms: Norms = "rms"
    pre_norms: bool = True
    post_norms: bool = False
    """Whether attention and MLP have a norm before them, and after them."""
    activation: str = "silu"
    """What the activation is where config.json does not say."""
    final_norm_factor: int = 1
    """1 for a weight, 2 for a weight and a bias, 0 for a norm without parameters."""
    normed_width: Callable[[Dims], int] = lambda dims: 0
    outer: Callable[[Dims, int], int] = lambda dims, vocab: 0
    experts_key: str | None = None
    expert_width_key: str = "intermediate_size"
    expert_names: tuple[str, str, str] | None = None
    """What PEFT calls an expert's gate, up and down projection; None where it finds none."""
    experts_path: str = "mlp.experts"
    """Where its fused experts are in a block."""
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


def _ernie(dims: Dims) -> list[Linear]:
    bias = dims.flag("use_bias")
    return _qkvo(dims, bias, bias) + _gated_mlp(dims, bias=bias)


def _glm4(dims: Dims) -> list[Linear]:
    mlp = [Linear("gate_up_proj", 2 * dims.i, dims.h), Linear("down_proj", dims.h, dims.i)]
    return _qkvo(dims, qkv_bias=dims.flag("attention_bias", default=True)) + mlp


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
_GPT2 = Family(
    _gpt2,
    lambda dims: 4 * dims.h,
    norms="layer",
    gated=False,
    activation="gelu_new",
    tied=True,
    final_norm_factor=2,
    outer=_positions,
    keys=_GPT2_KEYS,
)

_OLMO2 = Family(
    _llama,
    lambda dims: 2 * dims.h + dims.q + dims.kv,
    norms="rms_fp32",
    pre_norms=False,
    post_norms=True,
    normed_width=lambda dims: dims.q + dims.kv,
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
    "gemma": Family(_llama, lambda dims: 2 * dims.h, norms="rms_fp32", tied=True, head_dim=256),
    "gemma2": Family(
        _llama,
        lambda dims: 4 * dims.h,
        num_norms=lambda dims: 4,
        norms="rms_fp32",
        post_norms=True,
        tied=True,
        head_dim=256,
    ),
    "gemma3_text": Family(
        _llama,
        lambda dims: 4 * dims.h + 2 * dims.d,
        num_norms=lambda dims: 4,
        norms="rms_fp32",
        post_norms=True,
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
        norms="layer",
        gated=False,
        activation="gelu_new",
        final_norm_factor=2,
        outer=lambda dims, vocab: vocab,  # the head has a bias
    ),
    "ministral3": Family(_plain, lambda dims: 2 * dims.h, head_dim=128),
    "glm4": Family(
        _glm4, lambda dims: 4 * dims.h, num_norms=lambda dims: 4, post_norms=True, head_dim=128
    ),
    "ernie4_5": Family(_ernie, lambda dims: 2 * dims.h, tied=True, head_dim=128),
    "hunyuan_v1_dense": Family(
        _llama, lambda dims: 2 * dims.h + 2 * dims.d, normed_width=lambda dims: dims.q + dims.kv
    ),
    "exaone4": Family(
        _plain,
        lambda dims: 2 * dims.h + 2 * dims.d,
        pre_norms=False,
        post_norms=True,
        normed_width=lambda dims: dims.q + dims.kv,
    ),
    "smollm3": Family(_llama, lambda dims: 2 * dims.h, tied=True),
    "granite": _LLAMA,
    "olmo": Family(_llama, lambda dims: 0, norms="layer", final_norm_factor=0),
    "olmo2": _OLMO2,
    "olmo3": _OLMO2,
    "falcon": Family(
        _falcon,
        lambda dims: 2 * dims.h * _falcon_num_norms(dims),
        num_norms=lambda dims: _falcon_num_norms(dims),
        norms="layer",
        gated=False,
        tied=True,
        final_norm_factor=2,
    ),
    "gpt_neox": Family(
        _gpt_neox, lambda dims: 4 * dims.h, norms="layer", gated=False, final_norm_factor=2
    ),
    "starcoder2": Family(
        _starcoder2,
        lambda dims: 4 * dims.h,
        norms="layer",
        gated=False,
        tied=True,
        final_norm_factor=2,
    ),
    "gpt2": _GPT2,
    "gpt_bigcode": replace(_GPT2, activation="gelu_pytorch_tanh"),
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
        experts_path="block_sparse_moe.experts",
    ),
    "qwen3_moe": Family(
        _qwen3_attention,
        lambda dims: 2 * dims.h + 2 * dims.d,
        normed_width=lambda dims: dims.q + dims.kv,
        experts_key="num_experts",
        expert_width_key="moe_intermediate_size",
        expert_names=("gate_proj", "up_proj", "down_proj"),
        keys={"num_experts": "num_local_experts"},  # as transformers 5.24 saves it
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
