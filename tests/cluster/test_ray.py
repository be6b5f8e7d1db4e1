"""Runs on a real local Ray cluster: two ranks that train, and a cancel."""

import pytest

from ft_tools.runs.processes.start import start
from ft_tools.runs.request import CancelRequest
from ft_tools.runs.state import directory
from ft_tools.runs.tool import cancel_run
from ft_tools.training.request import SftRequest
from tests.faults.harness import WORKER, Moves, run_dir_of
from tests.tiny.trainings import (
    LIBRARY_WARNINGS,
    QUICK,
    conversations,
    finished,
    launch,
    wait_until,
    write_jsonl,
)

pytestmark = LIBRARY_WARNINGS
TWO_RANKS = {
    "num_train_epochs": 1,
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 4,
}


def moves(address, *names):
    plan = Moves(moves=list(names))
    return start("audit", plan, plan, worker=WORKER, backend=("ray", {"address": address}))


def messages(run_id):
    return [event.message for event in directory.read_events(run_dir_of(run_id))]


def test_two_ranks_train_in_a_job_of_the_cluster(ray, workspace, tiny_model_in):
    request = SftRequest(
        model=tiny_model_in,
        dataset=write_jsonl(workspace / "train.jsonl", conversations(32)),
        training={**QUICK, **TWO_RANKS},
        backend="ray",
        backend_options={"address": ray, "processes": 2, "cpus": 2},
    )
    run_id = launch(request)
    done = finished(run_id, seconds=240)
    assert done.state == "succeeded"
    assert (done.result["steps"], done.result["accumulation"]) == (4, 2)
    assert any(m.startswith("ray job") and m.endswith("RUNNING") for m in messages(run_id))
    assert messages(run_id)[-1].endswith("SUCCEEDED")


def test_a_cancelled_run_stops_by_itself_after_saving(ray):
    run_id = moves(ray, "until_told")
    wait_until(lambda r: r.phase == "steps", run_id)
    cancel_run(CancelRequest(run_id=run_id))
    assert finished(run_id).state == "cancelled"
    assert any((run_dir_of(run_id) / "checkpoints").iterdir())


@pytest.fixture(autouse=True)
def _warm(ray_cluster):
    """Have the cluster up before the clock of a test runs."""
