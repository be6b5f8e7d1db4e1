"""Evaluation on the demo's own model and data: damaged, unchanged, and with too few examples."""

import pytest

from ft_tools.evaluation.request import EvaluateRequest
from ft_tools.models.demo import HUB_ID
from tests.demo_tickets.make import prepared
from tests.tiny.evaluating import by_metric, damage, run_here

pytestmark = [
    pytest.mark.tiny,
    pytest.mark.faults,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


def evaluated(workspace, smollm2, model, count):
    """Compare a model with SmolLM2 on the demo's held-out tickets."""
    assert smollm2.is_dir()
    held_out = prepared(workspace).test
    request = EvaluateRequest(
        model=model, baseline=HUB_ID, dataset=held_out, max_examples=count, max_new_tokens=12,
        metrics=["exact_match", "token_f1", "perplexity"], general_ability=False,
    )  # fmt: skip
    return run_here(workspace, request)[1]


def test_smollm2_with_noise_in_its_weights_is_called_regressed(workspace, smollm2):
    damage(smollm2, workspace / "damaged", 0.3)
    report = evaluated(workspace, smollm2, "damaged", 30)
    row = by_metric(report.comparisons)["log_perplexity"]
    assert row.verdict == "regressed"
    assert row.ci_low > 0
    assert "Do not ship" in report.summary[2]


def test_smollm2_twice_is_no_detectable_change_and_exactly_zero(workspace, smollm2):
    for row in evaluated(workspace, smollm2, HUB_ID, 60).comparisons:
        assert row.difference == 0.0, row
        assert row.ci_low < 0 < row.ci_high, row
        assert row.verdict == "no_detectable_change", row


def test_ten_tickets_say_nothing_of_smollm2(workspace, smollm2):
    found = by_metric(evaluated(workspace, smollm2, HUB_ID, 10).comparisons)
    assert found["exact_match"].num_examples == 10
    assert found["exact_match"].verdict == "underpowered"
