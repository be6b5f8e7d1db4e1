"""The formulas against traces of the real model classes, and a trace against a measured run."""

import json
import time

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

from benchmarks.grpo_memory import trace as trace_grpo
from benchmarks.step_trace import by_formula, trace_step, with_layers, without_workspace
from ft_tools import facts
from ft_tools.memory import generation, traced
from ft_tools.memory.phases import phases
from ft_tools.memory.request import VramRequest
from ft_tools.memory.request_to_setup import setup_of
from ft_tools.memory.tool import estimate_vram
from ft_tools.memory.worker.trace import Live
from ft_tools.models.adapter_targets import default_targets
from ft_tools.models.config import shape_from_config
from ft_tools.models.shape_of_model import shape_of, shape_of_config
from tests.tiny.sizes import SIZES

pytestmark = [
    pytest.mark.tiny,
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*:FutureWarning"),
]
# benchmarks/trace.py has all twelve architectures, and each of these both ways.
CASES = [
    ("meta-llama/Llama-3.2-1B", "full", True, {}),
    ("meta-llama/Llama-3.2-1B", "lora", False, {}),
    ("meta-llama/Llama-3.2-1B", "qlora", True, {"loss_head": "trl_fused"}),
    ("google/gemma-3-1b-pt", "lora", True, {}),
    ("google/gemma-3-4b-pt", "lora", True, {"seq_len": 1024}),
    ("microsoft/Phi-3-mini-4k-instruct", "qlora", False, {}),
    ("google/gemma-3-1b-pt", "lora", False, {"dtype": "float32", "mixed_precision": False}),
    ("Qwen/Qwen3-0.6B", "full", False, {"dtype": "float32", "mixed_precision": False}),
]
ARCEE = SIZES | {"model_type": "arcee"}


def setup_for(model, shape, **arguments):
    usual = {"attention": "flash", "loss_head": "full_logits", "optimizer": "adamw_torch"}
    return without_workspace(setup_of(VramRequest(model=model, **usual | arguments), shape))


@pytest.mark.parametrize(("model", "method", "checkpointing", "others"), CASES)
def test_the_formulas_agree_with_a_trace_of_the_real_classes(model, method, checkpointing, others):
    config = with_layers(facts.model(model).config, 2)
    shape = shape_from_config(config, model)
    arguments = {"seq_len": 4096, "gradient_checkpointing": checkpointing} | others
    setup = setup_for(model, shape, method=method, **arguments)
    peak = max(trace_step(config, setup).values())
    assert max(by_formula(setup).values()) == pytest.approx(peak, rel=0.05)


@pytest.mark.parametrize(
    ("model", "layers"),
    [("meta-llama/Llama-3.2-1B", 2), ("Qwen/Qwen3-0.6B", 2), ("google/gemma-3-1b-pt", 6)],
)
def test_a_grpo_step_agrees_with_a_trace_of_generate_and_the_step(model, layers):
    # benchmarks/grpo_memory.py has whole models; one Gemma block in six has no window.
    config = with_layers(facts.model(model).config, layers)
    sizes = {"seq_len": 1280, "prompt_len": 256, "generated": 32, "micro_batch": 4}
    shape = shape_from_config(config, model)
    setup = setup_for(model, shape, task="grpo", loss_head="trl_fused", attention="sdpa",
                      padded_batches=True, optimizer="adamw_torch_fused", **sizes)  # fmt: skip
    traced_phases = trace_grpo(config, setup)
    found = {name: sum(parts.values()) for name, parts in phases(setup).phases.items()}
    for name in ("prefill", "generation"):
        assert found[name] == pytest.approx(traced_phases[name], rel=0.05)
    assert max(found.values()) == pytest.approx(max(traced_phases.values()), rel=0.05)


def test_answers_that_are_really_written_take_what_the_estimate_says():
    config = {"model_type": "llama", **SIZES}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config))
    ids = torch.randint(3, SIZES["vocab_size"], (16, 64))
    mask = torch.ones_like(ids)
    mask[0, :5] = 0
    settings = GenerationConfig(do_sample=True, top_k=0, max_new_tokens=192, pad_token_id=0)
    with torch.no_grad(), Live() as live:
        for parameter in model.parameters():
            live.add(parameter)
        weights = live.now
        model.generate(ids, attention_mask=mask, generation_config=settings)
    shape = shape_from_config(config)
    setup = setup_for("mine", shape, task="grpo", generated=16, seq_len=256, prompt_len=64,
                      dtype="float32", mixed_precision=False)  # fmt: skip
    expected = sum(generation.phases(setup)["generation"].values())
    assert live.peak - weights == pytest.approx(expected, rel=0.05)


def test_eager_attention_keeps_six_bytes_of_every_score_of_every_block():
    model = "meta-llama/Llama-3.2-1B"
    kept = {}
    for attention in ("eager", "flash"):
        arguments = {"method": "lora", "gradient_checkpointing": False, "attention": attention}
        setup = setup_for(model, shape_of(model), **arguments)
        profile, _ = traced.profile_of(setup, facts.model(model).config)
        kept[attention] = profile.saved
    assert kept["flash"].square == 0
    # Six bytes of each of 32 heads' scores, in each of 16 blocks.
    assert kept["eager"].square == pytest.approx(6 * 32 * 16, rel=0.03)


def test_a_trace_comes_near_a_measured_run_without_any_constant():
    # 24.87 GiB: fms-acceleration, scripts/benchmarks/refs/a100_80gb.csv:32 (A100-80GB).
    model = "mistralai/Mistral-7B-v0.1"
    setup = setup_for(
        model,
        shape_of(model),
        method="lora",
        target_modules=("q_proj", "k_proj", "v_proj", "o_proj"),
        seq_len=4096,
        micro_batch=4,
        mixed_precision=False,
        trl_version=None,
        transformers_version="4.48",
    )
    opinion = traced.second_opinion(setup, facts.model(model).config)
    assert opinion.peak_allocated_gib == pytest.approx(24.87, rel=0.02)
    assert abs(opinion.difference_fraction) < 0.02


def test_a_second_opinion_agrees_with_the_formulas_from_config_json_alone(workspace):
    config = facts.model("Qwen/Qwen3-0.6B").config
    (workspace / "mine").mkdir()
    (workspace / "mine" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    asked = {"model": "mine", "method": "qlora", "seq_len": 1024}
    report = estimate_vram(VramRequest(**asked, second_opinion=True))
    opinion = report.second_opinion
    assert opinion.agrees
    assert opinion.peak_allocated_gib == max(opinion.phases.values())
    width = report.peak_allocated_high_gib / report.peak_allocated_gib - 1
    assert abs(opinion.difference_fraction) <= width + 1e-4
    assert estimate_vram(VramRequest(**asked)).second_opinion is None


def test_a_trace_that_has_not_ended_is_said_and_serves_every_later_call(workspace, monkeypatch):
    monkeypatch.setenv("FINE_TUNING_LLM_CACHE", str(workspace / "cache"))
    (workspace / "mine").mkdir()
    (workspace / "mine" / "config.json").write_text(json.dumps(ARCEE))
    asked = VramRequest(model="mine", gpu="RTX 4090")
    monkeypatch.setattr(traced, "SECONDS", 0.0)
    early = estimate_vram(asked)
    assert traced.UNENDED in early.summary
    assert early.interval_basis == "stand_in"
    kept = workspace / "cache" / "answers"
    until = time.monotonic() + 120
    while len(list(kept.glob("*.json"))) < 2 and time.monotonic() < until:
        time.sleep(0.1)
    later = estimate_vram(asked)
    assert traced.UNENDED not in later.summary
    assert later.interval_basis == "traced_family"
    # A suggestion names the modules that "all-linear" means.
    named = default_targets(shape_of_config(ARCEE, "mine")).modules
    assert estimate_vram(asked.model_copy(update={"target_modules": named})) == later
    assert len(list(kept.glob("*.json"))) == 2
