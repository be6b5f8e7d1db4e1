"""A search of settings: its trials are runs of their own, and a death repeats none."""

import pytest

from ft_tools import workspace as workspace_module
from ft_tools.publish import private_folder, write_file
from ft_tools.runs import directory
from ft_tools.runs.records import RunInfo
from ft_tools.runs.request import ListRunsRequest
from ft_tools.runs.tool import list_runs
from ft_tools.runs.worker_session import Session
from ft_tools.training.plan import plan_sft
from ft_tools.training.search import plan_search
from ft_tools.training.worker import search, sft
from tests.tiny.trainings import LIBRARY_WARNINGS, QUICK, SftRequest, prepared, write_jsonl

pytestmark = [pytest.mark.tiny, pytest.mark.usefixtures("one_thread"), *LIBRARY_WARNINGS]
WORDS = ("late", "broken")


@pytest.fixture
def session(workspace, tiny_model_in):
    """Write a search of rates over labels; its session."""
    rows = [
        {
            "prompt": [{"role": "user", "content": f"Parcel {i} is {WORDS[i % 2]}."}],
            "completion": [{"role": "assistant", "content": WORDS[i % 2]}],
        }
        for i in range(32)
    ]
    request = SftRequest(
        model=tiny_model_in,
        dataset=write_jsonl(workspace / "train.jsonl", rows[:24]),
        validation=write_jsonl(workspace / "held_out.jsonl", rows[24:]),
        training={**QUICK, "max_steps": 6, "eval_steps": 6, "learning_rate": 1e-4},
        method="full",
        search={"minutes": 60},
        samples=0,
    )
    plan = plan_search(request, plan_sft(request))
    return written(request, plan)


def written(request, plan):
    run_dir = workspace_module.runs_dir() / "search-0123456789abcdef"
    private_folder(run_dir)
    info = RunInfo(run_id=run_dir.name, kind="search", created_at=1.0)
    for file, record in {"run": info, "request": request, "plan": plan}.items():
        (run_dir / f"{file}.json").write_text(record.model_dump_json())
    return Session(run_dir)


class Here:
    """Makes each trial in this process; may die before one."""

    def __init__(self, dies_before=None):
        self.made, self.dies_before = [], dies_before

    def __call__(self, request, search_run):
        if len(self.made) == self.dies_before:
            raise MemoryError
        self.made.append(request)
        trial = prepared(request, f"{len(list_runs(ListRunsRequest()).runs)}", search_run)
        report = sft.work(trial)
        write_file(trial.run_dir / "report.json", report.model_dump_json())
        trial.end("succeeded")
        return trial.run_dir.name


def test_a_search_that_dies_goes_on_with_the_next_trial_and_chooses_by_exact_match(session):
    first, then = Here(dies_before=2), Here()
    with pytest.raises(MemoryError):
        search.work(session, first)
    report = search.work(Session(session.run_dir), then)
    trials = report.trials
    made = [request.request_id for request in [*first.made, *then.made]]
    assert len(made) == len(set(made)) == len(trials) >= 3
    assert trials[0].run_id == report.default_run
    assert report.metric == "exact_match"
    best = max(trials, key=lambda one: (one.exact_match, -one.validation_loss))
    assert report.winner == best.run_id
    assert report.gain_low <= report.gain <= report.gain_high
    assert report.num_validation == 8
    assert report.next_steps[0].arguments == {"model": report.winner}
    lineage = directory.read_info(directory.find(report.winner)).lineage
    assert lineage["search"] == session.run_dir.name
