"""What held-out prompts earned at each evaluation, row by row, and what a run gained by it."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from ft_tools.metrics.means import compare_means
from ft_tools.metrics.verdicts import ALPHA
from ft_tools.publish import append_line
from ft_tools.training.diagnosis import with_numbers
from ft_tools.training.health import Metrics, Rows, gamed
from ft_tools.training.report import Diagnosis, Gain

FILE = "held_out_rewards.jsonl"
Means = Mapping[str, float]
"""Row number -> mean reward of its answers."""


def keep(run_dir: Path, step: int, rewards: Mapping[int, Sequence[float]]) -> None:
    """Append the mean reward of each held-out row."""
    means = {row: round(fmean(values), 6) for row, values in sorted(rewards.items())}
    append_line(run_dir / FILE, json.dumps({"step": step, "rewards": means}))


def read(run_dir: Path) -> dict[int, Means]:
    """Return the mean rewards by step; of a step that was made again, the later ones."""
    file = run_dir / FILE
    lines = file.read_bytes().splitlines() if file.is_file() else []
    rows = [json.loads(line) for line in lines if line.endswith(b"}")]
    return {int(row["step"]): row["rewards"] for row in rows}


def gained(evaluated: Mapping[int, Means], step: int | None) -> Gain | None:
    """Compare the start with a later evaluation; None before there are two.

    The checkpoint was chosen as the best of its evaluations on these rows, so the interval is that
    of the best of as many: its error is divided among them.

    >>> gained({0: {"0": 0.0, "1": 0.2}, 4: {"0": 1.0, "1": 0.7}}, 4).end
    0.85
    """
    steps = sorted(evaluated)
    if len(steps) < 2:
        return None
    kept = step if step is not None and step in evaluated else steps[-1]
    first, last = evaluated[steps[0]], evaluated[kept]
    rows = sorted(first.keys() & last.keys())
    if not rows:
        return None
    found = compare_means(
        [last[row] - first[row] for row in rows], alpha=ALPHA / (len(steps) - 1), resamples=0
    )
    return Gain(
        start=round(fmean(first[row] for row in rows), 4),
        end=round(fmean(last[row] for row in rows), 4),
        low=round(found.ci_low, 4),
        high=round(found.ci_high, 4),
        prompts=len(rows),
    )


def diagnose(rows: Rows, gain: Gain | None) -> list[Diagnosis]:
    """Return what the held-out prompts say of a finished run; nothing where they gained."""
    if gain is None or gain.low > 0:
        return []
    fields = gamed(Metrics(rows))
    name = "gamed" if fields else "nothing_gained"
    return [with_numbers(name, gain.model_dump() | (fields or {}))]
