"""What a search tries, refuses and chooses; its runs are in tests/tiny/test_search.py."""

import json

import pytest

from ft_tools import workspace as workspace_module
from ft_tools.errors import BadInput, Refused
from ft_tools.publish import private_folder
from ft_tools.runs import directory
from ft_tools.runs.records import RunError, RunInfo, Status
from ft_tools.runs.request import RunRequest
from ft_tools.runs.session import Session
from ft_tools.runs.tool import get_run
from ft_tools.training.estimates import Duration
from ft_tools.training.plan import plan_sft
from ft_tools.training.request import SearchBudget
from ft_tools.training.search import (
    GRID,
    TrialResult,
    finalists,
    plan_search,
    rank,
    request_of,
)
from ft_tools.training.tool import launch_sft
from ft_tools.training.worker import search
from tests.unit.test_training_launch import files, sft, write

__all__ = ["files"]


def planned(request):
    return plan_search(request, plan_sft(request))


def searching(**changed):
    given = {"validation": "held_out.jsonl", "search": {"minutes": 60}}
    return sft(**given | changed)


def result(name, right, loss, fraction=1.0):
    return TrialResult(
        name=name,
        fraction=fraction,
        run_id=name,
        state="succeeded",
        learning_rate=1e-3,
        exact_match=right,
        validation_loss=loss,
        seconds=1,
    )


def test_a_search_is_planned_first_and_the_default_is_its_first_trial(files):
    launched = launch_sft(searching(price_per_hour=3))
    assert not launched.started
    plan = launched.plan
    assert (plan["budget_seconds"], plan["budget_cost"]) == (3600, 3)
    assert plan["trials"][0]["name"] == "default"
    rates = {
        t["training"]["learning_rate"] / plan["default"]["training"]["learning_rate"]
        for t in plan["trials"]
    }
    assert {1.0, 3.0} <= {round(rate, 2) for rate in rates}
    confirming = launched.next_steps[0]
    assert confirming.tool == "launch_sft"
    assert confirming.arguments["search"] == {"minutes": 60.0}
    assert launch_sft(searching(price_per_hour=3)).plan_hash == launched.plan_hash


def test_dollars_become_time_at_the_price(files):
    assert planned(searching(search={"dollars": 5}, price_per_hour=2.5)).budget_seconds == 7200
    with pytest.raises(BadInput, match=r"dollars=5\.0 needs price_per_hour"):
        planned(searching(search={"dollars": 5}))


@pytest.mark.parametrize("budget", [{}, {"minutes": 1, "dollars": 1}])
def test_a_budget_is_either_time_or_money(budget):
    with pytest.raises(ValueError, match="pass either"):
        SearchBudget.model_validate(budget)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"validation": None}, "chooses on held-out examples"),
        ({"backend_options": {"gpu": "RTX 4090"}}, "on this machine"),
        ({"export_dir": "out"}, "on this machine"),
        ({"search": {"minutes": 1e-7}}, "minutes are too few"),
    ],
)
def test_a_search_that_cannot_be_made_is_refused(files, changed, says):
    with pytest.raises(BadInput, match=says):
        planned(searching(**changed))


def test_a_trial_is_always_the_same_launch_on_the_same_rows(files):
    write(files / "many.jsonl", 0, 150)
    request = sft(dataset="many.jsonl", search={"minutes": 60}, peft={"r": 8})
    plan = planned(request)
    trial = next(one for one in plan.trials if one.name == "rank x4")
    short = request_of(request, plan, trial, 0.5, "search-1")
    assert short == request_of(request, plan, trial, 0.5, "search-1")
    whole = request_of(request, plan, trial, 1.0, "search-1")
    assert short.request_id != whole.request_id
    assert short.training["num_train_epochs"] == whole.training["num_train_epochs"] / 2
    assert (whole.peft["r"], whole.search, whole.confirm) == (32, None, None)
    default = plan_sft(sft(dataset="many.jsonl", peft={"r": 8}))
    of_trial = plan_sft(request_of(request, plan, plan.trials[0], 1.0, "search-1"))
    assert of_trial.validation == default.validation
    assert of_trial.training == default.training


def test_a_request_that_leaves_its_steps_to_the_epochs_is_tried_by_epochs(files):
    request = searching(training={"max_steps": -1})
    plan = planned(request)
    default = plan_sft(request_of(request, plan, plan.trials[0], 1.0, "search-1"))
    assert default.training == plan_sft(request).training
    short = request_of(request, plan, plan.trials[0], 0.5, "search-1")
    assert plan_sft(short).estimate.steps == pytest.approx(plan.estimate.steps / 2, abs=1)


def test_a_short_trial_has_a_part_of_the_steps_that_are_asked_for(files):
    request = searching(training={"max_steps": 10})
    plan = planned(request)
    assert {trial.training["max_steps"] for trial in plan.trials} == {10}
    short = request_of(request, plan, plan.trials[0], 0.3, "search-1")
    assert short.training["max_steps"] == 3


def test_equal_exact_matches_go_by_the_loss_and_a_trial_without_one_is_last():
    trials = [result("a", 0.9, 0.5), result("b", 0.9, 0.4), result("c", 0.8, 0.1)]
    failed = result("d", None, None)
    assert [one.name for one in rank([failed, *trials], "exact_match")] == ["b", "a", "c"]
    assert [one.name for one in rank([failed, *trials], "validation_loss")] == ["c", "b", "a"]


def test_the_default_always_goes_to_the_end():
    trials = [result("default", 0.9, 0.5), result("b", 0.8, 0.4), result("c", 0.7, 0.1)]
    assert finalists(trials, "exact_match") == ["default", "b"]
    assert finalists(trials, "validation_loss") == ["c", "default"]


def laid(run_id, kind, **records):
    run_dir = workspace_module.runs_dir() / run_id
    private_folder(run_dir)
    info = RunInfo(run_id=run_id, kind=kind, created_at=1.0)
    (run_dir / "run.json").write_text(info.model_dump_json())
    for file, record in records.items():
        (run_dir / f"{file}.json").write_text(record)
    return run_dir


class Laying:
    """Lays what a run leaves that takes 20 s whole, and is better the higher its rate."""

    def __init__(self, epochs, refused=(), failed=(), start=0):
        self.epochs, self.refused, self.failed, self.started = epochs, refused, failed, []
        self.start = start

    def __call__(self, asked, search_run):
        name = asked.name.removeprefix(f"{search_run}: ")
        if name in self.refused:
            raise Refused("no")
        self.started.append(name)
        plan = json.dumps({"training": asked.training, "peft": asked.peft})
        trained = (20 - self.start) * asked.training["num_train_epochs"] / self.epochs
        loss = 1 - asked.training["learning_rate"]
        report = json.dumps({"validation_loss": loss, "attempts": 1, "seconds": trained})
        made = laid(f"sft-{len(self.started):016x}", "sft", plan=plan, report=report)
        status = Status(state="succeeded", started_at=0.0, ended_at=self.start + trained)
        if name in self.failed:
            error = RunError(code="diverged", message="no")
            status = Status(state="failed", error=error, started_at=0.0, ended_at=0.1)
        directory.write_status(made, status)
        return made.name


def searched(minutes, fraction, seconds, before=None, **ends):
    """Search with a plan that takes a whole run for `seconds` long; what it found and started."""
    request = searching(search={"minutes": minutes})
    plan = planned(request)
    duration = seconds and Duration(low_seconds=seconds, high_seconds=seconds, source="a test")
    estimate = plan.estimate.model_copy(update={"duration": duration})
    plan = plan.model_copy(update={"estimate": estimate, "short_fraction": fraction})
    records = {"request": request.model_dump_json(), "plan": plan.model_dump_json()}
    run_dir = laid("search-00000000000000ff", "search", **records, **before or {})
    start = Laying(plan.trials[0].training["num_train_epochs"], **ends)
    return search.work(Session(run_dir), start), start.started


def test_a_search_goes_on_where_a_trial_is_refused_and_pays_for_no_more_than_its_budget(files):
    report, started = searched(1, 1.0, None, refused=["rate /3, whole"])
    assert started == ["default, whole", "rate x3, whole", "rate x10, whole"]
    assert report.winner_settings == "rate x10"
    assert report.winner == "sft-0000000000000003"
    assert report.gain == pytest.approx(report.default_value - report.winner_value, abs=1e-4)
    assert report.gain > 0
    assert report.gain_low is None
    assert report.seconds == 60
    assert {"rate /3", "epochs x2", "rank x4"} <= set(report.not_tried)


def test_trials_are_short_where_the_default_took_longer_than_was_estimated(files):
    report, started = searched(2.5, 0.25, 1.0)
    assert started[0] == "default, whole"
    assert started[1:-1] == [f"{name}, 25%" for name, *_ in GRID[1:]]
    assert started[-1] == "rate x10, whole"
    assert report.is_whole
    assert (report.winner_settings, report.default_run) == ("rate x10", "sft-0000000000000001")
    assert report.seconds <= 150


def test_the_start_of_each_trial_is_paid_for_too(files):
    report, started = searched(1.5, 0.25, 20.0, start=15)
    short = ["default, 25%", "rate x3, 25%", "rate /3, 25%"]
    assert started == [*short, "rate x3, whole", "default, whole"]
    assert report.seconds <= 90


def test_the_default_is_short_too_where_only_short_trials_fit(files):
    report, started = searched(1.5, 0.25, 20.0)
    assert started[0] == "default, 25%"
    assert started[-2:] == ["rate x10, whole", "default, whole"]
    assert report.is_whole
    assert report.seconds <= 90


def test_a_trial_that_fails_at_once_does_not_make_the_others_look_short(files):
    others = ["rate x3, 25%", "rate /3, 25%"]
    report, started = searched(55 / 60, 0.25, 20.0, failed=others)
    assert started[1:3] == others
    assert started[3:] == ["rate x10, 25%", "rate x10, whole", "default, whole"]
    assert report.seconds <= 55


def test_seconds_that_were_watched_before_the_worker_died_are_not_counted_again(files):
    report, _ = searched(1, 1.0, None, before={"search": '{"seconds": 12}'})
    assert report.trials[0].seconds == 20
    assert report.seconds == 60


def test_a_loss_that_is_no_number_is_not_ranked(files):
    run_dir = laid("sft-00000000000000aa", "sft", report='{"validation_loss": NaN}')
    directory.write_status(run_dir, Status(state="succeeded"))
    assert search._loss(get_run(RunRequest(run_id=run_dir.name)), None) is None


def test_a_search_whose_trials_all_fail_is_refused_for_good_and_says_what_to_do(files):
    failed = [f"{name}, whole" for name, *_ in GRID]
    with pytest.raises(Refused, match="raise the budget, or launch without search"):
        searched(1, 1.0, None, failed=failed)
