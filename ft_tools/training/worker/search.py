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
from ft_tools.runs.tool import cancel_run, get_run, resume_run
from ft_tools.runs.worker_session import Session, Stopped, main
from ft_tools.training.request import DpoRequest, SftRequest, TrainingRequest
from ft_tools.training.search import (
    CAUTION,
    DEFAULT,
    START_SECONDS,
    SearchPlan,
    SearchReport,
    Trial,
    TrialResult,
    has_overfitted,
    neighbours,
    next_trials,
    rank,
    request_of,
    trials_of,
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
        self.plan = session.plan(SearchPlan)
        self.request: SftRequest | DpoRequest = (
            session.request(SftRequest) if self.plan.task == "sft" else session.request(DpoRequest)
        )
        file = session.run_dir / STATE
        self.state = State.model_validate_json(file.read_bytes()) if file.exists() else State()
        self.trials = trials_of(self.plan.default["training"], self.plan.default["peft"])
        self.refused: set[str] = set()

    @property
    def left_seconds(self) -> float:
        """Return what is left of the budget; 0 or less: it is used up."""
        return self.plan.budget_seconds - self.state.spent_seconds

    def run(self) -> None:
        """Make the default and what is next to the best so far, while the budget lasts."""
        while (trial := self._next()) is not None:
            self._try(trial)

    def around(self, name: str) -> list[str]:
        """Return the names of the trials next to one that were not made."""
        tried = {one.name for one in self.state.done}
        return [one.name for one in neighbours(name, self.trials) if one.name not in tried]

    def _next(self) -> Trial | None:
        plan = self.plan
        for trial in next_trials(self.trials, self.state.done, plan.metric, plan.num_validation):
            # The default is made as far as the budget reaches: without it there is no result.
            if trial.name == DEFAULT or (
                trial.name not in self.refused and self._reaches(trial.cost)
            ):
                return trial
        return None

    def _reaches(self, cost: float) -> bool:
        """Tell whether the budget is likely to reach for a run of this cost."""
        start = median(self.state.starts) if self.state.starts else START_SECONDS
        # What failed or was stopped took less time than its length takes, and so may what stopped
        # early: the slowest one counts.
        known = [
            max(0.0, one.seconds - start) / self.trials[one.name].cost
            for one in self.state.done
            if one.state == "succeeded"
        ]
        duration = self.plan.estimate.duration
        estimated = duration.high_seconds if duration else 0.0
        return start + cost * max(known, default=estimated) <= self.left_seconds

    def _try(self, trial: Trial) -> None:
        """Make a trial, or take it as it was made before this worker was started again."""
        search_run = self.session.run_dir.name
        asked = request_of(self.request, self.plan, trial, search_run)
        try:
            run_id = self._start(asked, search_run)
        except (BadInput, Refused) as error:
            # Such as a rank that does not fit, or a rate at which preference runs collapse.
            if trial.name == DEFAULT:
                raise
            self.session.event(f"{trial.name} is refused ({error.code})", "warning")
            self.refused.add(trial.name)
            return
        self.session.event(f"{trial.name}: {run_id}")
        self._follow(run_id)
        result = self._result(trial, run_id)
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

    def _result(self, trial: Trial, run_id: str) -> TrialResult:
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
            run_id=run_id,
            state=run.state,
            learning_rate=training["learning_rate"],
            num_train_epochs=training.get("num_train_epochs"),
            rank=peft.get("r"),
            exact_match=round(_mean(rows.rights), 4) if rows else None,
            validation_loss=_loss(run, rows),
            overfitted=has_overfitted(
                directory.read_metrics(run_dir), self.plan.task, training.get("loss_type")
            ),
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
    compared = rank(search.state.done, search.plan.metric, search.plan.num_validation)
    if not compared:
        # Final: finished trials are not repeated, so another attempt would end in the same way.
        raise Refused(
            "no trial finished within the budget with a validation loss; list_runs names the "
            "trials and get_run says why each ended; raise the budget, or launch without search"
        )
    return report_of(search, compared)


def report_of(search: Search, compared: Sequence[TrialResult]) -> SearchReport:
    """Compare the winner with the default, row by row where rows are known."""
    plan, winner = search.plan, compared[0]
    default = next((one for one in compared if one.name == DEFAULT), None)
    found = _gain(plan, winner, default)
    price = plan.price_per_hour
    spent = search.state.spent_seconds
    return SearchReport(
        winner=winner.run_id,
        winner_settings=winner.name,
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
        not_tried=search.around(winner.name),
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
    return len(rows.losses) if rows else plan.num_validation


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
