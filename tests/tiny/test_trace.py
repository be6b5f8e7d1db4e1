"""The formulas against traces of the real model classes, and a trace against a measured run."""

import json

import pytest
import torch
from pydantic import ValidationError

from ft_tools import facts
from ft_tools.memory.phases import phases
from ft_tools.memory.request import VramRequest
from ft_tools.memory.request_to_setup import setup_of
from ft_tools.memory.tool import estimate_vram
from ft_tools.memory.traced import (
    DEPTHS,
    at_depth,
    by_formula,
    compared,
    options_of,
    without_workspace,
)
from ft_tools.memory.worker.live_tensors import Live
from ft_tools.memory.worker.trace import trace_step, with_layers
from ft_tools.models.config import shape_from_config
from ft_tools.models.shape_of_model import shape_of

pytestmark = [
    pytest.mark.tiny,
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing_enable.*:FutureWarning"),
]
# benchmarks/trace.py has all twelve architectures, and each of these both ways.
CASES = [
    ("meta-llama/Llama-3.2-1B", "full", True, {}),
    ("meta-llama/Llama-3.2-1B", "lora", False, {}),
    ("meta-llama/Llama-3.2-1B", "qlora", True, {"loss_head": "trl_fused"}),
    ("google/gemma-3-1b-pt", "lora", True, {}),
    ("microsoft/Phi-3-mini-4k-instruct", "qlora", False, {}),
]


def setup_for(model, shape, **arguments):
    usual = {"attention": "flash", "loss_head": "full_logits", "optimizer": "adamw_torch"}
    return without_workspace(setup_of(VramRequest(model=model, **usual | arguments), shape))


@pytest.mark.parametrize(("model", "method", "checkpointing", "others"), CASES)
def test_the_formulas_agree_with_a_trace_of_the_real_classes(model, method, checkpointing, others):
    config = with_layers(facts.model(model).config, 2)
    shape = shape_from_config(config, model)
    setup = setup_for(
        model,
        shape,
        method=method,
        seq_len=4096,
        gradient_checkpointing=checkpointing,
        **others,
    )
    traced = trace_step(config, options_of(setup))
    formula = by_formula(phases(setup))
    assert max(formula.values()) == pytest.approx(max(traced.values()), rel=0.05)


def test_eager_attention_keeps_six_bytes_of_every_score_of_every_block():
    model = "meta-llama/Llama-3.2-1B"
    config = facts.model(model).config
    kept = {}
    for attention in ("eager", "flash"):
        setup = setup_for(
            model,
            shape_of(model),
            method="lora",
            seq_len=1024,
            gradient_checkpointing=False,
            attention=attention,
        )
        two, four = (trace_step(with_layers(config, n), options_of(setup)) for n in DEPTHS)
        kept[attention] = (four["loss"] - two["loss"]) / 2 / 1024
    scores = (kept["eager"] - kept["flash"]) / (32 * 1024)
    # Keys and values are repeated for every query head, in 2 bytes each.
    repeated = 4 * (2048 - 512) / (32 * 1024)
    assert scores == pytest.approx(6 + repeated, rel=0.03)


def test_a_trace_comes_near_a_measured_run_without_any_constant():
    # 24.87 GiB: fms-acceleration, scripts/benchmarks/refs/a100_80gb.csv:32 (A100-80GB).
    model = "mistralai/Mistral-7B-v0.1"
    shape = shape_of(model)
    setup = setup_for(
        model,
        shape,
        method="lora",
        target_modules=("q_proj", "k_proj", "v_proj", "o_proj"),
        seq_len=4096,
        micro_batch=4,
        mixed_precision=False,
        trl_version=None,
        transformers_version="4.48",
    )
    config = facts.model(model).config
    two, four = (trace_step(with_layers(config, n), options_of(setup)) for n in DEPTHS)
    report = compared(setup, at_depth(two, four, shape.num_layers))
    assert report.peak_allocated_gib == pytest.approx(24.87, rel=0.02)
    assert abs(report.difference_fraction) < 0.02


def test_a_storage_is_counted_once_and_until_it_is_freed():
    with Live() as live:
        first = torch.empty(1000, dtype=torch.float32)
        view = first.view(10, 100)
        assert live.now == 4096
        del first
        assert live.now == 4096
        del view
        assert live.now == 0
    assert live.peak == 4096


def test_a_second_opinion_agrees_with_the_formulas_from_config_json_alone(workspace):
    config = facts.model("Qwen/Qwen3-0.6B").config
    (workspace / "mine").mkdir()
    (workspace / "mine" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    request = VramRequest(model="mine", method="qlora", seq_len=1024, second_opinion=True)
    report = estimate_vram(request)
    opinion = report.second_opinion
    assert opinion.agrees
    assert opinion.peak_allocated_gib == max(opinion.phases.values())
    width = report.peak_allocated_high_gib / report.peak_allocated_gib - 1
    assert abs(opinion.difference_fraction) <= width + 1e-4
    assert (
        estimate_vram(request.model_copy(update={"second_opinion": False})).second_opinion is None
    )


@pytest.mark.parametrize(
    ("arguments", "cure"),
    [
        ({"optimizer": "adamw_8bit"}, "adamw_torch_fused"),
        ({"loss_head": "fused_linear"}, "trl_fused"),
        ({"num_gpus": 2, "sharding": "fsdp"}, "num_gpus=1"),
    ],
)
def test_what_cannot_be_traced_is_refused_with_the_cure(arguments, cure):
    with pytest.raises(ValidationError, match=cure):
        VramRequest(model="Qwen/Qwen3-0.6B", second_opinion=True, **arguments)


def test_a_mac_gets_no_second_opinion_and_the_reason():
    request = VramRequest(model="Qwen/Qwen3-0.6B", gpu="M4 Max 64GB", second_opinion=True)
    report = estimate_vram(request)
    assert report.second_opinion is None
    assert "a trace runs torch" in report.summary
