"""Signals about a run in its metrics, each with what to do about it: a table, read from the top."""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from ft_tools.facts import number
from ft_tools.runs.state.records import Health
from ft_tools.training.token_counts import Counts

Row = dict[str, float]
Rows = Sequence[Row]
Look = Callable[[Rows], str | None]
"""Metrics, oldest first -> what was observed, or None."""
RECENT = 10
"""Logged rows that a trend is read from."""
OVERFLOWS = 3
LEAST_SCALE = 1.0
# Loss -> signals that it gives off in good health. DFT weighs each token's loss by its probability,
# apo_down is to lower both rewards. Source: arXiv 2508.05629; arXiv 2408.06266.
MISREAD = {
    "dft": {"first_loss", "flat_loss", "overfitting"},
    "apo_down": {"chosen_reward_falls"},
}


@dataclass(frozen=True)
class Watch:
    """A row of the table."""

    signal: str
    look: Look
    advice: str
    severity: Literal["info", "warning", "error"] = "warning"
    tasks: frozenset[str] = frozenset({"sft", "dpo", "kto"})


def health_signals(rows: Rows, task: str, losses: str | list[str] | None = None) -> list[Health]:
    """Read a run's signals from what it has logged.

    Args:
        rows: Lines of metrics.jsonl, oldest first.
        task: sft or dpo.
        losses: The run's `loss_type`.
    """
    named = [losses] if isinstance(losses, str) else losses or []
    misread = {signal for name in named for signal in MISREAD.get(name, ())}
    watched = [w for w in WATCHED if task in w.tasks and w.signal not in misread]
    found = [(watch, watch.look(rows)) for watch in watched if rows]
    return [
        Health(signal=watch.signal, severity=watch.severity, observed=seen, advice=watch.advice)
        for watch, seen in found
        if seen is not None
    ]


def about_cut(counts: Counts | None) -> list[Health]:
    """Say so where rows are cut at max_length: their answers do not end."""
    if counts is None or not counts.data.num_truncated:
        return []
    cut, all_rows = counts.data.num_truncated, counts.data.num_sequences
    return [
        Health(
            signal="rows_cut",
            severity="warning",
            observed=f"{cut} of {all_rows} sequences ({cut / all_rows:.1%}) are cut at "
            "max_length, so their answers have no end",
            advice="raise max_length, or shorten or remove these rows; the longest has "
            f"{counts.lengths.longest_tokens} tokens",
        )
    ]


def is_diverged(rows: Rows) -> bool:
    """Tell whether the loss is not a number, so that going on is useless.

    Three gradients in a row that are not numbers do not come back. In float16 the loss is scaled: a
    step that overflows is skipped and halves the scale, so the first steps may look for the right
    one, and only where the scale has nothing left to give is it divergence.

    Source: https://docs.pytorch.org/docs/stable/amp.html, GradScaler: it starts at 65,536.
    """
    if not rows:
        return False
    norms = _values(rows, "grad_norm")[-OVERFLOWS:]
    overflows = len(norms) == OVERFLOWS and not any(map(math.isfinite, norms))
    is_searching = rows[-1].get("loss_scale", 0.0) > LEAST_SCALE
    return (overflows and not is_searching) or not math.isfinite(rows[-1].get("loss", 0.0))


def _values(rows: Rows, name: str) -> list[float]:
    return [row[name] for row in rows if name in row]


def _finite(rows: Rows, name: str) -> list[float]:
    return [value for value in _values(rows, name) if math.isfinite(value)]


def _not_finite(rows: Rows) -> str | None:
    if not is_diverged(rows):
        return None
    return f"loss {rows[-1].get('loss')}, gradient norm {rows[-1].get('grad_norm')}"


def _spike(rows: Rows) -> str | None:
    losses = _finite(rows, "loss")
    if len(losses) < RECENT + 1:
        return None
    usual = statistics.median(losses[-RECENT - 1 : -1])
    least = usual + number("training.spike_least")
    if losses[-1] <= number("training.spike_factor") * usual or losses[-1] < least:
        return None
    return f"loss {losses[-1]:.3g} after a median of {usual:.3g}"


def _first_loss(rows: Rows) -> str | None:
    losses = _values(rows, "loss")
    low, high = number("training.first_loss_low"), number("training.first_loss_high")
    if not losses or low <= losses[0] <= high or not math.isfinite(losses[0]):
        return None
    return f"first loss {losses[0]:.3g} is outside {low:g} to {high:g}"


def _gets_worse(rows: Rows) -> str | None:
    """Find a validation loss that rose twice above its best while answers got no better."""
    evaluated = _finite(rows, "eval_loss")
    if len(evaluated) < 3 or not evaluated[-1] > evaluated[-2] > evaluated[-3]:
        return None
    best = min(evaluated)
    rise = evaluated[-1] - best
    if evaluated[-1] <= number("diagnosis.worse_ratio") * best or rise <= number("diagnosis.worse"):
        return None
    right = _values(rows, "eval_mean_token_accuracy")
    if len(right) == len(evaluated):
        before = right[evaluated.index(best)]
        if right[-1] > before + number("diagnosis.better_accuracy"):
            return None
    return f"validation loss has risen twice in a row, to {evaluated[-1]:.3g} from {best:.3g}"


def _sure_and_wrong(rows: Rows) -> str | None:
    """Find an entropy that fell while held-out answers got worse; alone it is what learning is."""
    fell, worse = _fall("entropy", "training.entropy_fraction")(rows), _gets_worse(rows)
    return None if fell is None or worse is None else f"{fell}; {worse}"


def _gradient(rows: Rows) -> str | None:
    norms = _finite(rows, "grad_norm")
    high = number("training.gradient_norm_high")
    if len(norms) < 3 or min(norms[-3:]) <= high:
        return None
    return f"gradient norm {norms[-1]:.3g} three times in a row above {high:g}"


def _fall(metric: str, fact: str, *, at_least: bool = False) -> Look:
    """Compare the last ten values of a metric with its first ten.

    Args:
        metric: Its name in metrics.jsonl.
        fact: Threshold: the fraction of the first mean that has to be gone (`at_least`), or to be
            left.
        at_least: Whether a fall is wanted, and its absence the signal.
    """

    def look(rows: Rows) -> str | None:
        values = _finite(rows, metric)
        if len(values) < 2 * RECENT:
            return None
        first, last = statistics.fmean(values[:RECENT]), statistics.fmean(values[-RECENT:])
        if at_least and first - last > number(fact) * first:
            return None
        if not at_least and last >= number(fact) * first:
            return None
        return f"{metric} {first:.3g} at the start, {last:.3g} now"

    return look


def _below(metric: str, fact: str, least: int) -> Look:
    """Look whether the mean of the last ten of at least so many values is below a threshold."""

    def look(rows: Rows) -> str | None:
        values = _values(rows, metric)
        now = statistics.fmean(values[-RECENT:]) if len(values) >= least else math.inf
        if now >= number(fact):
            return None
        return f"mean of {metric} is {now:.3g}, below {number(fact):g}"

    return look


def _memorised(rows: Rows) -> str | None:
    accuracies, losses = _values(rows, "rewards/accuracies"), _values(rows, "loss")
    if len(accuracies) < RECENT or len(losses) < RECENT:
        return None
    perfect = statistics.fmean(accuracies[-RECENT:]) >= number("training.reward_accuracy_high")
    if not perfect or statistics.fmean(losses[-RECENT:]) > number("training.preference_loss_low"):
        return None
    return f"every pair is ranked right at a loss of {losses[-1]:.3g}"


def _slower(rows: Rows) -> str | None:
    seconds = _values(rows, "step_seconds")
    # The first row has the warm-up in it.
    if len(seconds) < 2 * RECENT + 1:
        return None
    first = statistics.median(seconds[1 : RECENT + 1])
    last = statistics.median(seconds[-RECENT:])
    if last <= number("training.slower_factor") * first:
        return None
    return f"a step takes {last:.3g} s, {first:.3g} s at the start"


def _short_of_memory(rows: Rows) -> str | None:
    values = _values(rows, "memory_free_fraction")
    if not values or values[-1] >= number("training.memory_free_low"):
        return None
    return f"{values[-1]:.1%} of the memory is free"


def _hot(rows: Rows) -> str | None:
    values = _values(rows, "thermal_throttling")
    if not values or not values[-1]:
        return None
    degrees = _values(rows, "temperature_celsius")
    where = f" at {degrees[-1]:.0f} degrees Celsius" if degrees else ""
    return f"the device slows down because of heat{where}"


SFT, DPO = frozenset({"sft"}), frozenset({"dpo"})
PREFERENCES = frozenset({"dpo", "kto"})
WATCHED: tuple[Watch, ...] = (
    Watch(
        "not_a_number",
        _not_finite,
        "divide learning_rate by three, or find broken examples with audit_dataset",
        severity="error",
    ),
    Watch(
        "loss_spike",
        _spike,
        "a single spike is harmless; if spikes recur, lower learning_rate or max_grad_norm",
    ),
    Watch(
        "flat_loss",
        _fall("loss", "training.flat_fraction", at_least=True),
        "raise learning_rate two- or threefold, or check that the examples fit the template",
        tasks=SFT,
    ),
    Watch(
        "first_loss",
        _first_loss,
        "too high: usual where an answer is one word, such as a label; near the logarithm of the "
        "vocabulary (7 to 12) the model guesses: random weights, or a chat template or tokenizer "
        "of another model; too low: the model may have seen these examples before",
        tasks=SFT,
    ),
    Watch(
        "overfitting",
        _gets_worse,
        "the best checkpoint is kept; more examples help most, then fewer epochs",
    ),
    Watch("gradient_norm", _gradient, "lower learning_rate, or raise the warm-up to 0.1"),
    Watch(
        "entropy_collapse",
        _sure_and_wrong,
        "the model becomes overconfident: check its answers for repetition, stop earlier",
    ),
    Watch(
        "chosen_reward_falls",
        _below("rewards/chosen", "training.chosen_reward_low", RECENT),
        'lower learning_rate, or use loss_type=["sigmoid", "sft"], loss_weights=[1, 0.2]',
        tasks=PREFERENCES,
    ),
    Watch(
        "reward_accuracy",
        _below("rewards/accuracies", "training.reward_accuracy_low", 2 * RECENT),
        "check that chosen and rejected are not swapped, and how far the answers differ",
        tasks=DPO,
    ),
    Watch(
        "preferences_memorised",
        _memorised,
        "stop here, or use a larger beta: more steps only push the model away from its reference",
        tasks=DPO,
    ),
    Watch(
        "slower",
        _slower,
        "check for other programs on this device, overheating and a slow disk; the result is not "
        "affected",
    ),
    Watch(
        "memory_pressure",
        _short_of_memory,
        "close other programs, or lower per_device_train_batch_size and raise "
        "gradient_accumulation_steps; a run that is killed for memory resumes with half the "
        "micro-batch",
    ),
    Watch("thermal_throttling", _hot, "improve the cooling or lower the power limit"),
)
