"""What a worker sees of the GPUs, who waits for whom, and fresh processes when memory ran out."""

import json

import pytest
from harness import (
    ENDED,
    launch,
    messages,
    report,
    run_dir_of,
    starts,
    until_phase,
    until_state,
)

from ft_tools.runs.request import CancelRequest
from ft_tools.runs.tool import cancel_run

pytestmark = [pytest.mark.faults, pytest.mark.usefixtures("runs_here")]
CARDS = ["GPU-2bc", "GPU-3d"]
ROWS = [f"{i}, {uuid}, A100, 81920, 0, 8.0, 535.5, Disabled" for i, uuid in enumerate(CARDS)]
TWO = {"backend_options": {"processes": 2}}


@pytest.fixture
def two_cards(smi):
    smi(*ROWS)


def shown(run_id):
    """Return the variables that a worker had when its process began."""
    until_state(run_id, "succeeded")
    return json.loads((run_dir_of(run_id) / "sees.json").read_bytes())


def test_a_run_of_one_process_is_shown_the_one_gpu_that_it_holds(two_cards):
    seen = shown(launch("sees", device="cuda", slots=CARDS))
    assert seen["CUDA_VISIBLE_DEVICES"] == CARDS[0]
    assert seen["PYTORCH_ALLOC_CONF"] == "expandable_segments:True"
    both = shown(launch("sees", device="cuda", slots=CARDS, num_slots=2, **TWO))
    assert both["CUDA_VISIBLE_DEVICES"] == ",".join(CARDS)
    assert shown(launch("sees", device="cpu"))["CUDA_VISIBLE_DEVICES"] == ""


def test_a_gpu_that_is_gone_since_the_plan_is_named(two_cards):
    run_id = launch("sees", device="cuda", slots=["GPU-gone"])
    until_state(run_id, *ENDED)
    error = report(run_id).error
    assert error.code == "not_started"
    assert "GPU-gone" in error.message


def test_a_worker_that_asks_again_gets_a_fresh_process_in_the_same_attempt():
    run_id = launch("again", "steps:2")
    until_state(run_id, "succeeded")
    assert len(set(starts(run_id))) == 2
    assert report(run_id).attempts == 1
    assert messages(run_id).count("memory ran out: continuing with less") == 1


def test_a_cancel_wins_over_a_fresh_process():
    run_id = launch("again_when_cancelled")
    until_phase(run_id, "again_when_cancelled")
    cancel_run(CancelRequest(run_id=run_id))
    assert until_state(run_id, *ENDED) == "cancelled"
    assert len(starts(run_id)) == 1
