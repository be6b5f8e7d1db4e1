"""Small models of the families of 2026: one of each kind of block, in every size that is asked for.

`config(name, unit)` is a config.json; the hidden size is 64 units. Layers, heads and experts are
few, so that the real class trains in seconds at unit 1, and is traced with its own vocabulary at
unit 16.
"""

from collections.abc import Mapping
from typing import Any

TINY_VOCABULARY = 512
# Vocabulary of a published model of each family, where traces are to have it.
# Source: ft_tools/facts/models.toml, and the configuration classes of transformers 5.24
OWN_VOCABULARY = {
    "qwen3_5": 248320,
    "qwen3_5_moe": 248320,
    "qwen3_next": 151936,
    "qwen3_moe": 151936,
    "qwen3_vl": 151936,
    "qwen3_vl_moe": 151936,
    "qwen2_5_vl": 152064,
    "gemma4": 262144,
    "gemma4_moe": 262144,
    "gemma4_unified": 262144,
    "gemma3n": 262400,
    "gpt_oss": 201088,
    "llama4": 202048,
    "mllama": 128256,
    "mistral3": 131072,
    "ministral3": 131072,
    "mistral4": 131072,
    "glm4": 151552,
    "glm4_moe": 151552,
    "glm4_moe_lite": 154880,
    "deepseek_v3": 129280,
    "deepseek_v4": 129280,
    "nemotron_h": 131072,
    "nemotron_h_dense": 131072,
    "lfm2": 65536,
    "lfm2_moe": 65536,
    "lfm3": 128000,
    "granitemoehybrid": 100352,
    "falcon_h1": 32784,
    "seed_oss": 155136,
    "ernie4_5": 103424,
    "ernie4_5_moe": 103424,
    "hunyuan_v1_dense": 120818,
    "apertus": 131072,
    "exaone4": 102400,
    "cohere2": 256000,
    "minimax_m2": 200064,
    "smollm3": 128256,
    "olmo3": 100278,
    "muse_glimmer": 202048,
    "kimi_linear": 163840,
    "kimi_k25": 163840,
}
NAMES = tuple(OWN_VOCABULARY)
IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
LINEAR, FULL, SLIDING = "linear_attention", "full_attention", "sliding_attention"


def config(name: str, unit: int = 1, vocabulary: int = TINY_VOCABULARY) -> dict[str, Any]:
    """Return the config.json of a small model of a family.

    Args:
        name: One of NAMES.
        unit: The hidden size is 64 times this.
        vocabulary: Tokens.
    """
    h = 64 * unit
    plain = {
        "vocab_size": vocabulary,
        "hidden_size": h,
        "intermediate_size": 2 * h,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16 * unit,
        "max_position_embeddings": 4096,
    } | IDS
    own = {**_qwen(unit), **_gemma(unit), **_latent(unit), **_hybrid(unit), **_others(unit)}[name]
    if "text_config" in own:
        inner = plain | own["text_config"]
        tied = {"tie_word_embeddings": False}
        return own | {"text_config": inner | tied} | tied | IDS
    return plain | own


def _experts(h: int, count: str = "num_experts", **others: Any) -> dict[str, Any]:
    return {count: 8, "num_experts_per_tok": 2, "moe_intermediate_size": h // 2, **others}


def _tower(model_type: str, **others: Any) -> dict[str, Any]:
    """A tower of two small layers: it is loaded, and a text never passes it."""
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "depth": 2}
    heads = {"num_attention_heads": 2, "num_heads": 2}
    return {"model_type": model_type, **sizes, **heads, **others}


def _qwen(u: int) -> Mapping[str, dict[str, Any]]:
    h = 64 * u
    delta = {
        "linear_num_value_heads": 4,
        "linear_num_key_heads": 2,
        "linear_key_head_dim": 16 * u,
        "linear_value_head_dim": 16 * u,
        "layer_types": [LINEAR, FULL, LINEAR, FULL],
        # llama.cpp splits a head of these families into sections of 32 together.
        "head_dim": max(32, 16 * u),
    }
    shared = {"shared_expert_intermediate_size": h // 2}
    vision = _tower("qwen3_vl", out_hidden_size=h, deepstack_visual_indexes=[0])
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [4 * u, 2 * u, 2 * u]}
    return {
        "qwen3_5": {"model_type": "qwen3_5_text", **delta},
        "qwen3_5_moe": {"model_type": "qwen3_5_moe_text", **delta, **shared, **_experts(h)},
        "qwen3_next": {"model_type": "qwen3_next", **delta, **shared, **_experts(h)},
        "qwen3_moe": {"model_type": "qwen3_moe", **_experts(h)},
        "qwen3_vl": {
            "model_type": "qwen3_vl",
            "text_config": {"model_type": "qwen3_vl_text", "rope_parameters": rope},
            "vision_config": vision,
        },
        "qwen3_vl_moe": {
            "model_type": "qwen3_vl_moe",
            "text_config": {"model_type": "qwen3_vl_moe_text", "rope_parameters": rope}
            | _experts(h),
            "vision_config": vision | {"model_type": "qwen3_vl_moe"},
        },
        "qwen2_5_vl": {
            "model_type": "qwen2_5_vl",
            "text_config": {"model_type": "qwen2_5_vl_text", "rope_parameters": rope},
            "vision_config": _tower("qwen2_5_vl", out_hidden_size=h, fullatt_block_indexes=[1]),
        },
    }


def _gemma(u: int) -> Mapping[str, dict[str, Any]]:
    h = 64 * u
    layers = {"layer_types": [SLIDING, FULL, SLIDING, FULL], "sliding_window": 64}
    vision = _tower("gemma4_vision", num_key_value_heads=2, head_dim=16)
    gemma4 = {"model_type": "gemma4_text", "global_head_dim": 32 * u, **layers}
    return {
        "gemma4": {
            "model_type": "gemma4",
            "text_config": {
                **gemma4,
                "hidden_size_per_layer_input": 16 * u,
                "vocab_size_per_layer_input": TINY_VOCABULARY,
                "num_kv_shared_layers": 2,
                "use_double_wide_mlp": True,
            },
            "vision_config": vision,
        },
        "gemma4_moe": {
            "model_type": "gemma4",
            "text_config": {
                **gemma4,
                "hidden_size_per_layer_input": 0,
                "attention_k_eq_v": True,
                "num_global_key_value_heads": 1,
                "enable_moe_block": True,
                "num_experts": 8,
                "top_k_experts": 2,
                "moe_intermediate_size": h // 2,
            },
            "vision_config": vision,
        },
        "gemma4_unified": {
            "model_type": "gemma4_unified",
            "text_config": {
                **gemma4,
                "model_type": "gemma4_unified_text",
                "attention_k_eq_v": True,
                "num_global_key_value_heads": 1,
            },
            "vision_config": {"mm_embed_dim": 32, "mm_posemb_size": 16, "output_proj_dims": 32},
            "audio_config": {"audio_embed_dim": 32},
        },
        "gemma3n": {
            "model_type": "gemma3n_text",
            **layers,
            "hidden_size_per_layer_input": 16 * u,
            "vocab_size_per_layer_input": TINY_VOCABULARY,
            "num_kv_shared_layers": 2,
            "laurel_rank": 8 * u,
            "intermediate_size": [2 * h] * 4,
            "activation_sparsity_pattern": [0.95, 0.0, 0.0, 0.0],
            "altup_num_inputs": 4,
        },
    }


def _latent(u: int) -> Mapping[str, dict[str, Any]]:
    """Families whose keys and values go through a narrow layer."""
    h = 64 * u
    narrow = {
        "kv_lora_rank": 16 * u,
        "q_lora_rank": 16 * u,
        "qk_rope_head_dim": 8 * u,
        "qk_nope_head_dim": 8 * u,
        "v_head_dim": 16 * u,
        "num_key_value_heads": 4,
        "n_group": 1,
        "topk_group": 1,
    }
    routed = _experts(h, "n_routed_experts", n_shared_experts=1)
    deepseek = {"model_type": "deepseek_v3", **narrow, **routed, "first_k_dense_replace": 1}
    deepseek |= {"head_dim": 8 * u}
    return {
        "mistral4": {
            "model_type": "mistral3",
            "text_config": {
                "model_type": "mistral4",
                **narrow,
                **routed,
                "rope_parameters": {
                    "rope_type": "yarn",
                    "rope_theta": 1e4,
                    "factor": 4.0,
                    "original_max_position_embeddings": 1024,
                    "llama_4_scaling_beta": 0.1,
                    "mscale": 1.0,
                    "mscale_all_dim": 1.0,
                },
            },
            "vision_config": _tower("pixtral", head_dim=16, image_size=64, patch_size=16),
        },
        "glm4_moe_lite": deepseek
        | {"model_type": "glm4_moe_lite", "mlp_layer_types": ["dense", *["sparse"] * 3]},
        "deepseek_v3": deepseek,
        "deepseek_v4": {
            "model_type": "deepseek_v4",
            **_experts(h, "n_routed_experts", n_shared_experts=1),
            "intermediate_size": h // 2,
            "num_key_value_heads": 1,
            "head_dim": 32 * u,
            "partial_rotary_factor": 0.5,
            "q_lora_rank": 16 * u,
            "o_groups": 2,
            "o_lora_rank": 16 * u,
            "index_n_heads": 2,
            "index_head_dim": 16 * u,
            "index_topk": 16,
            "layer_types": ["heavily_compressed_attention", "compressed_sparse_attention"] * 2,
            "mlp_layer_types": ["hash_moe", "moe", "moe", "moe"],
            "compress_rates": {
                "compressed_sparse_attention": 4,
                "heavily_compressed_attention": 16,
            },
        },
        "kimi_k25": {
            "model_type": "kimi_k25",
            "text_config": deepseek,
            "vision_config": _tower("kimi_k25_vision", pos_emb_height=4, pos_emb_width=4),
            "projection_hidden_size": 32,
        },
    }


def _hybrid(u: int) -> Mapping[str, dict[str, Any]]:
    """Families with state-space, linear-attention or convolution blocks."""
    h = 64 * u
    nemotron = {
        "model_type": "nemotron_h",
        "ssm_state_size": 16,
        "mamba_num_heads": 4,
        "mamba_head_dim": 32 * u,
        "n_groups": 1,
        "chunk_size": 32,
    }
    mamba = {
        "mamba_n_heads": 4,
        "mamba_d_head": 32 * u,
        "mamba_d_state": 16,
        "mamba_n_groups": 1,
        "mamba_chunk_size": 32,
    }
    return {
        "nemotron_h": nemotron
        | _experts(h, "n_routed_experts", moe_shared_expert_intermediate_size=h)
        | {"layers_block_type": ["mamba", "moe", "attention", "moe"]},
        "nemotron_h_dense": nemotron | {"layers_block_type": ["mamba", "mlp", "attention", "mlp"]},
        "lfm2": {
            "model_type": "lfm2",
            "layer_types": ["conv", FULL, "conv", FULL],
            "block_ff_dim": 3 * h,
            "block_multiple_of": 32,
        },
        "lfm2_moe": {
            "model_type": "lfm2_moe",
            "layer_types": ["conv", FULL, "conv", FULL],
            "num_dense_layers": 1,
            **_experts(h),
        },
        "lfm3": {"model_type": "lfm3", "layer_types": ["conv", FULL, "conv", SLIDING]},
        "granitemoehybrid": {
            "model_type": "granitemoehybrid",
            **mamba,
            "layer_types": ["mamba", "attention", "mamba", "attention"],
            "num_local_experts": 8,
            "num_experts_per_tok": 2,
            "intermediate_size": h // 2,
            "shared_intermediate_size": h,
        },
        "falcon_h1": {
            "model_type": "falcon_h1",
            **{k: v for k, v in mamba.items() if k != "mamba_chunk_size"},
            "mamba_d_ssm": 128 * u,
            "mamba_chunk_size": 32,
        },
        "kimi_linear": {
            "model_type": "kimi_linear",
            "num_local_experts": 8,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": h // 2,
            "kv_lora_rank": 16 * u,
            "qk_rope_head_dim": 8 * u,
            "qk_nope_head_dim": 8 * u,
            "v_head_dim": 16 * u,
            "head_dim": 16 * u,
            "num_key_value_heads": 4,
            "linear_head_dim": 16 * u,
            "linear_num_heads": 4,
            "layer_types": [LINEAR, LINEAR, FULL, FULL],
            "mlp_layer_types": ["dense", "sparse", "sparse", "sparse"],
        },
    }


def _others(u: int) -> Mapping[str, dict[str, Any]]:
    h = 64 * u
    glm4_moe = _experts(h, "n_routed_experts", n_shared_experts=1, n_group=1, topk_group=1)
    return {
        "gpt_oss": {
            "model_type": "gpt_oss",
            "num_local_experts": 8,
            "num_experts_per_tok": 2,
            "intermediate_size": h // 2,
            "layer_types": [SLIDING, FULL, SLIDING, FULL],
            "sliding_window": 64,
        },
        "llama4": {
            "model_type": "llama4_text",
            "num_local_experts": 4,
            "num_experts_per_tok": 1,
            "interleave_moe_layer_step": 2,
            "intermediate_size_mlp": 2 * h,
            "intermediate_size": h,
            "no_rope_layers": [1, 1, 1, 0],
        },
        "mllama": {
            "model_type": "mllama",
            "text_config": {"model_type": "mllama_text_model", "cross_attention_layers": [1]},
            "vision_config": _tower(
                "mllama_vision_model",
                attention_heads=2,
                num_global_layers=1,
                intermediate_layers_indices=[0, 1],
                vision_output_dim=96,
                image_size=56,
                supported_aspect_ratios=[[1, 1]],
            ),
        },
        "mistral3": {
            "model_type": "mistral3",
            "text_config": {"model_type": "mistral"},
            "vision_config": _tower("pixtral", head_dim=16, image_size=64, patch_size=16),
        },
        "ministral3": {
            "model_type": "ministral3",
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 1e6,
                "factor": 4.0,
                "original_max_position_embeddings": 1024,
                "llama_4_scaling_beta": 0.1,
                "beta_fast": 32.0,
                "beta_slow": 1.0,
                "mscale": 1.0,
                "mscale_all_dim": 1.0,
            },
        },
        "glm4": {"model_type": "glm4", "partial_rotary_factor": 0.5},
        "glm4_moe": {"model_type": "glm4_moe", **glm4_moe, "first_k_dense_replace": 1},
        "seed_oss": {"model_type": "seed_oss"},
        "ernie4_5": {"model_type": "ernie4_5"},
        "ernie4_5_moe": {
            "model_type": "ernie4_5_moe",
            "moe_num_experts": 8,
            "moe_k": 2,
            "moe_intermediate_size": h // 2,
            "moe_num_shared_experts": 1,
            "moe_layer_start_index": 1,
            "moe_layer_end_index": 3,
        },
        "hunyuan_v1_dense": {"model_type": "hunyuan_v1_dense"},
        "apertus": {"model_type": "apertus"},
        "exaone4": {
            "model_type": "exaone4",
            "layer_types": [SLIDING, SLIDING, SLIDING, FULL],
            "sliding_window": 64,
            "sliding_window_pattern": "LLLG",
        },
        "cohere2": {
            "model_type": "cohere2",
            "layer_types": [SLIDING, SLIDING, SLIDING, FULL],
            "sliding_window": 64,
        },
        "minimax_m2": {
            "model_type": "minimax_m2",
            "num_local_experts": 8,
            "num_experts_per_tok": 2,
            "intermediate_size": h // 2,
            "rotary_dim": 8 * u,
        },
        "smollm3": {"model_type": "smollm3"},
        "olmo3": {
            "model_type": "olmo3",
            "layer_types": [SLIDING, SLIDING, SLIDING, FULL],
            "sliding_window": 64,
        },
        "muse_glimmer": {
            "model_type": "muse_glimmer",
            "text_config": {
                "model_type": "muse_glimmer_text",
                "layer_types": [SLIDING, FULL, SLIDING, FULL],
                "sliding_window": 64,
            },
            "vision_config": _tower("muse_glimmer_vision", pos_emb_height=4, pos_emb_width=4),
            "out_hidden_size": 128,
            "projector_hidden_size": 32,
        },
    }
