"""A run for a machine elsewhere: what goes there, and what is believed of what comes back."""

import json

import pytest

from ft_tools import publish
from ft_tools.publish import new_folder
from ft_tools.runs import bundle, directory, ranks
from ft_tools.runs.records import Artifact, Status
from ft_tools.runs.report import RunReport
from ft_tools.views.terminal import is_over

RUN = "sft-0123456789abcdef"


@pytest.fixture
def run_dir(tmp_path):
    """Write a run whose plan names files of this machine."""
    folder = tmp_path / "here" / RUN
    folder.mkdir(parents=True)
    (tmp_path / "train.jsonl").write_text('{"text": "a"}\n')
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    plan = {
        "dataset": {"path": str(tmp_path / "train.jsonl")},
        "validation": None,
        "model": {"load_from": str(tmp_path / "model"), "adapter": None, "name": "me/model"},
        "training": {"chat_template_path": None},
        "place": {"sharding": "zero2"},
    }
    (folder / "plan.json").write_text(json.dumps(plan))
    (folder / "run.json").write_text(json.dumps({"run_id": RUN, "kind": "sft", "created_at": 0}))
    (folder / "request.json").write_text("{}")
    (folder / ranks.JOB_FILE).write_text('{"token": "mine"}')
    directory.write_status(folder, Status(state="queued"))
    return folder


def test_a_bundle_has_the_files_of_the_plan_the_source_and_the_versions(run_dir, tmp_path):
    packed = bundle.pack(run_dir)
    assert publish.verify(packed) == []
    assert (packed / "inputs" / "dataset.jsonl").read_text() == '{"text": "a"}\n'
    assert (packed / "code" / "ft_tools" / "training" / "worker" / "sft.py").is_file()
    wanted = (packed / "requirements.txt").read_text()
    assert "pydantic==" in wanted
    assert "deepspeed" in wanted
    assert "+cpu" not in wanted
    assert str(tmp_path) not in (packed / "run" / "plan.json").read_text()
    there = tmp_path / "there" / RUN
    bundle.unpack(packed, tmp_path / "kept", there)
    plan = json.loads((there / "plan.json").read_bytes())
    assert plan["dataset"]["path"] == str(packed / "inputs" / "dataset.jsonl")
    assert plan["model"]["load_from"] == str(packed / "inputs" / "load_from")
    assert plan["model"]["name"] == "me/model"


def test_a_bundle_below_an_ignored_folder_of_a_repository_goes_there_whole(run_dir):
    # With this file SkyPilot does not ask git what is ignored.
    assert (bundle.pack(run_dir) / ".skyignore").read_bytes() == b""


@pytest.mark.parametrize("wanted", [True, False])
def test_the_kernels_that_a_plan_asks_for_are_installed_there(run_dir, wanted):
    plan = json.loads((run_dir / "plan.json").read_bytes())
    plan["training"]["use_liger_kernel"] = wanted
    (run_dir / "plan.json").write_text(json.dumps(plan))
    lines = (bundle.pack(run_dir) / "requirements.txt").read_text().splitlines()
    assert ("liger-kernel" in lines) == wanted


def test_the_trackers_that_a_plan_asks_for_are_installed_there(run_dir):
    plan = json.loads((run_dir / "plan.json").read_bytes())
    plan["training"]["report_to"] = ["tensorboard", "comet_ml"]
    (run_dir / "plan.json").write_text(json.dumps(plan))
    lines = (bundle.pack(run_dir) / "requirements.txt").read_text().splitlines()
    assert lines[-2:] == ["tensorboard", "comet_ml"]


def test_the_files_of_a_model_that_is_here_go_along_and_a_name_stays_a_name(run_dir):
    packed = bundle.pack(run_dir)
    assert (packed / "inputs" / "load_from" / "config.json").read_text() == "{}"
    plan = json.loads((run_dir / "plan.json").read_bytes())
    plan["model"]["load_from"] = "me/model"
    (run_dir / "plan.json").write_text(json.dumps(plan))
    packed = bundle.pack(run_dir)
    assert json.loads((packed / "run" / "plan.json").read_bytes())["model"] == plan["model"]
    assert not (packed / "inputs" / "load_from").exists()


def test_a_new_submission_knows_its_attempt_and_how_the_one_before_ended(run_dir, tmp_path):
    kept, there = tmp_path / "kept", tmp_path / "there" / RUN
    resumed = Status(state="queued", attempt=2, ended_before="out_of_memory")
    directory.write_status(run_dir, resumed)
    kept.mkdir()
    (kept / ranks.JOB_FILE).write_text('{"token": "an older one"}')
    directory.write_status(kept, Status(state="interrupted", attempt=1))
    packed = bundle.pack(run_dir)
    bundle.unpack(packed, kept, there)
    status = directory.read_status(there)
    assert (status.state, status.attempt, status.ended_before) == ("queued", 2, "out_of_memory")
    # Started again by the scheduler: what was kept of this submission is newer.
    (kept / ranks.JOB_FILE).write_text('{"token": "mine"}')
    directory.write_status(kept, Status(state="running", attempt=3))
    bundle.unpack(packed, kept, tmp_path / "elsewhere" / RUN)
    assert directory.read_status(tmp_path / "elsewhere" / RUN).attempt == 3


def test_events_of_there_are_added_once_to_those_of_here(run_dir, tmp_path):
    fetched = run_dir / bundle.FETCHED
    fetched.mkdir()
    (fetched / ranks.JOB_FILE).write_text('{"token": "mine"}')
    directory.add_event(run_dir, "submitted")
    for message in ("loading", "training"):
        directory.add_event(fetched, message)
        bundle.take_over(fetched, run_dir)
    directory.add_event(run_dir, "ending job 7")
    with (fetched / "events.jsonl").open("a") as stream:
        stream.write('{"torn')
    bundle.take_over(fetched, run_dir)
    events = [event.message for event in directory.read_events(run_dir)]
    assert events == ["submitted", "loading", "training", "ending job 7"]


def test_what_comes_back_has_the_paths_of_here_and_only_whole_artifacts(run_dir, tmp_path):
    there = tmp_path / "there" / RUN
    there.mkdir(parents=True)
    with new_folder(there / "artifacts" / "adapter") as staging:
        (staging / "weights").write_bytes(b"w" * 100)
    (there / "artifacts" / "half").mkdir()
    artifact = Artifact(kind="adapter", path=str(there / "artifacts" / "adapter"))
    directory.write_status(there, Status(state="succeeded", artifacts=[artifact]))
    (there / ranks.JOB_FILE).write_text('{"token": "mine"}')
    fetched = run_dir / bundle.FETCHED
    bundle.Kept(there, fetched).copy()
    bundle.take_over(fetched, run_dir)
    status = directory.read_status(run_dir)
    assert status.state == "succeeded"
    assert status.artifacts[0].path == str(run_dir / "artifacts" / "adapter")
    assert publish.verify(run_dir / "artifacts" / "adapter") == []
    assert not (run_dir / "artifacts" / "half").exists()


def test_a_file_that_was_cut_off_on_the_way_does_not_end_the_look_at_a_job(run_dir):
    fetched = run_dir / bundle.FETCHED
    fetched.mkdir()
    (fetched / ranks.JOB_FILE).write_text('{"token": "mine"}')
    directory.write_status(fetched, Status(state="running"))
    cut = "Größe".encode()[:3]
    (fetched / "samples.jsonl").write_bytes(cut)
    bundle.take_over(fetched, run_dir)
    assert (run_dir / "samples.jsonl").read_bytes() == cut
    assert directory.read_status(run_dir).state == "running"


def test_the_files_of_another_job_are_not_taken_over(run_dir, tmp_path):
    fetched = run_dir / bundle.FETCHED
    fetched.mkdir()
    (fetched / ranks.JOB_FILE).write_text('{"token": "an older one"}')
    directory.write_status(fetched, Status(state="failed"))
    bundle.take_over(fetched, run_dir)
    assert directory.read_status(run_dir).state == "queued"


def test_a_damaged_artifact_is_not_taken_over(run_dir, tmp_path):
    fetched = run_dir / bundle.FETCHED
    fetched.mkdir()
    (fetched / ranks.JOB_FILE).write_text('{"token": "mine"}')
    with new_folder(fetched / "artifacts" / "adapter") as staging:
        (staging / "weights").write_bytes(b"w" * 100)
    (fetched / "artifacts" / "adapter" / "weights").write_bytes(b"w" * 99)
    bundle.take_over(fetched, run_dir)
    assert not (run_dir / "artifacts").exists()


@pytest.mark.parametrize(
    ("state", "resumable", "over"),
    [("interrupted", False, False), ("interrupted", True, True), ("succeeded", False, True),
     ("running", False, False)],
)  # fmt: skip
def test_waiting_goes_on_while_a_scheduler_may_start_a_run_again(state, resumable, over):
    report = RunReport(run_id=RUN, kind="sft", state=state, resumable=resumable, created_at=0.0)
    assert is_over(report) is over
