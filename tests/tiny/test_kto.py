"""Training on answers that are marked good or bad: what is planned and learned.

That a killed run goes on to the same bits: `test_recovery`.
"""

import statistics

import pytest

from ft_tools.errors import BadInput
from ft_tools.runs.state import directory
from ft_tools.training import samples
from ft_tools.training.plan import plan_kto
from ft_tools.training.request import DpoRequest
from ft_tools.training.tool import launch_dpo
from ft_tools.training.worker import dpo
from tests.tiny.trainings import (
    LIBRARY_WARNINGS,
    QUICK,
    marks,
    prepared,
    same_bits,
    weights_of,
    weights_of_script,
    write_jsonl,
)

pytestmark = [pytest.mark.tiny, pytest.mark.usefixtures("one_thread"), *LIBRARY_WARNINGS]


@pytest.fixture
def request_(workspace, tiny_model_in):
    return DpoRequest(
        model=tiny_model_in,
        dataset=write_jsonl(workspace / "marks.jsonl", marks(41)),
        validation=write_jsonl(workspace / "held_out.jsonl", marks(12, first=100)),
        training={**QUICK, "num_train_epochs": 3, "eval_steps": 5, "logging_steps": 1},
        backend_options={"device": "cpu"},
        # A million random parameters need more than a real model's rate to learn anything.
        accept_findings=["dpo_learning_rate"],
        accept_reason="a tiny model",
    )


def test_margins_rise_on_held_out_marks(request_):
    session = prepared(request_, "whole")
    report = dpo.work(session)
    rows = directory.read_metrics(session.run_dir)
    margins = [row["eval_rewards/margins"] for row in rows if "eval_rewards/margins" in row]
    assert margins[-1] > margins[0] > -0.01
    late = margins[len(margins) // 2 :]
    spread = statistics.stdev(late) / len(late) ** 0.5
    assert statistics.fmean(late) - 3 * spread > 0
    assert report.validation_margin == margins[-1]
    # One of 41 answers would be compared with itself.
    assert report.data.num_sequences == 41
    assert report.data.num_dropped == 1
    (example,) = samples.read(session.run_dir)
    assert example["prompt"]
    assert example["expected"]


def test_a_plan_shows_weights_for_unbalanced_marks_and_counts_the_tokens(request_, workspace):
    plan = plan_kto(request_)
    assert (plan.dataset.num_examples, plan.dataset.num_good) == (41, 20)
    assert plan.training["desirable_weight"] == pytest.approx(7 / 6 * 21 / 20, abs=0.01)
    assert any("desirable_weight=" in line for line in plan.warnings)
    assert plan.counts.data.num_trained_tokens > 0
    shown = launch_dpo(request_)
    assert shown.plan["task"] == "kto"
    with pytest.raises(BadInput, match="single answers with a label"):
        launch_dpo(request_.model_copy(update={"training": {"loss_type": "sigmoid"}}))
    write_jsonl(workspace / "marks.jsonl", [row | {"label": True} for row in marks(20)])
    with pytest.raises(BadInput, match="KTO needs both kinds"):
        plan_kto(request_)


@pytest.mark.faults
def test_the_exported_script_trains_on_the_same_marks_bit_for_bit(request_, tmp_path):
    few = {"training": {**QUICK, "max_steps": 4}, "peft": {"r": 4, "lora_dropout": 0.1}}
    session = prepared(request_.model_copy(update=few), "export")
    report = dpo.work(session)
    assert same_bits(weights_of(report.artifact), weights_of_script(session, tmp_path))
