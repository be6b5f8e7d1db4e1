"""A trace that outlasts its call, and one of a model with a tower."""

import json
import time

import pytest

from ft_tools import facts
from ft_tools.memory import traced
from ft_tools.memory.phases import phases
from ft_tools.memory.request import VramRequest
from ft_tools.memory.request_to_setup import setup_of
from ft_tools.memory.tool import estimate_vram
from ft_tools.memory.traced import by_formula, options_of, without_workspace
from ft_tools.memory.worker.trace import trace_step, with_layers
from ft_tools.models.adapter_targets import default_targets
from ft_tools.models.config import shape_from_config
from ft_tools.models.shape_of_model import shape_of_config
from tests.tiny.sizes import SIZES

pytestmark = [pytest.mark.tiny, pytest.mark.filterwarnings("ignore")]
ARCEE = SIZES | {"model_type": "arcee"}


def test_a_trace_that_has_not_ended_is_said_and_serves_every_later_call(workspace, monkeypatch):
    monkeypatch.setenv("FINE_TUNING_LLM_CACHE", str(workspace / "cache"))
    (workspace / "mine").mkdir()
    (workspace / "mine" / "config.json").write_text(json.dumps(ARCEE))
    asked = VramRequest(model="mine", gpu="RTX 4090")
    monkeypatch.setattr(traced, "SECONDS", 0.0)
    early = estimate_vram(asked)
    assert traced.UNENDED in early.summary
    assert early.interval_basis == "stand_in"
    kept = workspace / "cache" / "inspected"
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


def test_a_model_with_a_tower_is_traced_with_it_and_compared_with_a_card():
    config = with_layers(facts.model("google/gemma-3-4b-pt").config, 2)
    request = VramRequest(
        model="google/gemma-3-4b-pt",
        method="lora",
        seq_len=1024,
        attention="flash",
        loss_head="full_logits",
        optimizer="adamw_torch",
    )
    setup = without_workspace(setup_of(request, shape_from_config(config, "mine")))
    traced = trace_step(config, options_of(setup))
    formula = by_formula(phases(setup))
    assert max(formula.values()) == pytest.approx(max(traced.values()), rel=0.05)
