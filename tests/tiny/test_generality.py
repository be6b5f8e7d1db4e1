"""Models of families without a row: counted as the real class and PEFT count them, and estimated.

None of these types is named anywhere in the package: what is read off the class has to do.
"""

import json

import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model

from ft_tools.errors import BadInput
from ft_tools.lora.request import LoraRequest
from ft_tools.models.adapter_targets import adaptable_arguments, peft_arguments
from ft_tools.models.shape_of_model import shape_of_config
from ft_tools.training.suggestion import suggest_lora_config
from tests.tiny.sizes import SIZES

pytestmark = [
    pytest.mark.tiny,
    pytest.mark.filterwarnings("ignore"),  # of the classes of thirty families, none of them ours
]
EXPERTS = {"moe_intermediate_size": 64, "num_experts_per_tok": 2}
CONFIGS = [
    {"model_type": "arcee"},
    {"model_type": "helium"},
    {"model_type": "glm"},
    {"model_type": "nemotron"},
    {"model_type": "olmo3"} | {"mlp_only_layers": [0]},
    {"model_type": "diffllama"},
    {"model_type": "bloom", "n_layer": 4, "n_head": 4},
    {"model_type": "gptj", "n_embd": 128, "n_layer": 4, "n_head": 4, "rotary_dim": 16},
    {"model_type": "xglm", "d_model": 128, "num_layers": 4, "attention_heads": 4, "ffn_dim": 256},
    {"model_type": "bamba", "attn_layer_indices": [1], "mamba_n_heads": 8, "mamba_d_head": 32},
    {"model_type": "mamba2", "num_heads": 8, "head_dim": 32, "state_size": 16, "n_groups": 1},
    {"model_type": "jamba", "num_experts": 4, "mamba_dt_rank": 8, "use_mamba_kernels": False},
    {"model_type": "phimoe", "num_local_experts": 4, "num_experts_per_tok": 2},
    {"model_type": "deepseek_v2", "n_routed_experts": 4, "n_group": 1, "topk_group": 1}
    | {"kv_lora_rank": 32, "q_lora_rank": 32, "qk_rope_head_dim": 16, "qk_nope_head_dim": 16}
    | {"v_head_dim": 32, "first_k_dense_replace": 1}
    | EXPERTS,
    {"model_type": "flex_olmo", "num_experts": 4, "num_experts_per_tok": 2},
]


@pytest.fixture(autouse=True)
def kept(workspace, monkeypatch):
    """Keep what is read off classes in a folder of the test."""
    monkeypatch.setenv("FINE_TUNING_LLM_CACHE", str(workspace / "cache"))


def real(config):
    """Build the class as anybody would."""
    ours = {key: value for key, value in config.items() if key != "model_type"}
    with torch.device("meta"):
        return transformers.AutoModelForCausalLM.from_config(
            transformers.AutoConfig.for_model(config["model_type"], **ours)
        )


def trained(model, **arguments):
    with torch.device("meta"):
        adapted = get_peft_model(
            model, LoraConfig(r=8, task_type="CAUSAL_LM", **arguments), autocast_adapter_dtype=False
        )
    return sum(p.numel() for p in adapted.parameters() if p.requires_grad)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config["model_type"])
def test_any_architecture_counts_as_its_class_and_peft_count_it(config):
    config = SIZES | config
    shape = shape_of_config(config, "tiny")
    model = real(config)
    assert shape.total_params == sum(p.numel() for p in model.parameters())
    assert shape.lora_params(8) == trained(model, **peft_arguments(shape))
    experts = sorted({linear.name for block in shape.blocks for linear in block.experts})
    if experts:
        both = peft_arguments(shape) | {"target_parameters": experts}
        counted = shape.lora_params(8, target_parameters=tuple(experts))
        assert counted == trained(real(config), **both)


# Dense, hybrid with experts, experts; the others are of the same kinds.
ESTIMATED = {"arcee", "jamba", "phimoe"}
ALSO = {"bloom", "bamba", "deepseek_v2"}


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(
            config,
            id=config["model_type"],
            marks=pytest.mark.faults if config["model_type"] in ALSO else (),
        )
        for config in CONFIGS
        if config["model_type"] in ESTIMATED | ALSO
    ],
)
def test_any_architecture_is_estimated_and_its_suggestion_fits_peft(config, monkeypatch, workspace):
    config = SIZES | config
    (workspace / "config.json").write_text(json.dumps(config))
    report = suggest_lora_config(LoraRequest(model="config.json", gpu="RTX 4090"))
    assert report.vram.fits == "yes"
    assert report.vram.interval_basis == "traced_family"
    modules = report.peft["target_modules"]
    assert report.trainable_params > 0
    ranks = report.peft["r"]
    assert trained(real(config), target_modules=modules) * ranks == 8 * report.trainable_params


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "arcee", "hidden_size": "wide"},
        {"model_type": "t5"},
        {"model_type": "bert"},
        {"model_type": "someones_own", "auto_map": {"AutoConfig": "modeling.Own"}},
    ],
)
def test_what_cannot_be_sized_is_refused(config):
    with pytest.raises(BadInput):
        shape_of_config(config, "mine")


def test_a_plan_leaves_out_what_peft_refuses_to_adapt(workspace):
    config = SIZES | {"model_type": "mamba2", "num_heads": 8, "state_size": 16, "n_groups": 1}
    (workspace / "mine").mkdir()
    (workspace / "mine" / "config.json").write_text(json.dumps(config))
    everything = {"r": 8, "target_modules": "all-linear"}
    planned = adaptable_arguments("mine", everything)
    assert planned["exclude_modules"] == r".*\.out_proj"
    assert trained(real(config), **{k: v for k, v in planned.items() if k != "r"}) > 0
    named = {"r": 8, "target_modules": ["in_proj"]}
    assert adaptable_arguments("mine", named) == named
