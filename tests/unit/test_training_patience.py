"""P9: a hung run is called stalled within the larger of a minute and 20 median steps."""

import random

from ft_tools.training.pace import LEAST_SECONDS, SAVE_SECONDS, STEPS, Patience


def after(*steps):
    patience = Patience()
    for seconds in steps:
        patience.step_took(seconds)
    return patience


def test_a_checkpoint_is_given_what_earlier_ones_took():
    patience = after(1.0, 1.0, 1.0)
    assert patience.for_a_save() == SAVE_SECONDS
    patience.save_took(0.5)
    assert patience.for_a_save() == LEAST_SECONDS
    patience.save_took(40.0)
    assert patience.for_a_save() == 800.0


def replay(seed, hangs_at=None):
    """Replay a run with slow evaluations and saves; returns when it was called stalled, if it was.

    Writes are as the callback's: after each step, each batch of an evaluation, and before a save.
    """
    dice = random.Random(seed)
    usual = dice.choice([0.05, 0.5, 4.0, 20.0])
    slow_save = dice.uniform(0.1, 15.0)
    patience, now, written, allowed = Patience(), 0.0, 0.0, None

    def passes(seconds, limit):
        nonlocal now, written, allowed
        stalled = seconds > (allowed or 300.0)
        now += seconds
        written, allowed = now, limit
        return stalled

    for step in range(1, 120):
        if step == hangs_at:
            return allowed or 300.0, usual
        took = usual * dice.lognormvariate(0.0, 0.4)
        saves = step % 20 == 0
        patience.step_took(took)
        if passes(took, patience.for_a_save() if saves else patience.for_a_step()):
            return "false alarm"
        if saves:
            batches = dice.randint(10, 400)
            if any(
                passes(usual * dice.lognormvariate(0.0, 0.4), patience.for_a_step())
                for _ in range(batches)
            ):
                return "false alarm"
            if passes(slow_save * dice.uniform(0.5, 3.0), patience.for_a_step()):
                return "false alarm"
            patience.save_took(slow_save)
    return None


def test_100_clean_runs_with_slow_evaluations_raise_no_false_alarm():
    assert [replay(seed) for seed in range(100)] == [None] * 100


def test_a_run_that_hangs_in_a_step_is_called_stalled_in_time():
    for seed in range(100):
        allowed, usual = replay(seed, hangs_at=60)
        assert allowed <= max(LEAST_SECONDS, STEPS * usual * 1.5)
