"""Search of settings: the default first, then one change at a time from the best so far.

Each trial is an ordinary whole run, so it is what launching its settings alone gives. There are no
short trials: a complete short run prefers higher rates than a long one, a run cut in the middle of
its schedule lower ones (arXiv 2405.18392), and before the first right answer their order is noise.
On the five tasks with which benchmarks/search.py was first run, short trials took half of the cost
and chose a rate three times the default's where a whole run of it was worse.

Source: a direct search from a good start, as FLAML's CFO, arXiv 2005.01571.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from ft_tools.contract import NextStep, Report
from ft_tools.errors import BadInput
from ft_tools.formats.trl_formats import Task
from ft_tools.training.estimates import Estimate
from ft_tools.training.health import health_signals
from ft_tools.training.holding_out import least_rows
from ft_tools.training.plan import TrainingPlan
from ft_tools.training.request import SearchBudget, TrainingRequest

Metric = Literal["exact_match", "validation_loss"]
DEFAULT = "default"
RATE, EPOCHS, RANK = 3**0.5, 2, 4
"""Factors of one step. Three times the default's rate won once in ten searches, its root more often
(benchmarks/search.json), though families of one size differ by 3 in their best rate. Source:
tinker-cookbook, recipes/chat_sl/results/sft_sweep.md: rate 4-10%, rank 0.7-5% of the loss."""
REACH = {"rate": range(-4, 5), "epochs": range(2), "rank": range(2)}
"""Steps from the default, as far as earlier versions went: their searches are continued. Fewer
epochs are not tried: a run keeps its best checkpoint anyway."""


class Setting(NamedTuple):
    """How many steps an argument is away from the default's."""

    rate: int = 0
    epochs: int = 0
    rank: int = 0

    @property
    def name(self) -> str:
        """Return what a trial of it is called."""
        times = "x" if self.rate > 0 else "/"
        parts = (
            f"rate {times}{RATE ** abs(self.rate):.2g}" if self.rate else "",
            f"epochs x{EPOCHS**self.epochs}" if self.epochs else "",
            f"rank x{RANK**self.rank}" if self.rank else "",
        )
        return ", ".join(filter(None, parts)) or DEFAULT


SETTINGS = {one.name: one for one in (Setting(*steps) for steps in product(*REACH.values()))}
LONGER, *OTHERS = (
    Setting(epochs=1),
    Setting(rate=1),
    Setting(rate=-1),
    Setting(rank=1),
)
"""One change each, in the order in which they are tried. A rate that is too high ends early, as its
validation loss rises, so it is tried before the lower one. The rank matters least."""

ROUNDED = 1e-3
"""More than exact_match is rounded by."""
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

    task: Task
    budget_seconds: float = Field(description="Trials are stopped when it is used up.")
    budget_cost: float | None = Field(None, description="At price_per_hour, in its currency.")
    price_per_hour: float | None = None
    metric: Metric = Field(
        description="What chooses, on validation. Between equals the longer run, then the loss."
    )
    trials: list[Trial] = Field(
        description="The default and what is one change away from it; later ones are one change "
        "away from the best so far, until none is better or the budget is used up."
    )
    dataset: str
    validation: str
    default: dict[str, Any] = Field(description="Plan that a launch without search has.")
    estimate: Estimate = Field(description="Of one whole run of the default.")

    @property
    def num_validation(self) -> int:
        """Return the number of held-out rows."""
        return int(self.default["validation"]["num_examples"])


class TrialResult(Report):
    """The outcome of a trial."""

    name: str
    run_id: str
    state: str
    learning_rate: float
    num_train_epochs: float | None = None
    rank: int | None = None
    exact_match: float | None = Field(None, description="Share of greedy answers that are right.")
    validation_loss: float | None = None
    overfitted: bool = Field(False, description="Held-out answers got worse in the end.")
    seconds: float


class SearchReport(Report):
    """What a search found."""

    winner: str = Field(description="Id of the winner's run, an ordinary run.")
    winner_settings: str
    default_run: str | None = Field(None, description="The default; null if it failed.")
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
        default_factory=list,
        description="One change from the winner: the budget did not suffice, or it was refused.",
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
            f"dataset of at least {least_rows(plan.task)} rows without num_train_epochs, "
            "max_steps and eval_strategy"
        )
    trials = trials_of(plan.training, plan.peft)
    budget = _seconds(request.search, request.price_per_hour)
    price = request.price_per_hour
    _require_enough(budget, plan.estimate)
    return SearchPlan(
        task=plan.task,
        budget_seconds=budget,
        budget_cost=None if price is None else round(price * budget / 3600, 2),
        price_per_hour=price,
        metric="exact_match" if _has_right_answers(plan) else "validation_loss",
        trials=[trials[DEFAULT], *neighbours(DEFAULT, trials)],
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


def trials_of(training: Mapping[str, Any], peft: Mapping[str, Any] | None) -> dict[str, Trial]:
    """Return every trial that a search around these arguments may come to, by name.

    The rank is varied only where there is an adapter, the epochs only where max_steps is open.
    """
    rank, steps = (peft or {}).get("r"), training.get("max_steps")
    found = {}
    for setting in SETTINGS.values():
        if (setting.rank and rank is None) or (setting.epochs and steps):
            continue
        rate, longer = RATE**setting.rate, EPOCHS**setting.epochs
        changed: dict[str, Any] = {
            "learning_rate": float(f"{float(training['learning_rate']) * rate:.3g}")
        }
        if steps:
            changed["max_steps"] = steps
        else:
            changed["num_train_epochs"] = longer * float(training["num_train_epochs"])
        adapter: dict[str, Any] = {}
        if peft is not None and rank is not None and setting.rank:
            # With alpha kept, the best rate hardly depends on the rank.
            adapter = {name: peft.get(name) for name in ("lora_alpha", "use_rslora")}
            adapter["r"] = rank * RANK**setting.rank
        found[setting.name] = Trial(
            name=setting.name, training=changed, peft=adapter, cost=float(longer)
        )
    return found


def neighbours(name: str, trials: Mapping[str, Trial], *, longer_first: bool = True) -> list[Trial]:
    """Return the trials that are one change away from one, in the order in which to try them."""
    moves = [LONGER, *OTHERS] if longer_first else [*OTHERS, LONGER]
    moved = (Setting(*map(sum, zip(SETTINGS[name], move, strict=True))) for move in moves)
    return [trials[one.name] for one in moved if one in SETTINGS.values() and one.name in trials]


def next_trials(
    trials: Mapping[str, Trial], results: Sequence[TrialResult], metric: Metric, num_rows: int
) -> list[Trial]:
    """Return what to try next, the most promising first; empty if nothing near is better.

    It follows from the results alone, so a search that is continued goes the same way. The best so
    far is made longer first if it was still learning when it ended, else last.
    """
    tried = {one.name for one in results}
    if DEFAULT not in tried:
        return [trials[DEFAULT]]
    ranked = rank(results, metric, num_rows)
    best, is_over = (ranked[0].name, ranked[0].overfitted) if ranked else (DEFAULT, True)
    near = neighbours(best, trials, longer_first=not is_over)
    return [one for one in near if one.name not in tried]


def has_overfitted(
    metrics: list[dict[str, float]], task: str, losses: str | list[str] | None = None
) -> bool:
    """Tell whether held-out answers got worse while a run trained with its `loss_type`."""
    return any(one.signal == "overfitting" for one in health_signals(metrics, task, losses))


def request_of(
    request: TrainingRequest, plan: SearchPlan, trial: Trial, search_run: str
) -> TrainingRequest:
    """Return the launch of a trial; the same one always has the same request id, so the same run.

    The files are named, so that the same rows are held out whatever arguments are given.
    """
    changes = {
        "search": None,
        "confirm": None,
        "dataset": plan.dataset,
        "validation": plan.validation,
        "training": {**request.training, **trial.training},
        "peft": {**request.peft, **trial.peft},
        "name": f"{request.name or search_run}: {trial.name}"[:100],
        "request_id": f"{search_run} {trial.name}",
    }
    return request.model_copy(update=changes)


def rank(results: Sequence[TrialResult], metric: Metric, num_rows: int) -> list[TrialResult]:
    """Return the trials that have a value, best first.

    Of those whose exact matches the held-out rows hardly tell apart (one standard error of the
    best, at least one row), the one that trained longer is first, unless it overfitted: a run keeps
    its best checkpoint, so more training seldom does harm. Equal ones go by the loss. Measured:
    benchmarks/search.json.

    Args:
        results: What was tried.
        metric: What chooses.
        num_rows: Held-out rows.
    """
    found = [one for one in results if one.validation_loss is not None]
    if metric == "validation_loss" or not any(one.exact_match for one in found):
        return sorted(found, key=lambda one: one.validation_loss or 0.0)
    top = max((one.exact_match or 0.0 for one in found), default=0.0)
    near = top - max(1 / num_rows, math.sqrt(top * (1 - top) / num_rows)) - ROUNDED

    def key(one: TrialResult) -> tuple[float, ...]:
        right, loss = one.exact_match or 0.0, one.validation_loss or 0.0
        if right < near:
            return (1, 0, -right, loss)
        return (0, 0 if one.overfitted else -(one.num_train_epochs or 0), -right, loss)

    return sorted(found, key=key)
