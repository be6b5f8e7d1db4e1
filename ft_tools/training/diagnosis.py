"""What a supervised run's curves say about its settings and data, and what to change.

The texts are rows of findings.toml. A run whose held-out answers are right already has no finding.
benchmarks/diagnosis.py measures how often findings are right.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from ft_tools.contract import NextStep
from ft_tools.facts import number
from ft_tools.lora.choices import choose_learning_rate
from ft_tools.next_steps import launch_tool, next_step
from ft_tools.runs.state.records import Health
from ft_tools.training import findings
from ft_tools.training.defaults import LEAST_EVALUATIONS
from ft_tools.training.health import Rows
from ft_tools.training.report import Diagnosis
from ft_tools.training.training_plan import SftPlan, TrainingPlan

LEAST_LOSSES = 6
UNTRAINED_STEPS = 2
WINDOW = 0.1
"""Share of the logged losses that is averaged."""
ACCURACY = "eval_mean_token_accuracy"
ASKED_AGAIN = ("model", "sft_run", "method", "engine", "peft", "backend", "backend_options",
               "accept_findings", "accept_reason")  # fmt: skip
"""Of the run's request: what trains the same again."""


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


class Curves:
    """A run's logged values, oldest first; losses that are no numbers are left out."""

    def __init__(self, rows: Rows) -> None:
        evaluated = [row for row in rows if math.isfinite(row.get("eval_loss", math.nan))]
        losses = [row for row in rows if math.isfinite(row.get("loss", math.nan))]
        self.train = [row["loss"] for row in losses]
        self.evals = [(row["step"], row["eval_loss"]) for row in evaluated]
        """(step, validation loss)."""
        has_accuracy = all(ACCURACY in row for row in evaluated)
        self.accuracies = [row[ACCURACY] for row in evaluated] if has_accuracy else []
        """Of next tokens of held-out answers, at the same steps; empty where it is not logged."""
        self.step = max((row["step"] for row in rows), default=0.0)
        # The warm-up begins with a rate of 0, so the second step's loss is of the same weights.
        early = [row["loss"] for row in losses if row["step"] <= UNTRAINED_STEPS]
        self.untrained = fmean(early or self.train[:1] or [math.inf])
        """Training loss before any weight changed."""
        values = [value for _, value in self.evals]
        self.best = values.index(min(values)) if values else 0
        """The place of the lowest validation loss."""
        self.low, self.end = (values[self.best], values[-1]) if values else (math.inf, math.inf)
        self.last_part = round(number("diagnosis.slope_from") * (len(values) - 1))
        """The place of the evaluation where the run's last part begins."""
        self.late = values[self.last_part] if values else math.inf
        self._width = max(3, math.ceil(WINDOW * len(self.train)))

    @property
    def has_converged(self) -> bool:
        """Return whether the held-out answers are right already."""
        accuracy = self.accuracies[self.best] if self.accuracies else 0.0
        right = accuracy >= number("diagnosis.learnt_accuracy")
        return right or self.low <= number("diagnosis.learnt_loss")

    def trained_before(self, end: int) -> float:
        """Return the mean training loss of the tenth of the run before so many logged losses."""
        return fmean(self.train[max(0, end - self._width) : end])

    def answers_improved(self) -> bool:
        """Return whether more answer tokens are right since the lowest validation loss."""
        if not self.accuracies:
            return False
        later = median(self.accuracies[self.best + 1 :])
        return later > self.accuracies[self.best] + number("diagnosis.better_accuracy")

    def described(self) -> str:
        """Return the first and the last evaluation."""
        right = f" with {self.accuracies[-1]:.1%} of answer tokens right" if self.accuracies else ""
        first = f"validation loss {self.evals[0][1]:.3g} at the first evaluation"
        return f"{first}, {self.end:.3g} at the last{right}"


def setup_of(plan: TrainingPlan) -> Setup:
    """Return what a plan's curves are read with."""
    usual = choose_learning_rate(plan.task, plan.method, plan.model.hidden_size).value
    loss_on = plan.loss_on if isinstance(plan, SftPlan) else "answers"
    return Setup(
        float(plan.training["learning_rate"]),
        usual,
        plan.epochs,
        plan.estimate.steps,
        is_masked=plan.dataset.format == "text" or loss_on == "answers",
        num_labels=plan.dataset.num_labels,
    )


def diagnose(rows: Rows, setup: Setup) -> list[Diagnosis]:
    """Return what the curves show; empty for a run that needs no change."""
    curves, found = Curves(rows), []
    if not setup.is_masked:
        found.append(with_numbers("masked_wrongly", {}, {"completion_only_loss": None}))
    is_logged = len(curves.train) >= LEAST_LOSSES
    checks: list[Check] = [_nothing_to_learn, _too_high] if is_logged else []
    if curves.evals and not curves.has_converged:
        if len(curves.evals) < LEAST_EVALUATIONS:
            checks.append(_too_few_evaluations)
        else:
            checks += [_too_low, *([_noise, _memorising] if is_logged else []), _still_learning]
    first = next(filter(None, (check(curves, setup) for check in checks)), None)
    return [*found, *([first] if first else [])]


Check = Callable[[Curves, Setup], Diagnosis | None]
"""What so many logged losses and evaluations can show; the first that holds counts."""


def health_of(found: Sequence[Diagnosis]) -> list[Health]:
    """Return the findings that are worth knowing while a run goes on."""
    known = findings.rows("diagnoses")
    return [
        Health(signal=one.id, severity="warning", observed=one.observed, advice=one.advice)
        for one in found
        if known[one.id].live
    ]


def with_numbers(
    name: Any, fields: dict[str, Any], training: dict[str, Any] | None = None, **continues: bool
) -> Diagnosis:
    """Return a row of findings.toml with its numbers, and the arguments to change."""
    observed, advice = findings.rows("diagnoses")[name].texts(fields)
    changed = training or {}
    return Diagnosis(id=name, observed=observed, advice=advice, training=changed, **continues)


def _nothing_to_learn(curves: Curves, setup: Setup) -> Diagnosis | None:
    is_known = curves.untrained <= number("diagnosis.known_loss")
    return with_numbers("nothing_to_learn", {"first": curves.untrained}) if is_known else None


def _too_high(curves: Curves, setup: Setup) -> Diagnosis | None:
    """Find a training loss that rose, or stays where a much lower rate would not leave it."""
    smooth = [curves.trained_before(i + 1) for i in range(len(curves.train))]
    start, end, least = fmean(curves.train[:3]), smooth[-1], min(smooth)
    rose = end > number("diagnosis.rise_ratio") * least and end - least > number("diagnosis.rise")
    # Any loss is near its start in the first steps.
    is_time = curves.step >= number("diagnosis.stuck_from") * setup.steps
    stuck = is_time and end > number("diagnosis.stuck_fraction") * start
    is_high = setup.learning_rate >= number("diagnosis.rate_factor") * setup.usual_rate
    if curves.has_converged or not (rose or (stuck and is_high)):
        return None
    lower = min(setup.usual_rate, setup.learning_rate / 3)
    fields = {"start": start, "least": least, "end": end, **_rates(setup)}
    return with_numbers("rate_too_high", fields, {"learning_rate": float(f"{lower:.2g}")})


def _too_low(curves: Curves, setup: Setup) -> Diagnosis | None:
    is_low = setup.learning_rate * number("diagnosis.rate_factor") <= setup.usual_rate
    if not is_low or curves.best < len(curves.evals) - 2:
        return None
    fields = {"fall": curves.described(), **_rates(setup)}
    return with_numbers("rate_too_low", fields, {"learning_rate": setup.usual_rate})


def _noise(curves: Curves, setup: Setup) -> Diagnosis | None:
    """Find labels whose validation loss stops high, while training rows fared no better then.

    Early or long before the end: later the rows with wrong labels may be learned by heart.

    Of free text this is what health looks like: much of it cannot be foreseen. A loss above that
    of guessing a label says that the labels are not learned yet.
    """
    best, low, number_of = curves.best, curves.low, len(curves.evals)
    if setup.num_labels is None or low > math.log(setup.num_labels):
        return None
    ratio = number("diagnosis.plateau_ratio")
    reached = next(i for i, (_, value) in enumerate(curves.evals) if value <= low * ratio)
    is_early = reached + 1 <= number("diagnosis.plateau_at") * number_of
    is_over = number_of - 1 - best >= 2
    trained = curves.trained_before(max(3, round((best + 1) / number_of * len(curves.train))))
    if not (is_early or is_over) or trained / low < number("diagnosis.noise_gap"):
        return None
    right = f", {curves.accuracies[best]:.1%} of answer tokens right" if curves.accuracies else ""
    fields = {"within": ratio - 1, "low": low, "step": curves.evals[reached][0]}
    return with_numbers("noise", {**fields, "accuracy": right, "train": trained})


def _memorising(curves: Curves, setup: Setup) -> Diagnosis | None:
    """Find rows that get better alone: the validation loss rose, or stays far above training's."""
    best, low, end, last = curves.best, curves.low, curves.end, len(curves.evals) - 1
    rose = end > number("diagnosis.worse_ratio") * low and end - low > number("diagnosis.worse")
    rose = rose and last - best >= 2 and not curves.answers_improved()
    trained = curves.trained_before(len(curves.train))
    is_flat = end > (1 - number("diagnosis.flat")) * curves.late
    if not rose and not (is_flat and trained < number("diagnosis.apart") * low):
        return None
    lower: dict[str, float | None] = {"learning_rate": float(f"{setup.learning_rate / 2:.2g}")}
    if best < last - 1:
        # Where the last checkpoints are the best, fewer epochs would not help.
        share = curves.evals[best][0] / max(1, setup.steps) if rose else 0.5
        epochs = max(1.0, round(setup.epochs * share, 1))
        lower |= {"num_train_epochs": epochs, "max_steps": None}
    fields = {"low": low, "step": curves.evals[best][0], "end": end, "trained": trained}
    return with_numbers("memorising", fields, lower)


def _still_learning(curves: Curves, setup: Setup) -> Diagnosis | None:
    """Find a validation loss that was still falling when the run ended.

    Under a decaying rate it falls to the end of any run. Of one with enough steps the answers have
    to get better, too.
    """
    fell = curves.late - curves.end
    # By more than evaluations differ by.
    least = max(number("diagnosis.fall"), number("diagnosis.fall_fraction") * curves.end)
    if curves.best < len(curves.evals) - 2 or fell <= least:
        return None
    few = setup.steps < number("train.min_steps")
    right = curves.accuracies
    gain = right[-1] - right[curves.last_part] if right else math.inf
    if not few and gain < number("diagnosis.gain"):
        return None
    more = {"num_train_epochs": max(1.0, math.ceil(setup.epochs))}
    fields = {"fall": curves.described(), "fell": fell, "steps": setup.steps}
    return with_numbers("too_few_steps" if few else "still_learning", fields, more, continues=True)


def _too_few_evaluations(curves: Curves, setup: Setup) -> Diagnosis:
    """Report that so few evaluations show no trend."""
    losses = ", ".join(f"{value:.3g} at step {step:.0f}" for step, value in curves.evals)
    changed = dict.fromkeys(("eval_strategy", "eval_steps", "save_steps"))
    fields = {"losses": losses, "steps": setup.steps, "least": LEAST_EVALUATIONS}
    return with_numbers("too_few_evaluations", fields, changed)


def _rates(setup: Setup) -> dict[str, float]:
    return {"rate": setup.learning_rate, "usual": setup.usual_rate}


def next_steps(
    found: Sequence[Diagnosis], plan: TrainingPlan, asked: Mapping[str, Any], run_id: str
) -> list[NextStep]:
    """Return the calls that follow from the findings; `asked` is the run's request."""
    same = {name: asked[name] for name in ASKED_AGAIN if asked.get(name)}
    # A run that is trained further takes all else from the earlier one by itself.
    there = {name: one for name, one in same.items() if name.startswith("backend")}
    files = {"dataset": plan.dataset.path, "validation": None}
    if plan.validation:
        files["validation"] = plan.validation.path
    steps = []
    for one in found:
        changed = {**asked.get("training", {}), **one.training}
        training = {name: value for name, value in changed.items() if value is not None}
        tool, arguments = launch_tool(plan.task), {**same, **files, "training": training}
        if one.continues:
            arguments = {"from_run": run_id, "training": one.training}
            arguments |= {} if there == {"backend": "local"} else there
        elif one.id == "noise":
            tool, arguments = "audit_dataset", {"path": plan.dataset.path}
        elif one.id == "nothing_to_learn":
            rows = files["validation"] or files["dataset"]
            tool, arguments = "evaluate", {"model": plan.model.name, "dataset": rows}
        given = {"tool": tool, "id": one.id, "advice": one.advice}
        steps.append(next_step("diagnosed", arguments, **given))
    return steps
