"""Search of settings: short runs of several, then whole runs of the best and of the default.

The trials are ordinary runs. A short trial is a complete short run, with warm-up and decay over its
own length. It is never trained further, because its learning rate has decayed already, so a whole
run is always what launching its settings alone gives.

Source: successive halving, arXiv 1603.06560; a run cut in the middle of its schedule ranks high
learning rates too low, arXiv 2405.18392.
"""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ft_tools.contract import NextStep, Report
from ft_tools.errors import BadInput
from ft_tools.lora.data_shape import HELD_OUT_LEAST
from ft_tools.training.estimates import Estimate
from ft_tools.training.plan import TrainingPlan
from ft_tools.training.request import SearchBudget, TrainingRequest

Metric = Literal["exact_match", "validation_loss"]
DEFAULT = "default"
# Times the default's learning rate, epochs and rank. The rate matters most, the rank least.
# Source: tinker-cookbook, recipes/chat_sl/results/sft_sweep.md: rate 4-10%, rank 0.7-5% of the
# loss; families of one size differ by 3 in their best rate.
GRID: tuple[tuple[str, float, float, int], ...] = (
    (DEFAULT, 1, 1, 1),
    ("rate x3", 3, 1, 1),
    ("rate /3", 1 / 3, 1, 1),
    ("epochs x2", 1, 2, 1),
    ("rate x3, epochs x2", 3, 2, 1),
    ("rate x10", 10, 1, 1),
    ("rank x4", 1, 1, 4),
    ("rate x3, rank x4", 3, 1, 4),
)
SHORT_FRACTION = 0.2
SHORT_STEPS = 30
"""Fewer say little about a rate. Source: peft, method_comparison/MetaMathQA: 63 runs, at a tenth of
their steps, have nearly the order of the end (Spearman .94)."""
WORTH_FRACTION = 0.6
"""Longer ones save little: with the two whole runs after them, the grid costs 8 whole runs of the
default then, and 10 if all are whole."""

START_SECONDS = 15.0
"""Of a trial besides its training: a process, its imports, the model, the scores of held-out rows.
Measured: 8 s of one core for the imports; the search goes by its own trials once it has some."""


class Trial(BaseModel):
    """Settings to try."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    training: dict[str, Any] = Field(description="Arguments that differ from the request's.")
    peft: dict[str, Any] = Field(default_factory=dict)
    cost: float = Field(description="In whole runs of the default.")


class SearchPlan(BaseModel):
    """What a search would try, how it chooses, and what it may spend."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    task: Literal["sft", "dpo", "kto"]
    budget_seconds: float = Field(description="Trials are stopped when it is used up.")
    budget_cost: float | None = Field(None, description="At price_per_hour, in its currency.")
    price_per_hour: float | None = None
    metric: Metric = Field(
        description="What chooses, on validation; the loss decides between equals."
    )
    short_fraction: float = Field(description="Length of the first trials; 1: all are whole runs.")
    trials: list[Trial] = Field(description="In this order, until the budget is used up.")
    dataset: str
    validation: str
    default: dict[str, Any] = Field(description="Plan that a launch without search has.")
    estimate: Estimate = Field(description="Of one whole run of the default.")


class TrialResult(Report):
    """The outcome of a trial."""

    name: str
    fraction: float = Field(description="1: a whole run.")
    run_id: str
    state: str
    learning_rate: float
    num_train_epochs: float | None = None
    rank: int | None = None
    exact_match: float | None = Field(None, description="Share of greedy answers that are right.")
    validation_loss: float | None = None
    seconds: float


class SearchReport(Report):
    """What a search found."""

    winner: str = Field(description="Id of the winner's run, an ordinary run.")
    winner_settings: str
    is_whole: bool = Field(description="False: the budget ended before a whole run did.")
    default_run: str | None = Field(None, description="The default at the same length.")
    metric: Metric
    winner_value: float
    default_value: float | None = None
    gain: float | None = Field(None, description="Over the default, in the metric; > 0 is better.")
    gain_low: float | None = Field(None, description="95% interval; null where rows are not kept.")
    gain_high: float | None = None
    num_validation: int
    caution: str
    seconds: float = Field(description="Of all trials.")
    cost: float | None = Field(None, description="At price_per_hour, in its currency.")
    trials: list[TrialResult]
    not_tried: list[str] = Field(
        default_factory=list, description="The budget did not suffice, or they were refused."
    )
    next_steps: list[NextStep] = Field(default_factory=list)


CAUTION = (
    "the validation rows chose the winner, so its gain on them is somewhat too high; measure it on "
    "rows that no trial has seen"
)


def plan_search(request: TrainingRequest, plan: TrainingPlan) -> SearchPlan:
    """Return what a search around a plan would try.

    Raises:
        BadInput: It would run elsewhere, has no held-out examples, or the budget is too small.
    """
    assert request.search is not None
    if not request.is_here or request.export_dir is not None:
        raise BadInput(
            "search runs its trials on this machine: remove backend, backend_options.gpu and "
            "export_dir"
        )
    if plan.validation is None:
        raise BadInput(
            "search chooses on held-out examples and there are none: pass `validation`, or a "
            f"dataset of at least {HELD_OUT_LEAST} rows without num_train_epochs, max_steps and "
            "eval_strategy"
        )
    budget = _seconds(request.search, request.price_per_hour)
    price = request.price_per_hour
    fraction = max(SHORT_FRACTION, SHORT_STEPS / plan.estimate.steps)
    _require_enough(budget, plan.estimate)
    return SearchPlan(
        task=plan.task,
        budget_seconds=budget,
        budget_cost=None if price is None else round(price * budget / 3600, 2),
        price_per_hour=price,
        metric="exact_match" if _has_right_answers(plan) else "validation_loss",
        short_fraction=round(fraction, 3) if fraction < WORTH_FRACTION else 1.0,
        trials=trials_of(plan),
        dataset=plan.dataset.path,
        validation=plan.validation.path,
        default=plan.model_dump(mode="json", exclude={"estimate", "warnings"}),
        estimate=plan.estimate,
    )


def _seconds(budget: SearchBudget, price: float | None) -> float:
    if budget.minutes is not None:
        return 60 * budget.minutes
    if price is None:
        raise BadInput(f"search.dollars={budget.dollars} needs price_per_hour, or pass minutes")
    assert budget.dollars is not None
    return round(3600 * budget.dollars / price, 1)


def _require_enough(budget: float, estimate: Estimate) -> None:
    if estimate.duration is None:
        return
    low, high = (
        (START_SECONDS + seconds) / 60
        for seconds in (estimate.duration.low_seconds, estimate.duration.high_seconds)
    )
    if budget / 60 < 2 * low:
        raise BadInput(
            f"search: {budget / 60:.3g} minutes are too few: one run takes {low:.3g} to "
            f"{high:.3g} minutes with its start, and a search makes at least two; raise the "
            "budget, or launch without search"
        )


def _has_right_answers(plan: TrainingPlan) -> bool:
    """Tell whether a greedy answer is right or wrong: labels, JSON."""
    return plan.task == "sft" and plan.engine == "torch" and plan.dataset.answers != "free"


def trials_of(plan: TrainingPlan) -> list[Trial]:
    """Return the settings to try around a plan's, the default first.

    The rank is varied only where there is an adapter, the epochs only where max_steps is open.
    """
    rate, rank = float(plan.training["learning_rate"]), (plan.peft or {}).get("r")
    steps = plan.training.get("max_steps")
    found = []
    for name, rates, epochs, ranks in GRID:
        if (ranks > 1 and rank is None) or (epochs > 1 and steps):
            continue
        training: dict[str, Any] = {"learning_rate": float(f"{rate * rates:.3g}")}
        if steps:
            training["max_steps"] = steps
        else:
            training["num_train_epochs"] = epochs * float(plan.training["num_train_epochs"])
        peft: dict[str, Any] = {}
        if plan.peft is not None and rank is not None and ranks > 1:
            # With alpha kept, the best rate hardly depends on the rank.
            peft = {name: plan.peft.get(name) for name in ("lora_alpha", "use_rslora")}
            peft["r"] = rank * ranks
        found.append(Trial(name=name, training=training, peft=peft, cost=float(epochs)))
    return found


def request_of(
    request: TrainingRequest, plan: SearchPlan, trial: Trial, fraction: float, search_run: str
) -> TrainingRequest:
    """Return the launch of a trial; the same one always has the same request id, so the same run.

    The files are named, so that the same rows are held out whatever arguments are given.
    """
    training = {**request.training, **trial.training}
    if "max_steps" in trial.training:
        training["max_steps"] = max(1, round(trial.training["max_steps"] * fraction))
    else:
        training["num_train_epochs"] *= fraction
    length = "whole" if fraction == 1 else f"{fraction:.0%}"
    changes = {
        "search": None,
        "confirm": None,
        "dataset": plan.dataset,
        "validation": plan.validation,
        "training": training,
        "peft": {**request.peft, **trial.peft},
        "samples": request.samples if fraction == 1 else 0,
        "name": f"{request.name or search_run}: {trial.name}, {length}"[:100],
        "request_id": f"{search_run} {trial.name} {length}",
    }
    return request.model_copy(update=changes)


def rank(results: Sequence[TrialResult], metric: Metric) -> list[TrialResult]:
    """Return the trials that have a value, best first; equal exact matches go by the loss."""

    def key(one: TrialResult) -> tuple[float, float]:
        loss = one.validation_loss if one.validation_loss is not None else float("inf")
        right = one.exact_match if metric == "exact_match" else 0.0
        return (-(right or 0.0), loss)

    return sorted((one for one in results if one.validation_loss is not None), key=key)


def finalists(results: Sequence[TrialResult], metric: Metric) -> list[str]:
    """Return the trials to train whole: the best, and the default, which the gain is over."""
    ranked = [one.name for one in rank(results, metric)]
    others = [name for name in ranked if name != DEFAULT]
    return [*ranked[:1], *(others[:1] if ranked[:1] == [DEFAULT] else [DEFAULT])]
