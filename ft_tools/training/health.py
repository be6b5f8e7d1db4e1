"""Signals about a run in its metrics; their texts are rows of findings.toml.

Rewards are compared between the first and the last ten logged steps, held-out ones between the
first two and the last three evaluations: each is a mean of sampled answers.
"""

import math
from collections.abc import Callable, Sequence
from statistics import fmean

from ft_tools.facts import number
from ft_tools.runs.state.records import Health
from ft_tools.training import findings
from ft_tools.training.findings import Row
from ft_tools.training.token_counts import Counts

Rows = Sequence[dict[str, float]]
"""Lines of metrics.jsonl, oldest first."""
Fields = dict[str, float | str | None]
Check = Callable[["Metrics"], Fields | None]
"""The numbers of a signal; None where a run does not have it."""
RECENT = 10
"""Logged rows that a trend is read from."""
FIRST, LAST = 2, 3
"""Evaluations of a reinforcement run that are averaged."""
OVERFLOWS = 3
LEAST_SCALE = 1.0
STOPS = frozenset({"no_reward", "all_solved", "no_spread", "no_gradient", "answers_cut", "gamed"})
"""Signals that end a run, unless stop_rules is false."""
# Loss -> signals that it gives off in good health. DFT weighs each token's loss by its probability,
# apo_down is to lower both rewards. Source: arXiv 2508.05629; arXiv 2408.06266.
MISREAD = {
    "dft": {"first_loss", "flat_loss", "overfitting"},
    "apo_down": {"chosen_reward_falls"},
}
PART, MEAN = "rewards/", "/mean"
SPREAD, CUT = "zero_spread_fraction", "completions/clipped_ratio"


class Metrics:
    """What a run has logged, by metric."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    def values(self, name: str) -> list[float]:
        """Return the logged values of a metric."""
        return [row[name] for row in self.rows if name in row]

    def series(self, name: str) -> list[tuple[float, float]]:
        """Return the (step, value) points of a metric."""
        return [(row["step"], row[name]) for row in self.rows if name in row and "step" in row]

    def last(self, name: str) -> float | None:
        """Return the latest value of a metric; None if it was never logged."""
        return next((row[name] for row in reversed(self.rows) if name in row), None)

    def finite(self, name: str) -> list[float]:
        """Return those that are numbers."""
        return [value for value in self.values(name) if math.isfinite(value)]

    def recent(self, name: str, least: int = RECENT) -> float | None:
        """Return the mean of the last ten values; None before there are enough."""
        logged = self.finite(name)
        return fmean(logged[-RECENT:]) if len(logged) >= least else None

    def trend(self, name: str) -> tuple[float, float] | None:
        """Return the means of the first and the last ten values; None before there are twenty."""
        logged = self.finite(name)
        return _ends(logged, RECENT, RECENT)


def without_repeats(rows: Rows, step: float) -> list[dict[str, float]]:
    """Return the rows up to a step, without those that a later attempt has logged anew.

    >>> first = [{"step": 1, "loss": 3}, {"step": 2, "loss": 2}, {"step": 2, "eval_loss": 2}]
    >>> again = [{"step": 2, "loss": 1}, {"step": 3, "loss": 0}]
    >>> without_repeats(first + again, 2)
    [{'step': 1, 'loss': 3}, {'step': 2, 'loss': 1}]
    """
    kept: list[dict[str, float]] = []
    for row in rows:
        at, is_loss = row.get("step", 0), "loss" in row
        # A step has one row of the training and one of the evaluation.
        again = [r for r in kept[-2:] if r.get("step", 0) == at and ("loss" in r) == is_loss]
        if again or (kept and kept[-1].get("step", 0) > at):
            kept = [r for r in kept if r.get("step", 0) < at]
        kept.append(row)
    return [row for row in kept if row.get("step", 0) <= step]


def _ends(logged: list[float], first: int, last: int) -> tuple[float, float] | None:
    """Return the means of the first and of the last values; None where they overlap."""
    if len(logged) < first + last:
        return None
    return fmean(logged[:first]), fmean(logged[-last:])


def health_signals(rows: Rows, task: str, losses: str | list[str] | None = None) -> list[Health]:
    """Read a run's signals from what it has logged."""
    named = [losses] if isinstance(losses, str) else losses or []
    misread = {signal for name in named for signal in MISREAD.get(name, ())}
    logged, found = Metrics(rows), []
    for name, row in findings.rows("signals").items():
        if not rows or task not in row.tasks or name in misread:
            continue
        fields = CHECKS[name](logged) if name in CHECKS else None
        fields = _beyond(row, logged) if row.metric else fields
        found += [signal(name, fields)] if fields is not None else []
    return found


def signal(name: str, fields: Fields) -> Health:
    """Return a signal with its numbers."""
    row = findings.rows("signals")[name]
    observed, advice = row.texts(fields)
    return Health(signal=name, severity=row.severity, observed=observed, advice=advice)


def cut_rows(counts: Counts | None) -> list[Health]:
    """Return the signal that rows are cut at max_length, if any are: their answers do not end."""
    if counts is None or not counts.data.num_truncated:
        return []
    cut, all_rows = counts.data.num_truncated, counts.data.num_sequences
    fields: Fields = {"cut": cut, "all_rows": all_rows, "fraction": cut / all_rows}
    return [signal("rows_cut", fields | {"longest": counts.lengths.longest_tokens})]


def is_diverged(rows: Rows) -> bool:
    """Return whether the loss is not a number, so that going on is useless.

    Three gradients in a row that are not numbers do not come back. In float16 the loss is scaled: a
    step that overflows is skipped and halves the scale, so the first steps may look for the right
    one, and only where the scale has nothing left to give is it divergence.

    Source: https://docs.pytorch.org/docs/stable/amp.html, GradScaler: it starts at 65,536.
    """
    if not rows:
        return False
    norms = Metrics(rows).values("grad_norm")[-OVERFLOWS:]
    overflows = len(norms) == OVERFLOWS and not any(map(math.isfinite, norms))
    is_searching = rows[-1].get("loss_scale", 0.0) > LEAST_SCALE
    return (overflows and not is_searching) or not math.isfinite(rows[-1].get("loss", 0.0))


def gamed(logged: Metrics) -> Fields | None:
    """Find a reward that rises in training and not on held-out prompts."""
    trained, held_out = logged.trend("reward"), _ends(logged.finite("eval_reward"), FIRST, LAST)
    if trained is None or held_out is None:
        return None
    rose, gained = trained[1] - trained[0], held_out[1] - held_out[0]
    apart = number("grpo.apart")
    if rose <= apart or gained > number("grpo.followed") * rose or rose - gained <= apart:
        return None
    return {"first": trained[0], "last": trained[1], "before": held_out[0], "after": held_out[1]}


def _beyond(row: Row, logged: Metrics) -> Fields | None:
    """Check the metric of a row against its threshold, or against that multiple of its start.

    Too much counts where all of the last values are, too little by the mean of the last ten.
    """
    bound, values = number(row.above or row.below), logged.finite(row.metric)
    if row.of_start:
        found = logged.trend(row.metric)
        if found is None:
            return None
        is_far = found[1] >= bound * found[0] if row.above else found[1] < bound * found[0]
        return {"first": found[0], "last": found[1]} if is_far else None
    if len(values) < row.last:
        return None
    now = min(values[-row.last :]) if row.above else fmean(values[-RECENT:])
    is_far = now > bound if row.above else now < bound
    return {"now": now, "limit": bound} if is_far else None


def _same(least: int, earns: Callable[[float], bool]) -> Check:
    """Return the check whether too many groups have no spread, at a reward that is meant."""

    def check(logged: Metrics) -> Fields | None:
        without, reward = logged.recent(SPREAD), logged.recent("reward", least)
        if without is None or reward is None or not earns(reward):
            return None
        is_flat = without > number("grpo.zero_spread_stop")
        return {"without": without, "reward": reward, "steps": least} if is_flat else None

    return check


def _not_finite(logged: Metrics) -> Fields | None:
    last = logged.rows[-1]
    fields: Fields = {"loss": last.get("loss"), "grad_norm": last.get("grad_norm")}
    return fields if is_diverged(logged.rows) else None


def _first_loss(logged: Metrics) -> Fields | None:
    losses = logged.values("loss")
    low, high = number("training.first_loss_low"), number("training.first_loss_high")
    if not losses or low <= losses[0] <= high or not math.isfinite(losses[0]):
        return None
    return {"first": losses[0], "low": low, "high": high}


def _gets_worse(logged: Metrics) -> Fields | None:
    """Find a validation loss that rose twice above its best while answers got no better."""
    evaluated = logged.finite("eval_loss")
    if len(evaluated) < 3 or not evaluated[-1] > evaluated[-2] > evaluated[-3]:
        return None
    best, last = min(evaluated), evaluated[-1]
    if last <= number("diagnosis.worse_ratio") * best or last - best <= number("diagnosis.worse"):
        return None
    right = logged.values("eval_mean_token_accuracy")
    if len(right) == len(evaluated):
        before = right[evaluated.index(best)]
        if right[-1] > before + number("diagnosis.better_accuracy"):
            return None
    return {"last": last, "best": best}


def _flat_loss(logged: Metrics) -> Fields | None:
    found = logged.trend("loss")
    if found is None or found[0] - found[1] > number("training.flat_fraction") * found[0]:
        return None
    return {"first": found[0], "last": found[1]}


def _memorised(logged: Metrics) -> Fields | None:
    accuracy, loss = logged.recent("rewards/accuracies"), logged.recent("loss")
    if accuracy is None or loss is None:
        return None
    is_perfect = accuracy >= number("training.reward_accuracy_high")
    is_low = loss <= number("training.preference_loss_low")
    return {"loss": logged.values("loss")[-1]} if is_perfect and is_low else None


def _little_spread(logged: Metrics) -> Fields | None:
    now = logged.recent(SPREAD)
    low, high = number("grpo.zero_spread_warn"), number("grpo.zero_spread_stop")
    return {"now": now} if now is not None and low < now <= high else None


def _no_gradient(logged: Metrics) -> Fields | None:
    """Find gradients of nothing where rewards differ: the adapter is not what is trained."""
    norms, without = logged.finite("grad_norm")[-RECENT:], logged.recent(SPREAD)
    is_dead = len(norms) == RECENT and not any(norms)
    has_spread = without is not None and without < number("grpo.zero_spread_warn")
    return {"steps": RECENT} if is_dead and has_spread else None


def _answers_cut(logged: Metrics) -> Fields | None:
    """Find answers that grew until they are cut."""
    cut, most = logged.trend(CUT), number("grpo.truncated_stop")
    is_grown = cut is not None and cut[0] < most - 0.3 and cut[1] > most
    return {"first": cut[0], "now": cut[1]} if cut and is_grown else None


def _part_traded(logged: Metrics) -> Fields | None:
    """Find a part of the reward that is all earned while another one is lost."""
    names = {key for row in logged.rows for key in row if key.startswith(PART)}
    named = {name.removeprefix(PART).removesuffix(MEAN): name for name in sorted(names)
             if name.endswith(MEAN)}  # fmt: skip
    parts = {part: found for part, name in named.items() if (found := logged.trend(name))}
    full = [part for part, (_, last) in parts.items() if last >= number("grpo.part_full")]
    lost = [n for n, (first, last) in parts.items() if first - last > number("grpo.part_lost")]
    if not full or not lost:
        return None
    first, last = parts[lost[0]]
    return {"full": full[0], "lost": lost[0], "first": first, "last": last}


CHECKS: dict[str, Check] = {
    "not_a_number": _not_finite,
    "flat_loss": _flat_loss,
    "first_loss": _first_loss,
    "overfitting": _gets_worse,
    "preferences_memorised": _memorised,
    "no_reward": _same(2 * RECENT, lambda reward: reward <= number("grpo.dead_reward")),
    "all_solved": _same(RECENT, lambda reward: reward >= number("grpo.solved_reward")),
    "no_spread": _same(
        2 * RECENT,
        lambda reward: number("grpo.dead_reward") < reward < number("grpo.solved_reward"),
    ),
    "little_spread": _little_spread,
    "no_gradient": _no_gradient,
    "gamed": gamed,
    "part_traded": _part_traded,
    "answers_cut": _answers_cut,
}
"""By the id of their row in findings.toml; other rows name a metric and its threshold."""
