"""What a search tries, refuses and chooses; its runs are in tests/tiny/test_search.py."""

import json

import pytest

from ft_tools import workspace as workspace_module
from ft_tools.errors import BadInput, Refused
from ft_tools.publish import private_folder
from ft_tools.runs import directory
from ft_tools.runs.records import RunError, RunInfo, Status
from ft_tools.runs.request import RunRequest
from ft_tools.runs.tool import get_run
from ft_tools.runs.worker_session import Session
from ft_tools.training.estimates import Duration
from ft_tools.training.plan import plan_sft
from ft_tools.training.request import SearchBudget
from ft_tools.training.search import (
    TrialResult,
    has_overfitted,
    next_trials,
    plan_search,
    rank,
    request_of,
    trials_of,
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


def result(name, right, loss, overfitted=False, epochs=None):
    return TrialResult(
        num_train_epochs=epochs,
        name=name,
        overfitted=overfitted,
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
    rate = plan["default"]["training"]["learning_rate"]
    tried = {t["name"]: t["training"]["learning_rate"] / rate for t in plan["trials"]}
    assert tried["rate x1.7"] == pytest.approx(3**0.5, rel=0.01)
    assert tried["rate /1.7"] == pytest.approx(3**-0.5, rel=0.01)
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


@pytest.mark.parametrize("minutes", [True, float("inf")])
def test_a_budget_is_a_finite_number(minutes):
    with pytest.raises(ValueError, match=r"minutes\n.*number"):
        SearchBudget.model_validate({"minutes": minutes})


ONCE = {"num_train_epochs": 1}


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"validation": None, "training": ONCE}, "chooses on held-out examples"),
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
    made = request_of(request, plan, trial, "search-1")
    assert made == request_of(request, plan, trial, "search-1")
    assert made.request_id != request_of(request, plan, plan.trials[0], "search-1").request_id
    assert (made.peft["r"], made.search, made.confirm) == (32, None, None)
    default = plan_sft(sft(dataset="many.jsonl", peft={"r": 8}))
    of_trial = plan_sft(request_of(request, plan, plan.trials[0], "search-1"))
    assert of_trial.validation == default.validation
    assert of_trial.training == default.training


def test_a_request_that_leaves_its_steps_to_the_epochs_is_tried_by_epochs(files):
    request = searching(training={"max_steps": -1})
    plan = planned(request)
    default = plan_sft(request_of(request, plan, plan.trials[0], "search-1"))
    assert default.training == plan_sft(request).training
    longer = plan_sft(request_of(request, plan, plan.trials[1], "search-1"))
    assert longer.estimate.steps == pytest.approx(2 * plan.estimate.steps, abs=1)


def test_every_trial_has_the_steps_that_are_asked_for(files):
    plan = planned(searching(training={"max_steps": 10}))
    assert {trial.training["max_steps"] for trial in plan.trials} == {10}
    assert not any("epochs" in trial.name for trial in plan.trials)


ROWS = 30


def ranked(results, metric="exact_match", num_rows=ROWS):
    return [one.name for one in rank(results, metric, num_rows)]


def test_equal_exact_matches_go_by_the_loss_and_a_trial_without_one_is_last():
    trials = [result("a", 0.9, 0.5), result("b", 0.9, 0.4), result("c", 0.8, 0.1)]
    failed = result("d", None, None)
    assert ranked([failed, *trials]) == ["b", "a", "c"]
    assert ranked([failed, *trials], "validation_loss") == ["c", "b", "a"]


@pytest.mark.parametrize(
    ("right", "num_rows", "wins"),
    [
        # A row less of 30 shows nothing; two of 30 right ones do.
        (29 / 30, 30, True),
        (28 / 30, 30, False),
        (0.99, 300, False),
    ],
)
def test_of_trials_that_the_rows_do_not_tell_apart_the_longer_one_wins(right, num_rows, wins):
    short = result("short", 1.0, 0.1, epochs=5)
    long = result("long", round(right, 4), 0.2, epochs=10)
    assert ranked([short, long], num_rows=num_rows)[0] == ("long" if wins else "short")
    # Before the first right answer the loss decides.
    no_answers = [one.model_copy(update={"exact_match": 0.0}) for one in (short, long)]
    assert ranked(no_answers, num_rows=num_rows)[0] == "short"
    # The control: more training that made the answers worse is no advantage.
    overfitted = long.model_copy(update={"overfitted": True})
    assert ranked([short, overfitted], num_rows=num_rows)[0] == "short"


def test_more_rows_tell_smaller_differences_apart():
    short, long = result("short", 0.9, 0.1, epochs=5), result("long", 0.88, 0.2, epochs=10)
    assert ranked([short, long], num_rows=100)[0] == "long"
    assert ranked([short, long], num_rows=300)[0] == "short"


TRAINING, PEFT = {"learning_rate": 1e-3, "num_train_epochs": 2}, {"r": 8, "lora_alpha": 16}


def following(results, peft=PEFT):
    trials = trials_of(TRAINING, peft)
    return [one.name for one in next_trials(trials, results, "exact_match", ROWS)]


def test_the_default_is_first_and_made_longer_next_unless_it_overfitted():
    assert following([]) == ["default"]
    longer = following([result("default", 0.9, 0.5)])
    assert longer == ["epochs x2", "rate x1.7", "rate /1.7", "rank x4"]
    assert following([result("default", 0.9, 0.5, overfitted=True)]) == [*longer[1:], longer[0]]


def test_the_next_trial_is_one_change_from_the_best_so_far():
    made = [result("default", 0.8, 0.5), result("epochs x2", 0.9, 0.4)]
    from_longer = ["rate x1.7, epochs x2", "rate /1.7, epochs x2", "epochs x2, rank x4"]
    assert following(made) == from_longer
    better = result("rate x1.7, epochs x2", 0.95, 0.4)
    near = ["rate x3, epochs x2", "rate x1.7, epochs x2, rank x4"]
    assert following([*made, better]) == near
    worse = [made[0], result("epochs x2", 0.7, 0.4)]
    assert following(worse) == ["rate x1.7", "rate /1.7", "rank x4"]


def test_a_search_ends_where_nothing_near_is_better():
    others = ("rate x1.7", "rate /1.7", "rank x4", "epochs x2")
    made = [result("default", 0.9, 0.4), *(result(name, 0.8, 0.5) for name in others)]
    assert following(made) == []
    assert following(made[:4], peft=None) == ["epochs x2"]


def test_a_default_that_failed_has_neighbours_too():
    assert following([result("default", None, None)])[:2] == ["rate x1.7", "rate /1.7"]


def test_a_run_overfitted_whose_held_out_loss_rose_to_its_end():
    fell = [{"step": step, "eval_loss": loss} for step, loss in enumerate((2.0, 1.0, 0.9))]
    rose = [{"step": step, "eval_loss": loss} for step, loss in enumerate((1.2, 1.5), 3)]
    assert not has_overfitted(fell, "sft")
    assert has_overfitted([*fell, *rose], "sft")
    # The loss of DFT rises in good health.
    assert not has_overfitted([*fell, *rose], "sft", "dft")


def laid(run_id, kind, **records):
    run_dir = workspace_module.runs_dir() / run_id
    private_folder(run_dir)
    info = RunInfo(run_id=run_id, kind=kind, created_at=1.0)
    (run_dir / "run.json").write_text(info.model_dump_json())
    for file, record in records.items():
        (run_dir / f"{file}.json").write_text(record)
    return run_dir


class Laying:
    """Lays what a run leaves that takes 20 s at the default's epochs, and is better the higher its
    rate."""

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


def searched(minutes, seconds, before=None, **ends):
    """Search with a plan that says a whole run takes `seconds`; what it found and started."""
    request = searching(search={"minutes": minutes})
    plan = planned(request)
    duration = seconds and Duration(low_seconds=seconds, high_seconds=seconds, source="a test")
    estimate = plan.estimate.model_copy(update={"duration": duration})
    plan = plan.model_copy(update={"estimate": estimate})
    records = {"request": request.model_dump_json(), "plan": plan.model_dump_json()}
    run_dir = laid("search-00000000000000ff", "search", **records, **before or {})
    start = Laying(plan.trials[0].training["num_train_epochs"], **ends)
    return search.work(Session(run_dir), start), start.started


def test_a_search_goes_on_where_a_trial_is_refused_and_pays_for_no_more_than_its_budget(files):
    report, started = searched(100 / 60, None, refused=["rate x3"])
    assert started == ["default", "epochs x2", "rate x1.7", "rate x1.7, rank x4"]
    assert report.winner_settings == "rate x1.7"
    assert report.winner == "sft-0000000000000003"
    assert report.default_run == "sft-0000000000000001"
    assert report.gain == pytest.approx(report.default_value - report.winner_value, abs=1e-4)
    assert report.gain > 0
    assert report.gain_low is None
    assert report.seconds == 100
    assert report.not_tried == ["rate x1.7, epochs x2", "rate x3"]


def test_a_trial_that_the_budget_does_not_pay_for_is_left_out_for_a_cheaper_one(files):
    report, started = searched(50 / 60, 20.0)
    assert started == ["default", "rate x1.7"]
    assert report.not_tried == ["rate x1.7, epochs x2", "rate x3", "rate x1.7, rank x4"]
    assert report.seconds == 40


def test_the_start_of_each_trial_is_paid_for_too(files):
    # Twice the epochs take 15 s of start and twice 5 s.
    _, enough = searched(45 / 60, 20.0, start=15)
    assert enough == ["default", "epochs x2"]


def test_a_trial_whose_start_is_not_paid_for_is_not_made(files):
    _, too_little = searched(44 / 60, 20.0, start=15)
    assert too_little == ["default", "rate x1.7"]


def test_a_trial_that_fails_at_once_does_not_make_the_others_look_short(files):
    report, started = searched(1, 20.0, failed=["epochs x2"])
    assert started == ["default", "epochs x2", "rate x1.7"]
    assert report.seconds <= 60


def test_what_was_done_before_the_worker_died_is_not_done_again(files):
    run_id = laid("sft-00000000000000aa", "sft").name
    done = result("default", None, 1.0).model_copy(update={"seconds": 20, "run_id": run_id})
    before = {"search": json.dumps({"done": [done.model_dump()]})}
    report, started = searched(1, None, before=before)
    assert started == ["epochs x2"]
    assert [one.name for one in report.trials] == ["default", "epochs x2"]
    assert report.default_run == run_id


def test_a_search_that_an_earlier_version_began_goes_on_from_its_trials(files):
    """Its steps of the rate were 3 times, and the rows were counted in the default's plan alone."""
    run_id = laid("sft-00000000000000aa", "sft").name
    made = {"default": 1.0, "epochs x2": 1.1, "rate x3": 0.6, "rate x9": 0.5}
    done = [
        result(name, None, loss).model_copy(update={"seconds": 5, "run_id": run_id})
        for name, loss in made.items()
    ]
    before = {"search": json.dumps({"done": [one.model_dump() for one in done]})}
    assert "num_validation" not in planned(searching()).model_dump()
    report, started = searched(1, 20.0, before=before)
    assert [one.name for one in report.trials] == [*made, *started]
    assert started[0] == "rate x9, epochs x2"


def test_seconds_that_were_watched_before_the_worker_died_are_not_counted_again(files):
    report, _ = searched(1, None, before={"search": '{"seconds": 12}'})
    assert report.trials[0].seconds == 20
    assert report.seconds == 60


def test_a_loss_that_is_no_number_is_not_ranked(files):
    run_dir = laid("sft-00000000000000aa", "sft", report='{"validation_loss": NaN}')
    directory.write_status(run_dir, Status(state="succeeded"))
    assert search._loss(get_run(RunRequest(run_id=run_dir.name)), None) is None


def test_a_search_whose_trials_all_fail_is_refused_for_good_and_says_what_to_do(files):
    failed = ["default", "rate x1.7", "rate /1.7", "rank x4", "epochs x2"]
    with pytest.raises(Refused, match="raise the budget, or launch without search"):
        searched(1, None, failed=failed)
