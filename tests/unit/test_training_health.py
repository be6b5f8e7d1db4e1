"""Health signals, each at the edge of its threshold, and silent on a healthy run."""

import math
import re
from pathlib import Path

import pytest

from ft_tools import training
from ft_tools.training import findings
from ft_tools.training.health import CHECKS, cut_rows, health_signals, is_diverged
from ft_tools.training.token_counts import Counts, DataReport, Lengths


def rows(**series):
    """Make metric rows out of equally long series; `/` is written as `__`."""
    length = max(len(values) for values in series.values())
    return [
        {"step": float(i)} | {k.replace("__", "/"): v[i] for k, v in series.items() if i < len(v)}
        for i in range(length)
    ]


def signals(task="sft", **series):
    return {signal.signal for signal in health_signals(rows(**series), task)}


HEALTHY = [2.5 - 0.05 * i for i in range(30)]


def test_a_healthy_run_has_no_signal():
    norms, entropy = [1.0] * 30, [1.5 - 0.01 * i for i in range(30)]
    assert signals(loss=HEALTHY, grad_norm=norms, entropy=entropy) == set()
    assert health_signals([], "sft") == []


def test_a_healthy_preference_run_has_no_signal():
    found = signals(
        "dpo",
        loss=[0.69 - 0.01 * i for i in range(30)],
        rewards__chosen=[0.01 * i for i in range(30)],
        rewards__margins=[0.02 * i for i in range(30)],
        rewards__accuracies=[0.5 + 0.01 * i for i in range(30)],
    )
    assert found == set()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_is_an_error(value):
    assert signals(loss=[2.0, value]) == {"not_a_number"}
    assert is_diverged(rows(loss=[2.0, value]))
    assert is_diverged(rows(loss=[2.0] * 3, grad_norm=[value] * 3))
    assert not is_diverged(rows(loss=[2.0] * 3, grad_norm=[1.0, value, value]))
    assert not is_diverged(rows(loss=[2.0]))


def test_a_spike_is_three_times_the_median_and_half_a_nat_more():
    calm = [1.0] * 11
    assert "loss_spike" in signals(loss=[*calm, 3.01])
    assert "loss_spike" not in signals(loss=[*calm, 3.0])
    assert "loss_spike" not in signals(loss=[0.01] * 11 + [0.4])


def test_a_flat_loss_is_told_from_a_slow_one():
    assert "flat_loss" in signals(loss=[2.0] * 20)
    assert "flat_loss" not in signals(loss=[2.0] * 10 + [1.97] * 10)


def test_the_first_loss_can_be_too_high_or_too_low():
    assert "first_loss" in signals(loss=[6.01])
    assert "first_loss" in signals(loss=[0.09])
    assert "first_loss" not in signals(loss=[6.0])


WORSE = [1.0, 1.05, 1.1]


def test_overfitting_is_a_validation_loss_that_rises_twice_without_better_answers():
    trained = [2.0, 1.5, 1.2, 1.0]
    assert "overfitting" in signals(loss=trained, eval_loss=WORSE)
    assert "overfitting" not in signals(loss=trained, eval_loss=[1.0, 1.01, 1.02])
    assert "overfitting" not in signals(loss=trained, eval_loss=[1.0, 1.2, 1.1])
    better = {"eval_mean_token_accuracy": [0.9, 0.92, 0.95]}
    assert "overfitting" not in signals(loss=trained, eval_loss=WORSE, **better)
    # A wide gap alone changes no answer, and near zero ratios say nothing.
    assert "overfitting" not in signals(loss=[7e-5] * 4, eval_loss=[0.187, 0.02, 2e-4])
    assert "overfitting" not in signals(loss=[1e-5] * 4, eval_loss=[1e-4, 2e-4, 4e-4])


def test_a_high_gradient_counts_when_it_stays():
    assert "gradient_norm" in signals(grad_norm=[101.0] * 3)
    assert "gradient_norm" not in signals(grad_norm=[1.0, 101.0, 101.0])


def test_an_entropy_that_collapses_is_seen_where_answers_get_worse():
    fallen, kept = [1.0] * 10 + [0.19] * 10, [1.0] * 10 + [0.2] * 10
    assert "entropy_collapse" in signals(entropy=fallen, eval_loss=WORSE)
    assert "entropy_collapse" not in signals(entropy=kept, eval_loss=WORSE)
    # Falling entropy is what learning looks like.
    assert "entropy_collapse" not in signals(entropy=fallen, eval_loss=[0.2, 0.1, 0.0002])
    assert "entropy_collapse" not in signals(entropy=fallen)


def test_preference_rewards_are_watched():
    falling = {"rewards__chosen": [-1.01] * 10, "rewards__margins": [0.1] * 10}
    assert "chosen_reward_falls" in signals("dpo", **falling)
    assert "reward_accuracy" in signals("dpo", rewards__accuracies=[0.54] * 20)
    assert "reward_accuracy" not in signals("dpo", rewards__accuracies=[0.55] * 20)
    learnt = {"rewards__accuracies": [1.0] * 10, "rewards__margins": [5.0] * 10}
    assert "preferences_memorised" in signals("dpo", loss=[0.05] * 10, **learnt)
    assert "preferences_memorised" not in signals("dpo", loss=[0.3] * 10, **learnt)
    assert "chosen_reward_falls" not in signals("sft", **falling)


def test_steps_that_take_twice_as_long_as_at_the_start_are_seen():
    assert "slower" in signals(step_seconds=[9.0] + [1.0] * 10 + [2.01] * 10)
    assert "slower" not in signals(step_seconds=[9.0] + [1.0] * 10 + [2.0] * 10)
    assert "slower" not in signals(step_seconds=[1.0] * 10 + [9.0] * 10)


def test_little_free_memory_and_heat_are_seen_when_they_are_now():
    assert "memory_pressure" in signals(memory_free_fraction=[0.5, 0.049])
    assert "memory_pressure" not in signals(memory_free_fraction=[0.01, 0.05])
    hot = {"temperature_celsius": [60.0, 96.0], "thermal_throttling": [0.0, 1.0]}
    (found,) = health_signals(rows(**hot), "sft")
    assert found.signal == "thermal_throttling"
    assert "96 degrees" in found.observed
    assert "thermal_throttling" not in signals(thermal_throttling=[1.0, 0.0])


def test_every_signal_has_a_row_and_every_row_a_signal():
    assert {*CHECKS, "rows_cut"} == set(findings.rows("signals"))


@pytest.mark.parametrize(
    ("loss", "task", "seen", "signal"),
    [
        ("dft", "sft", {"loss": [0.05]}, "first_loss"),
        ("dft", "sft", {"loss": [0.05] * 3, "eval_loss": [0.04, 0.08, 0.12]}, "overfitting"),
        (["apo_down"], "dpo", {"rewards/chosen": [-2.0] * 10}, "chosen_reward_falls"),
    ],
)
def test_what_a_loss_does_in_good_health_is_no_signal(loss, task, seen, signal):
    usual = {s.signal for s in health_signals(rows(**seen), task, ["sigmoid"])}
    assert signal in usual
    assert usual - {s.signal for s in health_signals(rows(**seen), task, loss)} >= {signal}


def skipped(scales):
    """Return rows of steps whose gradients overflowed, with the scale of float16 after each."""
    scaled = [{} if scale is None else {"loss_scale": scale} for scale in scales]
    return [
        {"step": i, "loss": 2.0, "grad_norm": math.inf} | row for i, row in enumerate(scaled, 1)
    ]


def test_steps_that_look_for_the_scale_of_float16_are_no_divergence():
    halved = [65536.0 / 2**i for i in range(1, 18)]
    assert not is_diverged(skipped(halved[:3]))
    assert not is_diverged(skipped(halved[:15]))
    assert is_diverged(skipped(halved[:17]))
    # The control: without a scaler three in a row do not come back.
    assert is_diverged(skipped([None] * 3))
    lost = skipped(halved[:1])
    lost[-1]["loss"] = math.nan
    assert is_diverged(lost)


@pytest.mark.parametrize("cut", [0, 1])
def test_rows_that_are_cut_are_a_signal(cut):
    data = DataReport(
        num_examples=8,
        num_sequences=8,
        num_truncated=cut,
        num_dropped=0,
        num_tokens=80,
        num_trained_tokens=20,
    )
    lengths = Lengths(mean_tokens=10, mean_answer_tokens=2, longest_tokens=30, padding=0)
    counts = Counts(data=data, num_rows=8, num_counted=8, lengths=lengths)
    found = cut_rows(counts)
    assert [signal.signal for signal in found] == ["rows_cut"] * cut
    assert all(
        "1 of 8 sequences (12.5%)" in signal.observed and "30 tokens" in signal.advice
        for signal in found
    )


def test_every_row_of_the_table_is_used_and_every_used_row_is_in_it():
    table = findings._table()
    code = "".join(path.read_text() for path in Path(training.__file__).parent.rglob("*.py"))
    for kind, call in (("warnings", "warning"), ("refusals", "refusal")):
        assert set(re.findall(rf'\b{call}\("(\w+)"', code)) <= table[kind].keys()
        unused = {name for name in table[kind] if f'"{name}"' not in code}
        assert not {name for name in unused if not name.startswith("preflight_")}
    assert all(f'"{name}"' in code for name in table["diagnoses"])
