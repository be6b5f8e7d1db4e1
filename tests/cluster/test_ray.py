"""A run on a real local Ray cluster: two ranks that train."""

import pytest

from ft_tools.training.request import SftRequest
from tests.cluster.test_slurm import TWO_RANKS
from tests.faults.harness import messages
from tests.tiny.trainings import (
    LIBRARY_WARNINGS,
    QUICK,
    conversations,
    finished,
    launch,
    write_jsonl,
)

pytestmark = LIBRARY_WARNINGS


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


@pytest.fixture(autouse=True)
def _warm(ray_cluster):
    """Have the cluster up before the clock of a test runs."""
