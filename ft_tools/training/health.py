"""Signals about a run in its metrics, each with what to do about it."""

import math
import statistics
from collections.abc import Sequence

from ft_tools.facts import number
from ft_tools.runs.records import Health

Row = dict[str, float]
RECENT = 10
OVERFLOWS = 3
"""Logged rows that a trend is read from."""


def health_signals(rows: Sequence[Row], task: str) -> list[Health]:
    """Read a run's signals from what it has logged.

    Args:
        rows: Lines of metrics.jsonl, oldest first.
        task: sft or dpo.
    """
    checks = [_not_finite, _spike, _flat, _start, _gap, _gradient, _entropy]
    if task == "dpo":
        checks += [_chosen_falls, _accuracy, _margins]
    found = (check(rows) for check in checks)
    return [signal for signal in found if signal is not None]


def is_diverged(rows: Sequence[Row]) -> bool:
    """Tell whether the loss is not a number, so that going on is useless.

    A gradient may overflow now and then in float16, where its step is left out: three in a row do
    not come back.
    """
    if not rows:
        return False
    norms = _values(rows, "grad_norm")[-OVERFLOWS:]
    overflows = len(norms) == OVERFLOWS and not any(map(math.isfinite, norms))
    return overflows or not math.isfinite(rows[-1].get("loss", 0.0))


def _values(rows: Sequence[Row], name: str) -> list[float]:
    return [row[name] for row in rows if name in row]


def _not_finite(rows: Sequence[Row]) -> Health | None:
    if not is_diverged(rows):
        return None
    return Health(
        signal="not_a_number",
        severity="error",
        observed=f"loss {rows[-1].get('loss')}, gradient norm {rows[-1].get('grad_norm')}",
        advice="lower learning_rate to a third, or look for broken examples with audit_dataset",
    )


def _spike(rows: Sequence[Row]) -> Health | None:
    losses = [loss for loss in _values(rows, "loss") if math.isfinite(loss)]
    if len(losses) < RECENT + 1:
        return None
    usual = statistics.median(losses[-RECENT - 1 : -1])
    factor = number("training.spike_factor")
    if losses[-1] <= factor * usual or losses[-1] - usual < number("training.spike_least"):
        return None
    return Health(
        signal="loss_spike",
        severity="warning",
        observed=f"loss {losses[-1]:.3g} after a median of {usual:.3g}",
        advice="one spike is harmless; if they come back, lower learning_rate or max_grad_norm",
    )


def _flat(rows: Sequence[Row]) -> Health | None:
    losses = [loss for loss in _values(rows, "loss") if math.isfinite(loss)]
    if len(losses) < 2 * RECENT or "rewards/margins" in rows[-1]:
        return None
    first, last = statistics.fmean(losses[:RECENT]), statistics.fmean(losses[-RECENT:])
    if first - last > number("training.flat_fraction") * first:
        return None
    return Health(
        signal="flat_loss",
        severity="warning",
        observed=f"loss {first:.3g} at the start, {last:.3g} now",
        advice="raise learning_rate two- or threefold, or check that the examples fit the template",
    )


def _start(rows: Sequence[Row]) -> Health | None:
    losses = _values(rows, "loss")
    if not losses or "rewards/margins" in rows[0]:
        return None
    if losses[0] > number("training.first_loss_high"):
        observed, advice = "high", "the chat template or the tokenizer may not be the model's own"
    elif losses[0] < number("training.first_loss_low"):
        observed, advice = "low", "the model may know these examples already; train on other ones"
    else:
        return None
    return Health(
        signal="first_loss",
        severity="warning",
        observed=f"first loss {losses[0]:.3g} is unusually {observed}",
        advice=advice,
    )


def _gap(rows: Sequence[Row]) -> Health | None:
    evaluated, trained = _values(rows, "eval_loss"), _values(rows, "loss")
    if len(evaluated) < 3 or len(trained) < 3:
        return None
    rising = evaluated[-1] > evaluated[-2] > evaluated[-3]
    gap = evaluated[-1] / max(statistics.fmean(trained[-3:]), 1e-9)
    if not rising and gap < number("training.gap_ratio"):
        return None
    shape = "validation loss has risen twice in a row" if rising else "a wide gap"
    return Health(
        signal="overfitting",
        severity="warning",
        observed=f"{shape}: validation {evaluated[-1]:.3g}, training {trained[-1]:.3g}",
        advice="the best checkpoint is kept; use fewer epochs, more examples or a lower rank",
    )


def _gradient(rows: Sequence[Row]) -> Health | None:
    norms = [norm for norm in _values(rows, "grad_norm") if math.isfinite(norm)]
    high = number("training.gradient_norm_high")
    if len(norms) < 3 or min(norms[-3:]) <= high:
        return None
    return Health(
        signal="gradient_norm",
        severity="warning",
        observed=f"gradient norm {norms[-1]:.3g} three times in a row above {high:g}",
        advice="lower learning_rate, or raise the warm-up to 0.1",
    )


def _entropy(rows: Sequence[Row]) -> Health | None:
    values = _values(rows, "entropy")
    if len(values) < 2 * RECENT:
        return None
    first, last = statistics.fmean(values[:RECENT]), statistics.fmean(values[-RECENT:])
    if last >= number("training.entropy_fraction") * first:
        return None
    return Health(
        signal="entropy_collapse",
        severity="warning",
        observed=f"entropy fell from {first:.3g} to {last:.3g} nats a token",
        advice="the model gets certain: check its answers for repetition, stop earlier",
    )


def _chosen_falls(rows: Sequence[Row]) -> Health | None:
    values = _values(rows, "rewards/chosen")
    if len(values) < RECENT:
        return None
    now = statistics.fmean(values[-RECENT:])
    if now >= number("training.chosen_reward_low"):
        return None
    return Health(
        signal="chosen_reward_falls",
        severity="warning",
        observed=f"mean reward of chosen answers is {now:.3g}",
        advice='lower learning_rate, or use loss_type=["sigmoid", "sft"], loss_weights=[1, 0.2]',
    )


def _accuracy(rows: Sequence[Row]) -> Health | None:
    values = _values(rows, "rewards/accuracies")
    if len(values) < 2 * RECENT:
        return None
    now = statistics.fmean(values[-RECENT:])
    if now >= number("training.reward_accuracy_low"):
        return None
    return Health(
        signal="reward_accuracy",
        severity="warning",
        observed=f"{now:.0%} of the pairs are ranked right",
        advice="check that chosen and rejected are not swapped, and how far the answers differ",
    )


def _margins(rows: Sequence[Row]) -> Health | None:
    accuracies, losses = _values(rows, "rewards/accuracies"), _values(rows, "loss")
    if len(accuracies) < RECENT or len(losses) < RECENT:
        return None
    perfect = statistics.fmean(accuracies[-RECENT:]) >= number("training.reward_accuracy_high")
    if not perfect or statistics.fmean(losses[-RECENT:]) > number("training.preference_loss_low"):
        return None
    return Health(
        signal="preferences_memorised",
        severity="warning",
        observed=f"every pair is ranked right at a loss of {losses[-1]:.3g}",
        advice="stop here or use a larger beta: more steps only push the model off its reference",
    )
