"""The formulas against traces of the real model classes, and a trace against a measured run."""

import pytest
import torch

from ft_tools import facts
from ft_tools.models.catalog import shape_of
from ft_tools.models.families import shape_from_config
from ft_tools.vram.decide import setup_of
from ft_tools.vram.phases import phases
from ft_tools.vram.request import VramRequest
from ft_tools.vram.trace import DEPTHS, at_depth, by_formula, compared
from ft_tools.workers.trace import Live, options_of, trace_step, with_layers

pytestmark = [
    pytest.mark.tiny,
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*gradient_checkpointing_enable.*:FutureWarning"),
]
GIB = 2**30
# benchmarks/trace.py has all twelve architectures, and each of these both ways.
CASES = [
    ("meta-llama/Llama-3.2-1B", "full", True),
    ("meta-llama/Llama-3.2-1B", "lora", False),
    ("meta-llama/Llama-3.2-1B", "qlora", True),
    ("google/gemma-3-1b-pt", "lora", True),
    ("microsoft/Phi-3-mini-4k-instruct", "qlora", False),
]


def setup_for(model, shape, **arguments):
    request = VramRequest(
        model=model,
        attention="flash",
        loss_head="full_logits",
        optimizer="adamw_torch",
        **arguments,
    )
    return setup_of(request, shape)


@pytest.mark.parametrize(("model", "method", "checkpointing"), CASES)
def test_the_formulas_agree_with_a_trace_of_the_real_classes(model, method, checkpointing):
    config = with_layers(facts.model(model).config, 2)
    shape = shape_from_config(config, model)
    setup = setup_for(
        model, shape, method=method, seq_len=4096, gradient_checkpointing=checkpointing
    )
    traced = trace_step(config, options_of(setup))
    formula = by_formula(phases(setup))
    assert max(formula.values()) == pytest.approx(max(traced.values()), rel=0.05)


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
    report = compared(setup, at_depth(two, four, shape.num_layers), phases(setup))
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
