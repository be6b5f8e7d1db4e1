"""Try settings one after the other within a budget, each in a run of its own."""

import math
import time
from collections.abc import Callable, Sequence
from statistics import median

from pydantic import BaseModel, Field

from ft_tools.contract import NextStep
from ft_tools.errors import BadInput, FineTuningError, Refused, RunBusy
from ft_tools.evaluation.intervals.comparing import compare
from ft_tools.evaluation.intervals.comparison_verdict import Paired
from ft_tools.publish import write_file
from ft_tools.runs import directory
from ft_tools.runs.records import ENDED, Status
from ft_tools.runs.report import RunReport
from ft_tools.runs.request import CancelRequest, ResumeRequest, RunRequest
from ft_tools.runs.run_state import settled
from ft_tools.runs.session import Session, Stopped, main
from ft_tools.runs.tool import cancel_run, get_run, resume_run
from ft_tools.training.request import DpoRequest, SftRequest, TrainingRequest
from ft_tools.training.search import (
    CAUTION,
    DEFAULT,
    START_SECONDS,
    SearchPlan,
    SearchReport,
    Trial,
    TrialResult,
    finalists,
    rank,
    request_of,
)
from ft_tools.training.tool import launch_trial
from ft_tools.training.trial_rows import RowScores, read_rows

STATE = "search.json"
POLL_SECONDS = 1.0
STOP_SECONDS = 60.0
"""What a trial gets to save and stop."""
StartTrial = Callable[[TrainingRequest, str], str]
"""A trial's request and the id of its search -> the id of the run that was started."""


class State(BaseModel):
    """search.json: what is done; it survives the death of the worker."""

    done: list[TrialResult] = Field(default_factory=list)
    seconds: float = Field(0.0, description="Of the trial after these, so far.")
    fraction: float | None = Field(None, description="First length of all but the default.")
    starts: list[float] = Field(default_factory=list, description="Seconds besides training.")

    @property
    def spent_seconds(self) -> float:
        """Return the seconds of all trials."""
        return self.seconds + sum(one.seconds for one in self.done)


class Search:
    """A search, as its worker goes through it."""

    def __init__(self, session: Session, start: StartTrial) -> None:
        self.session = session
        self._start = start
        self.plan = SearchPlan.model_validate_json(session.plan_json())
        kind = SftRequest if self.plan.task == "sft" else DpoRequest
        self.request: SftRequest | DpoRequest = kind.model_validate_json(session.request_json())
        file = session.run_dir / STATE
        self.state = State.model_validate_json(file.read_bytes()) if file.exists() else State()
        self.trials = {trial.name: trial for trial in self.plan.trials}

    @property
    def left_seconds(self) -> float:
        """Return what is left of the budget; 0 or less: it is used up."""
        return self.plan.budget_seconds - self.state.spent_seconds

    def run(self) -> None:
        """Make the short trials, then whole runs of the best and of the default."""
        default, *others = self.plan.trials
        self._try(default, self._first_fraction())
        fraction = self._fraction_of_others(others)
        is_default_whole = any(one.name == DEFAULT for one in self._at(1.0))
        reserved = [] if fraction == 1 else [1.0] if is_default_whole else [1.0, 1.0]
        for trial in others:
            if self._reaches([trial.cost * fraction, *reserved]):
                self._try(trial, fraction)
        if fraction == 1:
            return
        for number, name in enumerate(finalists(self._at(fraction), self.plan.metric)):
            trial = self.trials[name]
            # The first is made as far as the budget reaches: without it there is no result.
            if number == 0 or self._reaches([trial.cost]):
                self._try(trial, 1.0)

    def results(self) -> tuple[list[TrialResult], bool]:
        """Return what was compared, and whether in whole runs."""
        whole = rank(self._at(1.0), self.plan.metric)
        if whole:
            return whole, True
        return rank(self.state.done, self.plan.metric), False

    def _at(self, fraction: float) -> list[TrialResult]:
        return [one for one in self.state.done if one.fraction == fraction]

    def _first_fraction(self) -> float:
        """Return the default's first length: whole if all trials are likely to be."""
        if self.state.done:
            return self.state.done[0].fraction
        all_whole = [trial.cost for trial in self.plan.trials]
        is_known = self.plan.estimate.duration is not None
        return 1.0 if is_known and self._reaches(all_whole) else self.plan.short_fraction

    def _fraction_of_others(self, others: Sequence[Trial]) -> float:
        """Return the others' first length, by how long the default took; decided once."""
        if self.state.fraction is None:
            is_whole = self._first_fraction() == 1 and self._reaches([t.cost for t in others])
            self.state.fraction = 1.0 if is_whole else self.plan.short_fraction
            self._keep()
        return self.state.fraction

    def _reaches(self, costs: Sequence[float]) -> bool:
        """Tell whether the budget is likely to reach for runs of these costs."""
        start = median(self.state.starts) if self.state.starts else START_SECONDS
        # What failed or was stopped took less time than its length takes.
        known = [
            (max(0.0, one.seconds - start), self.trials[one.name].cost * one.fraction)
            for one in self.state.done
            if one.state == "succeeded"
        ]
        seconds, cost_done = (sum(part) for part in zip(*known, strict=True)) if known else (0, 0)
        duration = self.plan.estimate.duration
        estimated = duration.high_seconds if duration else 0.0
        whole = seconds / cost_done if cost_done else estimated
        needed = sum(costs) * whole + len(costs) * start
        return self.left_seconds > 0 and needed <= self.left_seconds

    def _try(self, trial: Trial, fraction: float) -> None:
        """Make a trial, or take it as it was made before this worker was started again."""
        if self.left_seconds <= 0 or any(r.name == trial.name for r in self._at(fraction)):
            return
        search_run = self.session.run_dir.name
        asked = request_of(self.request, self.plan, trial, fraction, search_run)
        try:
            run_id = self._start(asked, search_run)
        except (BadInput, Refused) as error:
            # Such as a rank that does not fit, or a rate at which preference runs collapse.
            if trial.name == DEFAULT:
                raise
            self.session.event(f"{trial.name} is refused ({error.code})", "warning")
            return
        length = "whole" if fraction == 1 else f"{fraction:.0%} of a run"
        self.session.event(f"{trial.name}, {length}: {run_id}")
        self._follow(run_id)
        result = self._result(trial, fraction, run_id)
        self.state.done.append(result)
        self.state.seconds = 0.0
        self._keep()
        self.session.metrics(_metrics(result, len(self.state.done)))

    def _follow(self, run_id: str) -> None:
        """Wait for a run's end, within the budget, and count its seconds.

        Raises:
            Stopped: The search was asked to stop; so is the trial.
        """
        run_dir = directory.find(run_id)
        while settled(run_dir)[1] == "cancelling":
            if self.session.should_stop:
                raise Stopped
            self._wait()
        if get_run(RunRequest(run_id=run_id)).resumable:
            self._resume(run_id)
        is_stopped, last = False, time.monotonic()
        while (found := settled(run_dir))[1] not in ENDED:
            if self.session.should_stop:
                self._stop(run_id)
                raise Stopped
            if self.left_seconds <= 0 and not is_stopped:
                self.session.event("the budget is used up; the trial is stopped", "warning")
                self._stop(run_id)
                is_stopped = True
            self._wait()
            now = time.monotonic()
            # Waiting for the device is not training.
            self._count(0.0 if found[1] == "queued" else now - last, found[0])
            last = now
        self._count(0.0, found[0])

    def _wait(self) -> None:
        self.session.heartbeat()
        time.sleep(POLL_SECONDS)

    def _count(self, watched: float, status: Status) -> None:
        """Add seconds of the trial that were watched; at least its present attempt took.

        An attempt that went on while this worker was dead was watched in part, or not at all.
        """
        attempt = 0.0
        if status.started_at is not None:
            attempt = (status.ended_at or status.updated_at) - status.started_at
        self.state.seconds = max(self.state.seconds + watched, attempt)
        self._keep()
        self._progress()

    def _resume(self, run_id: str) -> None:
        try:
            resume_run(ResumeRequest(run_id=run_id))
        except RunBusy:
            return
        except FineTuningError as error:
            self.session.event(f"{run_id} could not be resumed ({error.code})", "warning")

    def _stop(self, run_id: str) -> None:
        cancel_run(CancelRequest(run_id=run_id))
        until = time.monotonic() + STOP_SECONDS
        while settled(directory.find(run_id))[1] not in ENDED and time.monotonic() < until:
            self._wait()

    def _progress(self) -> None:
        spent, budget = int(self.state.spent_seconds), int(self.plan.budget_seconds)
        self.session.progress(min(spent, budget), max(1, budget))

    def _keep(self) -> None:
        write_file(self.session.run_dir / STATE, self.state.model_dump_json())

    def _result(self, trial: Trial, fraction: float, run_id: str) -> TrialResult:
        run = get_run(RunRequest(run_id=run_id))
        run_dir = directory.find(run_id)
        rows = read_rows(run_dir)
        plan = directory.read_json(run_dir / "plan.json") or {}
        training, peft = plan["training"], plan["peft"] or {}
        done = run.result or {}
        if run.state == "succeeded" and done.get("attempts") == 1:
            self.state.starts.append(max(0.0, self.state.seconds - done["seconds"]))
        return TrialResult(
            name=trial.name,
            fraction=fraction,
            run_id=run_id,
            state=run.state,
            learning_rate=training["learning_rate"],
            num_train_epochs=training.get("num_train_epochs"),
            rank=peft.get("r"),
            exact_match=round(_mean(rows.rights), 4) if rows else None,
            validation_loss=_loss(run, rows),
            seconds=round(self.state.seconds, 1),
        )


def work(session: Session, start: StartTrial = launch_trial) -> SearchReport:
    """Search, and say what it found.

    Raises:
        Refused: No trial has a value.
    """
    search = Search(session, start)
    session.phase("trying settings")
    search.run()
    session.progress(1, 1)
    compared, is_whole = search.results()
    if not compared:
        # Final: finished trials are not repeated, so another attempt would end in the same way.
        raise Refused(
            "no trial finished within the budget with a validation loss; list_runs names the "
            "trials and get_run says why each ended; raise the budget, or launch without search"
        )
    return report_of(search, compared, is_whole)


def report_of(search: Search, compared: Sequence[TrialResult], is_whole: bool) -> SearchReport:
    """Compare the winner with the default, row by row where rows are known."""
    plan, winner = search.plan, compared[0]
    same = [r for r in compared if r.name == DEFAULT and r.fraction == winner.fraction]
    default = same[0] if same else None
    found = _gain(plan, winner, default)
    price = plan.price_per_hour
    spent = search.state.spent_seconds
    tried = {one.name for one in search.state.done}
    return SearchReport(
        winner=winner.run_id,
        winner_settings=winner.name,
        is_whole=is_whole,
        default_run=default.run_id if default else None,
        metric=plan.metric,
        winner_value=_value(plan, winner),
        default_value=_value(plan, default) if default else None,
        gain=_plain_gain(plan, winner, default),
        gain_low=round(found.low, 4) if found else None,
        gain_high=round(found.high, 4) if found else None,
        num_validation=_num_rows(winner, plan),
        caution=CAUTION,
        seconds=round(spent, 1),
        cost=None if price is None else round(price * spent / 3600, 4),
        trials=list(search.state.done),
        not_tried=[name for name in search.trials if name not in tried],
        next_steps=[
            NextStep(
                tool="evaluate",
                arguments={"model": winner.run_id},
                why="measures the winner on rows that no trial has seen; add `dataset`",
            )
        ],
    )


def _value(plan: SearchPlan, one: TrialResult) -> float:
    value = one.exact_match if plan.metric == "exact_match" else one.validation_loss
    return float(value if value is not None else "nan")


def _plain_gain(plan: SearchPlan, winner: TrialResult, default: TrialResult | None) -> float | None:
    if default is None:
        return None
    gain = _value(plan, winner) - _value(plan, default)
    return round(gain if plan.metric == "exact_match" else -gain, 4)


def _gain(plan: SearchPlan, winner: TrialResult, default: TrialResult | None) -> Paired | None:
    """Compare the two runs row by row; None where one of them has no rows, or they are one."""
    if default is None or default.run_id == winner.run_id:
        return None
    after, before = (read_rows(directory.find(one.run_id)) for one in (winner, default))
    if after is None or before is None or len(after.losses) != len(before.losses):
        return None
    if plan.metric == "exact_match":
        return compare(before.rights, after.rights)
    # A lower loss is better.
    scale = max(1e-9, *(abs(a - b) for a, b in zip(after.losses, before.losses, strict=True)))
    return compare(after.losses, before.losses, scale=scale)


def _num_rows(winner: TrialResult, plan: SearchPlan) -> int:
    rows = read_rows(directory.find(winner.run_id))
    return len(rows.losses) if rows else int(plan.default["validation"]["num_examples"])


def _loss(run: RunReport, rows: RowScores | None) -> float | None:
    """Return the mean loss of the held-out rows; else what the trainer's evaluation said.

    None where it did not succeed, or is no number: such a trial must not be ranked.
    """
    if run.state != "succeeded":
        return None
    value = _mean(rows.losses) if rows else (run.result or {}).get("validation_loss")
    return None if value is None or not math.isfinite(value) else round(float(value), 6)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _metrics(result: TrialResult, number: int) -> dict[str, float]:
    values = {"exact_match": result.exact_match, "validation_loss": result.validation_loss}
    found = {name: value for name, value in values.items() if value is not None}
    return {"step": float(number), "learning_rate": result.learning_rate} | found


if __name__ == "__main__":
    main(work)
