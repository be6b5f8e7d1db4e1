"""Runs that version 0.1 made are still read, evaluated and resumed.

`runs_of_0_1.tar.xz` is a workspace that version 0.1 wrote: a model of 9,000 parameters, a finished
SFT run of it, and one that was cancelled at step 21 of 3,000.
"""

import tarfile
from pathlib import Path

import pytest

from ft_tools import publish
from ft_tools import workspace as workspace_module
from ft_tools.errors import Refused
from ft_tools.evaluation.request import EvaluateRequest
from ft_tools.evaluation.tool import evaluate
from ft_tools.runs.processes.worker_session import Session
from ft_tools.runs.request import CancelRequest, ResumeRequest, RunRequest
from ft_tools.runs.state import directory
from ft_tools.runs.tool import cancel_run, get_run, resume_run
from ft_tools.training.request import SftRequest
from ft_tools.training.training_plan import SftPlan
from ft_tools.training.worker.confirmed_inputs import check_inputs
from tests.tiny.trainings import LIBRARY_WARNINGS, finished, wait_until

pytestmark = [pytest.mark.tiny, *LIBRARY_WARNINGS]
FINISHED, STOPPED = "sft-3b43e680c950e9e4", "sft-ff4e82a2fa15ca8f"
RECORDED_IN = "/tmp/ws01"
RECORDING = Path(__file__).with_name("runs_of_0_1.tar.xz")


@pytest.fixture
def recorded(workspace, tmp_path, monkeypatch):
    """Unpack the recorded workspace, as if it had been recorded here."""
    monkeypatch.setenv(workspace_module.CACHE_VARIABLE, str(tmp_path / "cache"))
    with tarfile.open(RECORDING) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    for path in (tmp_path / "unpacked" / "recorded").iterdir():
        path.rename(workspace / path.name)
    for file in (workspace / "runs").rglob("*.json*"):
        file.write_text(file.read_text().replace(RECORDED_IN, str(workspace)))
    for folder in (
        workspace / "runs" / FINISHED / "artifacts" / "adapter",
        workspace / "runs" / STOPPED / "checkpoints" / "checkpoint-21",
    ):
        publish.seal(folder)
    (workspace / "runs").chmod(0o700)
    return workspace


def test_a_finished_run_is_read_and_evaluated(recorded):
    report = get_run(RunRequest(run_id=FINISHED))
    assert (report.state, report.progress.step) == ("succeeded", 4)
    assert report.result
    assert [Path(a.path).name for a in report.artifacts if a.kind == "adapter"] == ["adapter"]
    request = EvaluateRequest(
        model=FINISHED, dataset="test.jsonl", metrics=["exact_match"], accept_reason="a test"
    )
    plan = evaluate(request)
    started = evaluate(request.model_copy(update={"confirm": plan.plan_hash}))
    assert finished(started.run_id).state == "succeeded"


def test_a_saved_request_is_read_without_the_arguments_that_are_gone(recorded):
    saved = directory.whole_json(recorded / "runs" / STOPPED / "request.json")
    assert saved.keys() - SftRequest.model_fields.keys()
    request = Session(recorded / "runs" / STOPPED).request(SftRequest)
    assert request.training == saved["training"]


def test_a_run_is_not_continued_with_another_model(recorded):
    plan = Session(recorded / "runs" / STOPPED).plan(SftPlan)
    check_inputs(plan)
    config = recorded / "tiny-llama" / "config.json"
    config.write_text(config.read_text() + " ")
    with pytest.raises(Refused, match="tiny-llama"):
        check_inputs(plan)


def test_a_cancelled_run_continues_from_its_checkpoint(recorded):
    report = get_run(RunRequest(run_id=STOPPED))
    assert (report.state, report.progress.step, report.resumable) == ("cancelled", 21, True)
    resume_run(ResumeRequest(run_id=STOPPED))
    wait_until(lambda r: r.state == "running" and r.progress.step > 24, STOPPED)
    events = directory.read_events(recorded / "runs" / STOPPED)
    assert "continuing from checkpoint-21" in [event.message for event in events]
    cancel_run(CancelRequest(run_id=STOPPED))
    assert finished(STOPPED).state == "cancelled"
