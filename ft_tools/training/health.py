"""Signals about a run in its metrics; their texts are rows of findings.toml."""

import math
import statistics

from ft_tools.facts import number
from ft_tools.runs.state.records import Health
from ft_tools.training import findings
from ft_tools.training.grpo.health import REINFORCED
from ft_tools.training.metric_rows import RECENT, Check, Fields, Rows, finite, limit, trend, values
from ft_tools.training.token_counts import Counts

OVERFLOWS = 3
LEAST_SCALE = 1.0
# Loss -> signals that it gives off in good health. DFT weighs each token's loss by its probability,
# apo_down is to lower both rewards. Source: arXiv 2508.05629; arXiv 2408.06266.
MISREAD = {
    "dft": {"first_loss", "flat_loss", "overfitting"},
    "apo_down": {"chosen_reward_falls"},
}


def health_signals(rows: Rows, task: str, losses: str | list[str] | None = None) -> list[Health]:
    """Read a run's signals from what it has logged.

    Args:
        rows: Lines of metrics.jsonl, oldest first.
        task: sft, dpo or kto.
        losses: The run's `loss_type`.
    """
    named = [losses] if isinstance(losses, str) else losses or []
    misread = {signal for name in named for signal in MISREAD.get(name, ())}
    known = findings.rows("signals")
    checked = [name for name in CHECKS if task in known[name].tasks and name not in misread]
    found = [(name, CHECKS[name](rows)) for name in checked if rows]
    return [signal(name, fields) for name, fields in found if fields is not None]


def signal(name: str, fields: Fields) -> Health:
    """Return a signal with its numbers."""
    row = findings.rows("signals")[name]
    observed, advice = row.observed.format(**fields), row.advice.format(**fields)
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
    norms = values(rows, "grad_norm")[-OVERFLOWS:]
    overflows = len(norms) == OVERFLOWS and not any(map(math.isfinite, norms))
    is_searching = rows[-1].get("loss_scale", 0.0) > LEAST_SCALE
    return (overflows and not is_searching) or not math.isfinite(rows[-1].get("loss", 0.0))


def _not_finite(rows: Rows) -> Fields | None:
    last = rows[-1]
    fields: Fields = {"loss": last.get("loss"), "grad_norm": last.get("grad_norm")}
    return fields if is_diverged(rows) else None


def _first_loss(rows: Rows) -> Fields | None:
    losses = values(rows, "loss")
    low, high = number("training.first_loss_low"), number("training.first_loss_high")
    if not losses or low <= losses[0] <= high or not math.isfinite(losses[0]):
        return None
    return {"first": losses[0], "low": low, "high": high}


def _gets_worse(rows: Rows) -> Fields | None:
    """Find a validation loss that rose twice above its best while answers got no better."""
    evaluated = finite(rows, "eval_loss")
    if len(evaluated) < 3 or not evaluated[-1] > evaluated[-2] > evaluated[-3]:
        return None
    best, last = min(evaluated), evaluated[-1]
    if last <= number("diagnosis.worse_ratio") * best or last - best <= number("diagnosis.worse"):
        return None
    right = values(rows, "eval_mean_token_accuracy")
    if len(right) == len(evaluated):
        before = right[evaluated.index(best)]
        if right[-1] > before + number("diagnosis.better_accuracy"):
            return None
    return {"last": last, "best": best}


def _flat(rows: Rows) -> Fields | None:
    found = trend(rows, "loss")
    if found is None or found[0] - found[1] > number("training.flat_fraction") * found[0]:
        return None
    return {"first": found[0], "last": found[1]}


def _memorised(rows: Rows) -> Fields | None:
    accuracies, losses = values(rows, "rewards/accuracies"), values(rows, "loss")
    if len(accuracies) < RECENT or len(losses) < RECENT:
        return None
    is_perfect = statistics.fmean(accuracies[-RECENT:]) >= number("training.reward_accuracy_high")
    is_low = statistics.fmean(losses[-RECENT:]) <= number("training.preference_loss_low")
    return {"loss": losses[-1]} if is_perfect and is_low else None


CHECKS: dict[str, Check] = {
    "not_a_number": _not_finite,
    "flat_loss": _flat,
    "first_loss": _first_loss,
    "overfitting": _gets_worse,
    "gradient_norm": limit("grad_norm", "training.gradient_norm_high", 3, 3, is_above=True),
    "chosen_reward_falls": limit("rewards/chosen", "training.chosen_reward_low", RECENT, RECENT),
    "reward_accuracy": limit(
        "rewards/accuracies", "training.reward_accuracy_low", RECENT, 2 * RECENT
    ),
    "preferences_memorised": _memorised,
} | REINFORCED
"""By the id of their row in findings.toml, in the order of the report."""
