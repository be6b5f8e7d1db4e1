"""Health signals, each at the edge of its threshold, and silent on a healthy run."""

import math

import pytest

from ft_tools.training import findings
from ft_tools.training.health import CHECKS, health_signals, is_diverged


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


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_is_an_error(value):
    assert signals(loss=[2.0, value]) == {"not_a_number"}
    assert is_diverged(rows(loss=[2.0, value]))
    assert is_diverged(rows(loss=[2.0] * 3, grad_norm=[value] * 3))
    assert not is_diverged(rows(loss=[2.0] * 3, grad_norm=[1.0, value, value]))
    assert not is_diverged(rows(loss=[2.0]))


WORSE = [1.0, 1.05, 1.1]
TRAINED = [2.0, 1.5, 1.2, 1.0]
RISES = {"loss": TRAINED, "eval_loss": WORSE}
# Signal, task, curves that give it, curves at the edge that do not.
EDGES = [
    ("flat_loss", "sft", {"loss": [2.0] * 20}, {"loss": [2.0] * 10 + [1.97] * 10}),
    ("first_loss", "sft", {"loss": [6.01]}, {"loss": [6.0]}),
    ("first_loss", "sft", {"loss": [0.09]}, {"loss": [0.1]}),
    # Only what rises twice, by more than evaluations differ by, without better answers.
    ("overfitting", "sft", RISES, {"loss": TRAINED, "eval_loss": [1.0, 1.01, 1.02]}),
    ("overfitting", "sft", RISES, RISES | {"eval_mean_token_accuracy": [0.9, 0.92, 0.95]}),
    ("overfitting", "sft", RISES, {"loss": [1e-5] * 4, "eval_loss": [1e-4, 2e-4, 4e-4]}),
    ("gradient_norm", "sft", {"grad_norm": [101.0] * 3}, {"grad_norm": [1.0, 101.0, 101.0]}),
    (
        "chosen_reward_falls", "dpo", {"rewards__chosen": [-1.01] * 10},
        {"rewards__chosen": [-1.0] * 10},
    ),
    (
        "reward_accuracy", "dpo", {"rewards__accuracies": [0.54] * 20},
        {"rewards__accuracies": [0.55] * 20},
    ),
    (
        "preferences_memorised", "dpo", {"loss": [0.05] * 10, "rewards__accuracies": [1.0] * 10},
        {"loss": [0.3] * 10, "rewards__accuracies": [1.0] * 10},
    ),
]  # fmt: skip


ALIKE = {"zero_spread_fraction": [0.81] * 20}
MIXED = {"zero_spread_fraction": [0.3] * 20}
RISING = [0.2] * 10 + [0.5] * 10
FULL = [0.5] * 10 + [0.95] * 10
FLAT, FOLLOWS = [0.2] * 5, [0.2, 0.2, 0.3, 0.3, 0.3]
# Of a reinforcement run: signal, rows that give it, rows at the edge that do not.
REINFORCED = [
    ("no_reward", {**ALIKE, "reward": [0.0] * 20}, {**ALIKE, "reward": [0.0] * 19}),
    ("all_solved", {**ALIKE, "reward": [0.97] * 10}, {**MIXED, "reward": [0.97] * 10}),
    (
        "no_spread", {**ALIKE, "reward": [0.5] * 20},
        {"zero_spread_fraction": [0.8] * 20, "reward": [0.5] * 20},
    ),
    ("little_spread", {"zero_spread_fraction": [0.51] * 10}, {"zero_spread_fraction": [0.5] * 10}),
    ("no_gradient", {**MIXED, "grad_norm": [0.0] * 10}, {**MIXED, "grad_norm": [0.0] * 9 + [1e-9]}),
    ("gamed", {"reward": RISING, "eval_reward": FLAT}, {"reward": RISING, "eval_reward": FOLLOWS}),
    (
        "gamed", {"reward": RISING, "eval_reward": FLAT},
        {"reward": [0.2] * 10 + [0.29] * 10, "eval_reward": FLAT},
    ),
    (
        "part_traded",
        {"rewards__form__mean": FULL, "rewards__number__mean": [0.4] * 10 + [0.29] * 10},
        {"rewards__form__mean": FULL, "rewards__number__mean": [0.4] * 10 + [0.31] * 10},
    ),
    (
        "answers_cut", {"completions__clipped_ratio": [0.1] * 10 + [0.81] * 10},
        # Cut from the start: the probe has said so, and somebody has accepted it.
        {"completions__clipped_ratio": [0.9] * 20},
    ),
    (
        "length_race", {"completions__mean_length": [20.0] * 10 + [60.0] * 10},
        {"completions__mean_length": [20.0] * 10 + [59.0] * 10},
    ),
    ("entropy_lost", {"entropy": [2.0] * 10 + [0.19] * 10}, {"entropy": [2.0] * 10 + [0.2] * 10}),
    ("far_from_start", {"kl": [0.51] * 3}, {"kl": [0.5, 0.51, 0.51]}),
    ("check_breaks", {"broken_fraction": [0.06] * 10}, {"broken_fraction": [0.06] * 9 + [0.0]}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "given", "silent"), REINFORCED)
def test_a_signal_of_a_reward_fires_at_its_threshold_and_not_before(name, given, silent):
    assert name in signals("grpo", **given)
    assert name not in signals("grpo", **silent)
    assert name not in signals("sft", **given)


def test_a_healthy_reinforcement_run_has_no_signal():
    reward = [0.2 + 0.015 * i for i in range(40)]
    held_out = [0.2 + 0.06 * i for i in range(10)]
    assert signals(
        "grpo",
        reward=reward,
        eval_reward=held_out,
        rewards__number__mean=reward,
        zero_spread_fraction=[0.4 - 0.002 * i for i in range(40)],
        entropy=[2.0 - 0.03 * i for i in range(40)],
        completions__mean_length=[40.0 + i for i in range(40)],
        completions__clipped_ratio=[0.1] * 40,
        broken_fraction=[0.0] * 40,
        grad_norm=[0.3] * 40,
        # The loss of GRPO is about 0 by construction.
        loss=[0.0] * 40,
        eval_loss=[0.0] * 10,
    ) == set()  # fmt: skip


@pytest.mark.parametrize(("name", "task", "given", "silent"), EDGES)
def test_a_signal_fires_at_its_threshold_and_not_before(name, task, given, silent):
    assert name in signals(task, **given)
    assert name not in signals(task, **silent)
    if task == "dpo":
        assert name not in signals("sft", **given)


def test_every_signal_has_a_row_and_every_row_a_signal():
    by_table = {name for name, row in findings.rows("signals").items() if row.metric}
    assert {*CHECKS, *by_table, "rows_cut"} == set(findings.rows("signals"))
    assert not by_table & set(CHECKS)


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
