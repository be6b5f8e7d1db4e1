"""What a search tries, refuses and chooses; its runs are in tests/tiny/test_search.py."""

import json

import pytest

from ft_tools import workspace as workspace_module
from ft_tools.errors import BadInput, Refused
from ft_tools.publish import private_folder
from ft_tools.runs import directory
from ft_tools.runs.records import RunInfo, Status
from ft_tools.runs.session import Session
from ft_tools.training.plan import plan_sft
from ft_tools.training.request import SearchBudget
from ft_tools.training.search import TrialResult, finalists, plan_search, rank, request_of
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


def test_a_search_goes_on_where_a_trial_is_refused_and_pays_for_no_more_than_its_budget(files):
    request = searching(search={"minutes": 1})
    plan = planned(request)
    unknown = plan.estimate.model_copy(update={"duration": None})
    plan = plan.model_copy(update={"estimate": unknown, "short_fraction": 1.0})
    run_dir = laid(
        "search-00000000000000ff",
        "search",
        request=request.model_dump_json(),
        plan=plan.model_dump_json(),
    )
    started = []

    def start(asked, search_run):
        """Lay what a run of 20 s leaves whose loss is better the higher its rate."""
        assert search_run == run_dir.name
        rate = asked.training["learning_rate"]
        if asked.name.startswith(f"{search_run}: rate /3"):
            raise Refused("no")
        started.append(asked.name.split(": ")[1])
        trial = json.dumps({"training": asked.training, "peft": asked.peft})
        report = json.dumps({"validation_loss": 1 - rate})
        made = laid(f"sft-{len(started):016x}", "sft", plan=trial, report=report)
        status = Status(state="succeeded", started_at=0.0, ended_at=20.0)
        directory.write_status(made, status)
        return made.name

    report = search.work(Session(run_dir), start)
    assert started == ["default, whole", "rate x3, whole", "rate x10, whole"]
    assert report.winner_settings == "rate x10"
    assert report.winner == "sft-0000000000000003"
    assert report.gain == pytest.approx(report.default_value - report.winner_value, abs=1e-4)
    assert report.gain > 0
    assert report.gain_low is None
    assert report.seconds == 60
    assert {"rate /3", "epochs x2", "rank x4"} <= set(report.not_tried)
