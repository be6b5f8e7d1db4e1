"""P24: the estimated time left is a range, and recorded runs end inside it."""

import json
import statistics
from itertools import pairwise
from pathlib import Path

from ft_tools.runs.processes.eta import Pace

# Step times of 50 real runs of a tiny model, recorded once.
TRACES = json.loads((Path(__file__).parent / "eta_traces.json").read_text(encoding="utf-8"))
QUARTER = 0.25
"""Fraction of the run at which the estimate is judged, and once more after ten steps."""


def judged(seconds, steps):
    """Return the estimate after some steps, and the true time left."""
    pace = Pace()
    pace.add(steps, seconds[steps] - seconds[0])
    return pace.left(len(seconds) - steps - 1), seconds[-1] - seconds[steps]


def shares(found):
    """Return how many true values lie inside, the median error and the median width."""
    inside = statistics.fmean(left.low <= true <= left.high for left, true in found)
    error = statistics.median(abs(left.likely - true) / true for left, true in found)
    return inside, error, statistics.median((x.high - x.low) / x.likely for x, _ in found)


def test_recorded_runs_end_in_the_range_that_was_shown():
    assert len(TRACES) == 50
    all_seconds = [trace["seconds"] for trace in TRACES]
    # A range that is wide enough for everything says nothing.
    for found, most_error, most_width in (
        ([judged(s, int(len(s) * QUARTER) - 1) for s in all_seconds], 0.1, 0.6),
        ([judged(s, 10) for s in all_seconds], 1.0, 0.8),
    ):
        inside, error, width = shares(found)
        assert inside >= 0.9
        assert error <= most_error
        assert width <= most_width


def test_the_median_step_would_not_pass_with_a_range_as_wide():
    """The negative control: evaluations and saves are not in a median."""
    inside, errors = [], []
    for trace in TRACES:
        seconds = trace["seconds"]
        done = int(len(seconds) * QUARTER)
        shown, true = judged(seconds, done - 1)
        steps = [after - before for before, after in pairwise(seconds[:done])]
        guess = statistics.median(steps) * (len(seconds) - done)
        inside.append(abs(guess - true) <= (shown.high - shown.likely) / shown.likely * guess)
        errors.append(abs(guess - true) / true)
    assert statistics.fmean(inside) < 0.9
    assert statistics.median(errors) > 0.1
