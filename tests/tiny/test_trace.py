"""The formulas against traces of the real model classes, and a trace against a measured run."""

import json
import time

import pytest
import torch
from pydantic import ValidationError

from ft_tools import facts
from ft_tools.errors import BadInput
from ft_tools.memory.phases import phases
from ft_tools.memory.request import VramRequest
from ft_tools.memory.request_to_setup import setup_of
from ft_tools.memory.trace import (
    DEPTHS,
    TraceRequest,
    at_depth,
    by_formula,
    compared,
    trace_vram,
    traced_setup,
)
from ft_tools.memory.worker.live_tensors import Live
from ft_tools.memory.worker.trace import options_of, trace_step, with_layers
from ft_tools.models.config import shape_from_config
from ft_tools.models.shape_of_model import shape_of, shape_of_config
from ft_tools.runs.request import RunRequest
from ft_tools.runs.state.records import ENDED
from ft_tools.runs.tool import get_run

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
    return traced_setup(setup_of(VramRequest(model=model, **usual | arguments), shape))


def follow(run_id):
    for _ in range(1800):
        report = get_run(RunRequest(run_id=run_id))
        if report.state in ENDED:
            return report
        time.sleep(0.1)
    raise AssertionError(f"{run_id} did not end in three minutes")


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


@pytest.mark.parametrize("cap", [None, 30.0])
def test_a_class_that_caps_its_logits_keeps_two_more_bytes_of_each(cap):
    sizes = {"hidden_size": 256, "intermediate_size": 512, "vocab_size": 65536, "head_dim": 64}
    sizes |= {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}
    sizes |= {"hidden_size_per_layer_input": 16, "vocab_size_per_layer_input": 512}
    sizes |= {"layer_types": ["sliding_attention", "full_attention"], "num_kv_shared_layers": 0}
    config = sizes | {"model_type": "gemma4_text", "final_logit_softcapping": cap}
    setup = traced_setup(
        setup_for(
            "capped",
            shape_of_config(config, "capped"),
            method="lora",
            seq_len=256,
            loss_head="full_logits",
        )
    )
    assert setup.profile.kept_logits == (2.0 if cap else 0.0)
    traced = trace_step(config, options_of(setup))["loss"]
    assert by_formula(phases(setup))["loss"] == pytest.approx(traced, rel=0.03)


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
    report = compared(setup, at_depth(two, four, shape.num_layers), {"torch": torch.__version__})
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


def test_a_trace_is_a_run_that_agrees_with_the_formulas_from_config_json_alone(workspace):
    config = facts.model("Qwen/Qwen3-0.6B").config
    (workspace / "mine").mkdir()
    (workspace / "mine" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    request = TraceRequest(model="mine", method="qlora", seq_len=1024, request_id="one")
    started = trace_vram(request)
    assert trace_vram(request).run_id == started.run_id
    run = follow(started.run_id)
    assert run.state == "succeeded", run.error
    assert run.kind == "trace"
    assert run.lineage["base_model"] == "mine"
    assert run.result["formula_gib"] == started.formula_gib
    assert run.result["traced_layers"] == [2, 4]
    assert any("trl 1." in text for text in run.result["assumptions"])
    assert run.result["verdict"] == "agree"
    assert abs(run.result["difference_fraction"]) <= run.result["interval_fraction"]


@pytest.mark.parametrize(
    ("arguments", "cure"),
    [
        ({"optimizer": "adamw_8bit"}, "adamw_torch_fused"),
        ({"loss_head": "fused_linear"}, "estimate_vram"),
        ({"method": "full", "lora_rank": 8}, "remove one"),
        ({"num_gpus": 2}, "num_gpus"),
    ],
)
def test_what_cannot_be_traced_is_refused_with_the_cure(arguments, cure):
    with pytest.raises(ValidationError, match=cure):
        TraceRequest(model="Qwen/Qwen3-0.6B", **arguments)


def test_a_wrong_module_is_refused_before_a_run_starts(workspace):
    with pytest.raises(BadInput, match="q_proj"):
        trace_vram(TraceRequest(model="Qwen/Qwen3-0.6B", target_modules=["wq"]))
    assert not (workspace / "runs").exists()
