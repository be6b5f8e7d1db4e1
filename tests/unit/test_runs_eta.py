"""P24: the estimated time left is a range, and recorded runs end inside it."""

import json
import statistics
from itertools import pairwise
from pathlib import Path

from ft_tools.runs.processes.eta import Pace

# Step times of 50 real runs of a tiny model, recorded once.
TRACES = json.loads((Path(__file__).parent / "eta_traces.json").read_text(encoding="utf-8"))
ASKED_AT = 0.25
"""Fraction of the run at which the estimate is judged."""


def at_a_quarter(seconds):
    """Return the estimate when a quarter of the steps is done, and the true time left."""
    done = int(len(seconds) * ASKED_AT)
    pace = Pace()
    pace.add(done - 1, seconds[done - 1] - seconds[0])
    return pace.left(len(seconds) - done), seconds[-1] - seconds[done - 1]


def test_recorded_runs_end_in_the_range_that_was_shown_at_a_quarter(record_property):
    judged = [at_a_quarter(trace["seconds"]) for trace in TRACES]
    inside = statistics.fmean(left.low <= true <= left.high for left, true in judged)
    error = statistics.median(abs(left.likely - true) / true for left, true in judged)
    width = statistics.median((left.high - left.low) / left.likely for left, _ in judged)
    record_property("inside", inside)
    record_property("median_error", error)
    record_property("median_width", width)
    assert len(TRACES) == 50
    assert inside >= 0.9
    assert error <= 0.1
    # A range that is wide enough for everything says nothing.
    assert width <= 0.6


def at_the_start(seconds, steps=10):
    """Return the estimate after some steps, and the true time left."""
    pace = Pace()
    pace.add(steps, seconds[steps] - seconds[0])
    return pace.left(len(seconds) - steps - 1), seconds[-1] - seconds[steps]


def test_recorded_runs_end_in_the_range_that_was_shown_after_ten_steps():
    judged = [at_the_start(trace["seconds"]) for trace in TRACES]
    inside = statistics.fmean(left.low <= true <= left.high for left, true in judged)
    width = statistics.median((left.high - left.low) / left.likely for left, _ in judged)
    assert inside >= 0.9
    assert width <= 0.8


def test_the_median_step_would_not_pass_with_a_range_as_wide():
    """The negative control: evaluations and saves are not in a median."""
    inside, errors = [], []
    for trace in TRACES:
        seconds = trace["seconds"]
        shown, true = at_a_quarter(seconds)
        done = int(len(seconds) * ASKED_AT)
        steps = [after - before for before, after in pairwise(seconds[:done])]
        guess = statistics.median(steps) * (len(seconds) - done)
        inside.append(abs(guess - true) <= (shown.high - shown.likely) / shown.likely * guess)
        errors.append(abs(guess - true) / true)
    assert statistics.fmean(inside) < 0.9
    assert statistics.median(errors) > 0.1
