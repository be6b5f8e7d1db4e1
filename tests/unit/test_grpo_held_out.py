"""What held-out prompts say of a reinforcement run: a gain, none, or a reward that was gamed."""

import random

import pytest

from ft_tools.training.grpo import held_out

ROWS = 30


def evaluations(*means, seed=0):
    """Return the mean of four answers to each row, of models that pass so often."""
    draw = random.Random(seed)
    return {
        4 * at: {str(row): sum(draw.random() < mean for _ in range(4)) / 4 for row in range(ROWS)}
        for at, mean in enumerate(means)
    }


def logged(first, last, *held_out_rewards):
    rows = [{"step": i, "reward": first if i < 10 else last} for i in range(20)]
    return rows + [{"step": 4 * i, "eval_reward": r} for i, r in enumerate(held_out_rewards)]


def test_a_gain_is_paired_by_row_and_its_interval_allows_for_the_choice_of_the_best():
    found = held_out.gained(evaluations(0.2, 0.4, 0.8), 8)
    assert found.end - found.start == pytest.approx(0.6, abs=0.1)
    assert 0.3 < found.low < found.end - found.start < found.high
    assert found.prompts == ROWS
    alone = held_out.gained(
        {step: rows for step, rows in evaluations(0.2, 0.4, 0.8).items() if step != 4}, 8
    )
    assert alone.high - alone.low < found.high - found.low
    assert held_out.diagnose(logged(0.2, 0.8, 0.2, 0.4, 0.8), found) == []


def test_without_a_gain_a_run_is_told_apart_from_one_that_games_its_reward():
    flat = held_out.gained(evaluations(0.2, 0.2, 0.2), 8)
    assert flat.low < 0 < flat.high
    (nothing,) = held_out.diagnose(logged(0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2), flat)
    (gamed,) = held_out.diagnose(logged(0.2, 0.9, 0.2, 0.2, 0.2, 0.2, 0.2), flat)
    assert (nothing.id, gamed.id) == ("nothing_gained", "gamed")


def test_a_step_that_was_made_again_counts_once(tmp_path):
    held_out.keep(tmp_path, 0, {0: [0.0], 1: [1.0, 0.0]})
    held_out.keep(tmp_path, 4, {0: [0.0], 1: [0.0]})
    held_out.keep(tmp_path, 4, {0: [1.0], 1: [1.0]})
    with (tmp_path / held_out.FILE).open("a") as file:
        file.write('{"step": 8, "rewa')
    assert held_out.read(tmp_path) == {0: {"0": 0.0, "1": 0.5}, 4: {"0": 1.0, "1": 1.0}}
