"""What a supervised run's curves say about its settings and data, and what to change.

The texts are rows of findings.toml. A run whose held-out answers are right already has no finding.
benchmarks/diagnosis.py measures how often findings are right.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from ft_tools.facts import number
from ft_tools.lora.choices import choose_learning_rate
from ft_tools.runs.state.records import Health
from ft_tools.training import findings
from ft_tools.training.defaults import LEAST_EVALUATIONS
from ft_tools.training.report import Diagnosis
from ft_tools.training.training_plan import SftPlan, TrainingPlan

Row = Mapping[str, float]
LEAST_LOSSES = 6
UNTRAINED_STEPS = 2
WINDOW = 0.1
"""Share of the logged losses that is averaged."""


@dataclass(frozen=True)
class Setup:
    """What of a plan the curves are read with."""

    learning_rate: float
    usual_rate: float
    """What the rules give for this model and method."""
    epochs: float
    steps: int
    """Planned."""
    is_masked: bool = True
    """Whether prompts are left out of the loss, or there are none."""
    num_labels: int | None = None
    """Different answers, where they are labels, of which each prompt should have one."""


@dataclass(frozen=True)
class Curves:
    """A run's logged values, oldest first."""

    train: list[float]
    evals: list[tuple[float, float]]
    """(step, validation loss)."""
    accuracies: list[float]
    """Of next tokens of held-out answers, at the same steps; empty where it is not logged."""
    step: float = 0.0
    """The last one."""
    untrained: float = math.inf
    """Training loss before any weight changed."""

    @property
    def best(self) -> int:
        """Return the place of the lowest validation loss."""
        return min(range(len(self.evals)), key=lambda i: self.evals[i][1])

    @property
    def has_converged(self) -> bool:
        """Return whether the held-out answers are right already."""
        if not self.evals:
            return False
        accuracy = self.accuracies[self.best] if self.accuracies else 0.0
        right = accuracy >= number("diagnosis.learnt_accuracy")
        return right or self.evals[self.best][1] <= number("diagnosis.learnt_loss")

    @property
    def last_part(self) -> int:
        """Return the place of the evaluation where the run's last part begins."""
        return round(number("diagnosis.slope_from") * (len(self.evals) - 1))

    def late(self) -> float:
        """Return the validation loss where the run's last part begins."""
        return self.evals[self.last_part][1]

    def smoothed(self) -> list[float]:
        """Return running means of the training loss, over a tenth of the run."""
        width = max(3, math.ceil(WINDOW * len(self.train)))
        return [fmean(self.train[max(0, i - width + 1) : i + 1]) for i in range(len(self.train))]

    def train_around(self, place: int) -> float:
        """Return the mean training loss of the tenth of the run before an evaluation."""
        share = (place + 1) / len(self.evals)
        end = max(3, round(share * len(self.train)))
        width = max(3, math.ceil(WINDOW * len(self.train)))
        return fmean(self.train[max(0, end - width) : end])


def setup_of(plan: TrainingPlan) -> Setup:
    """Return what a plan's curves are read with."""
    training, steps = plan.training, plan.estimate.steps
    usual = choose_learning_rate(plan.task, plan.method, plan.model.hidden_size).value
    is_text = plan.dataset.format == "text"
    loss_on = plan.loss_on if isinstance(plan, SftPlan) else "answers"
    return Setup(
        float(training["learning_rate"]),
        usual,
        plan.epochs,
        steps,
        is_masked=is_text or loss_on == "answers",
        num_labels=plan.dataset.num_labels,
    )


def curves_of(rows: Sequence[Row]) -> Curves:
    """Read the curves of metrics.jsonl; losses that are no numbers are left out."""
    evaluated = [row for row in rows if math.isfinite(row.get("eval_loss", math.nan))]
    name = "eval_mean_token_accuracy"
    has_accuracy = all(name in row for row in evaluated)
    losses = [row for row in rows if math.isfinite(row.get("loss", math.nan))]
    # The warm-up begins with a rate of 0, so the loss of the second step is of the same weights.
    early = [row["loss"] for row in losses if row["step"] <= UNTRAINED_STEPS]
    return Curves(
        [row["loss"] for row in losses],
        [(row["step"], row["eval_loss"]) for row in evaluated],
        [row[name] for row in evaluated] if has_accuracy else [],
        max((row["step"] for row in rows), default=0.0),
        fmean(early or [row["loss"] for row in losses[:1]] or [math.inf]),
    )


def diagnose(rows: Sequence[Row], setup: Setup) -> list[Diagnosis]:
    """Return what the curves show; empty for a run that needs no change."""
    curves = curves_of(rows)
    reopened = {"completion_only_loss": None}
    found = [] if setup.is_masked else [_finding("masked_wrongly", {}, reopened)]
    for check in _checks(curves):
        if (one := check(curves, setup)) is not None:
            return [*found, one]
    return found


Check = Callable[[Curves, Setup], Diagnosis | None]


def _checks(curves: Curves) -> list[Check]:
    """Return what so many logged losses and evaluations can show, the first that holds counts."""
    is_logged = len(curves.train) >= LEAST_LOSSES
    checks: list[Check] = [_nothing_to_learn, _too_high] if is_logged else []
    if curves.has_converged or not curves.evals:
        return checks
    if len(curves.evals) < LEAST_EVALUATIONS:
        return [*checks, _too_few_evaluations]
    return [*checks, _too_low, *([_noise, _memorising] if is_logged else []), _still_learning]


def health_of(found: Sequence[Diagnosis]) -> list[Health]:
    """Return the findings that are worth knowing while a run goes on."""
    known = findings.rows("diagnoses")
    return [
        Health(signal=one.id, severity="warning", observed=one.observed, advice=one.advice)
        for one in found
        if known[one.id].live
    ]


def _finding(
    name: Any,
    fields: Mapping[str, Any],
    training: Mapping[str, Any] | None = None,
    *,
    continues: bool = False,
) -> Diagnosis:
    row = findings.rows("diagnoses")[name]
    observed, advice = row.observed.format(**fields), row.advice.format(**fields)
    changed = dict(training or {})
    return Diagnosis(
        id=name, observed=observed, advice=advice, training=changed, continues=continues
    )


def _nothing_to_learn(curves: Curves, setup: Setup) -> Diagnosis | None:
    is_known = curves.untrained <= number("diagnosis.known_loss")
    return _finding("nothing_to_learn", {"first": curves.untrained}) if is_known else None


def _too_high(curves: Curves, setup: Setup) -> Diagnosis | None:
    """Find a training loss that rose, or stays where a much lower rate would not leave it."""
    smooth = curves.smoothed()
    start, end, least = fmean(curves.train[:3]), smooth[-1], min(smooth)
    rose = end > number("diagnosis.rise_ratio") * least and end - least > number("diagnosis.rise")
    # Any loss is near its start in the first steps.
    is_time = curves.step >= number("diagnosis.stuck_from") * setup.steps
    stuck = is_time and end > number("diagnosis.stuck_fraction") * start
    is_high = setup.learning_rate >= number("diagnosis.rate_factor") * setup.usual_rate
    if curves.has_converged or not (rose or (stuck and is_high)):
        return None
    lower = min(setup.usual_rate, setup.learning_rate / 3)
    changed = {"learning_rate": float(f"{lower:.2g}")}
    losses = {"start": start, "least": least, "end": end}
    return _finding("rate_too_high", losses | _rates(setup), changed)


def _too_low(curves: Curves, setup: Setup) -> Diagnosis | None:
    is_low = setup.learning_rate * number("diagnosis.rate_factor") <= setup.usual_rate
    if not is_low or curves.best < len(curves.evals) - 2:
        return None
    changed = {"learning_rate": setup.usual_rate}
    return _finding("rate_too_low", {"fall": _fall(curves), **_rates(setup)}, changed)


def _noise(curves: Curves, setup: Setup) -> Diagnosis | None:
    """Find labels whose validation loss stops high, while training rows fared no better then.

    Early or long before the end: later the rows with wrong labels may be learned by heart.

    Of free text this is what health looks like: much of it cannot be foreseen. A loss above that
    of guessing a label says that the labels are not learned yet.
    """
    best, low = curves.best, curves.evals[curves.best][1]
    if setup.num_labels is None or low > math.log(setup.num_labels):
        return None
    ratio = number("diagnosis.plateau_ratio")
    reached = next(i for i, (_, value) in enumerate(curves.evals) if value <= low * ratio)
    is_early = reached + 1 <= number("diagnosis.plateau_at") * len(curves.evals)
    is_over = len(curves.evals) - 1 - best >= 2
    trained = curves.train_around(best)
    if not (is_early or is_over) or trained / low < number("diagnosis.noise_gap"):
        return None
    right = f", {curves.accuracies[best]:.1%} of answer tokens right" if curves.accuracies else ""
    fields = {"within": ratio - 1, "low": low, "step": curves.evals[reached][0]}
    return _finding("noise", {**fields, "accuracy": right, "train": trained})


def _memorising(curves: Curves, setup: Setup) -> Diagnosis | None:
    """Find rows that get better alone: the validation loss rose, or stays far above training's."""
    best, last = curves.best, len(curves.evals) - 1
    low, end = curves.evals[best][1], curves.evals[last][1]
    rose = end > number("diagnosis.worse_ratio") * low and end - low > number("diagnosis.worse")
    rose = rose and last - best >= 2 and not _answers_improved(curves, best)
    trained = curves.smoothed()[-1]
    is_flat = end > (1 - number("diagnosis.flat")) * curves.late()
    if not rose and not (is_flat and trained < number("diagnosis.apart") * low):
        return None
    lower: dict[str, float | None] = {"learning_rate": float(f"{setup.learning_rate / 2:.2g}")}
    if best < last - 1:
        # Where the last checkpoints are the best, fewer epochs would not help.
        share = curves.evals[best][0] / max(1, setup.steps) if rose else 0.5
        epochs = max(1.0, round(setup.epochs * share, 1))
        lower |= {"num_train_epochs": epochs, "max_steps": None}
    fields = {"low": low, "step": curves.evals[best][0], "end": end, "trained": trained}
    return _finding("memorising", fields, lower)


def _still_learning(curves: Curves, setup: Setup) -> Diagnosis | None:
    """Find a validation loss that was still falling when the run ended.

    Under a decaying rate it falls to the end of any run. Of one with enough steps the answers have
    to get better, too.
    """
    last = curves.evals[-1][1]
    fell = curves.late() - last
    if curves.best < len(curves.evals) - 2 or not _is_fall(fell, last):
        return None
    few = setup.steps < number("train.min_steps")
    right = curves.accuracies
    gain = right[-1] - right[curves.last_part] if right else math.inf
    if not few and gain < number("diagnosis.gain"):
        return None
    name = "too_few_steps" if few else "still_learning"
    more = {"num_train_epochs": max(1.0, math.ceil(setup.epochs))}
    fields = {"fall": _fall(curves), "fell": fell, "steps": setup.steps}
    return _finding(name, fields, more, continues=True)


def _too_few_evaluations(curves: Curves, setup: Setup) -> Diagnosis:
    """Report that so few evaluations show no trend."""
    losses = ", ".join(f"{value:.3g} at step {step:.0f}" for step, value in curves.evals)
    changed = dict.fromkeys(("eval_strategy", "eval_steps", "save_steps"))
    fields = {"losses": losses, "steps": setup.steps, "least": LEAST_EVALUATIONS}
    return _finding("too_few_evaluations", fields, changed)


def _rates(setup: Setup) -> dict[str, float]:
    return {"rate": setup.learning_rate, "usual": setup.usual_rate}


def _is_fall(fell: float, last: float) -> bool:
    """Return whether a validation loss fell by more than evaluations differ by."""
    return fell > max(number("diagnosis.fall"), number("diagnosis.fall_fraction") * last)


def _answers_improved(curves: Curves, since: int) -> bool:
    if not curves.accuracies:
        return False
    later = median(curves.accuracies[since + 1 :])
    return later > curves.accuracies[since] + number("diagnosis.better_accuracy")


def _fall(curves: Curves) -> str:
    (_, first), (_, last) = curves.evals[0], curves.evals[-1]
    accuracy = ""
    if curves.accuracies:
        accuracy = f" with {curves.accuracies[-1]:.1%} of answer tokens right"
    return f"validation loss {first:.3g} at the first evaluation, {last:.3g} at the last{accuracy}"
