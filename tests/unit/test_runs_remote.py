"""A run on a cloud, seen from here: programs that fail, hang or answer late, and what is believed.

The providers' programs are small scripts on PATH. Each keeps its calls, and does what a test has
written for its verb.
"""

import json
import os
import time
from pathlib import Path

import pytest

from ft_tools import publish
from ft_tools.errors import Missing
from ft_tools.publish import new_folder
from ft_tools.runs.launchers import attend as remote
from ft_tools.runs.launchers import workdir
from ft_tools.runs.state import directory
from ft_tools.runs.state.records import Artifact, Status
from tests.made_runs import made_run

RUN = "sft-0123456789abcdef"
PATIENCE_SECONDS = 60.0
PROGRAM = """#!/bin/sh
echo "$(basename "$0") $*" >> "$CLOUD/calls"
if [ -e "$CLOUD/$(basename "$0")-$2" ]; then . "$CLOUD/$(basename "$0")-$2"; fi
"""
# The scheduler: takes a job by its name, and says the states of a list one after another.
TAKE = 'echo "$6" > "$CLOUD/name"; cp "$RUN_DIR/job.json" "$CLOUD/bucket"'
SAY = """
state=$(head -n 1 "$CLOUD/states")
if [ "$(wc -l < "$CLOUD/states")" -gt 1 ]; then sed -i 1d "$CLOUD/states"; fi
if [ -e "$CLOUD/name" ]; then name=$(cat "$CLOUD/name"); else name=nothing; fi
printf '[{"job_name": "%s", "status": "%s"}]' "$name" "$state"
"""
END = 'echo CANCELLED > "$CLOUD/states"'
SYNC = 'for folder in "$@"; do :; done; cp -r "$CLOUD/bucket/." "$folder"'


class Cloud:
    """Programs of providers that do what they are told, and what was asked of them."""

    def __init__(self, folder, run_dir):
        self.folder = folder
        self.run_dir = run_dir
        self.bucket = folder / "bucket"
        self.bucket.mkdir(parents=True)
        self.states("RUNNING", "SUCCEEDED")
        for program, verb, does in (
            ("sky", "launch", TAKE),
            ("sky", "queue", SAY),
            ("sky", "cancel", END),
            ("aws", "sync", SYNC),
        ):
            self.on(program, verb, does)

    def on(self, program, verb, does):
        (self.folder / f"{program}-{verb}").write_text(does)

    def states(self, *states):
        (self.folder / "states").write_text("".join(f"{state}\n" for state in states))

    def calls(self, beginning):
        said = (self.folder / "calls").read_text().splitlines()
        return [call for call in said if call.startswith(beginning)]

    def has_made(self, state="succeeded"):
        """Put into the bucket what a job that ended so leaves."""
        with new_folder(self.bucket / "artifacts" / "adapter") as staging:
            (staging / "weights").write_bytes(b"w" * 100)
        path = f"{workdir.RUNS_THERE}/{RUN}/artifacts/adapter"
        ended = Status(state=state, artifacts=[Artifact(kind="adapter", path=path)])
        directory.write_status(self.bucket, ended)


@pytest.fixture
def run_dir(workspace):
    """Write a run that waits for its submission."""
    (workspace / "train.jsonl").write_text('{"text": "a"}\n')
    plan = {
        "dataset": {"path": str(workspace / "train.jsonl")},
        "validation": None,
        "model": {"load_from": "me/model", "adapter": None, "name": "me/model"},
        "training": {"chat_template_path": None},
        "place": {"sharding": "ddp"},
    }
    return made_run(
        RUN,
        Status(state="queued"),
        files={"request": {}, "plan": plan},
        backend="skypilot",
        backend_options={"storage": "s3://mine/runs"},
        worker="ft_tools.training.worker.sft",
    )


@pytest.fixture
def cloud(tmp_path, run_dir, monkeypatch):
    """Put the programs on PATH, and look without waiting."""
    folder = tmp_path / "cloud"
    there = Cloud(folder, run_dir)
    (folder / "bin").mkdir()
    for name in ("sky", "aws"):
        (folder / "bin" / name).write_text(PROGRAM)
        (folder / "bin" / name).chmod(0o700)
    monkeypatch.setenv("PATH", str(folder / "bin"), prepend=os.pathsep)
    monkeypatch.setenv("CLOUD", str(folder))
    monkeypatch.setenv("RUN_DIR", str(run_dir))
    monkeypatch.setenv(remote.LOOK_VARIABLE, "0")
    monkeypatch.setattr(remote, "POLL_SECONDS", 0.01)
    return there


def attend(run_dir, terms=lambda: False):
    """Look after the run until it is over, but not for ever; how it ended."""
    until = time.monotonic() + PATIENCE_SECONDS
    info = directory.read_info(run_dir)
    remote.attend(run_dir, info, lambda: int(terms() or time.monotonic() > until), 0.0)
    return directory.read_status(run_dir)


def told(run_dir, what):
    return [e.message for e in directory.read_events(run_dir) if what in e.message]


def test_a_job_whose_submission_never_answered_is_found_by_its_name_and_ended(
    run_dir, cloud, monkeypatch
):
    monkeypatch.setattr(remote, "SUBMIT_SECONDS", 2.0)
    cloud.states("RUNNING")
    cloud.on("sky", "launch", f'{TAKE}\ntouch "$RUN_DIR/cancel"\nsleep 60')
    assert attend(run_dir).state == "cancelled"
    name = (cloud.folder / "name").read_text().strip()
    assert cloud.calls("sky jobs cancel") == [f"sky jobs cancel --yes --name {name}"]
    assert len(cloud.calls("sky jobs launch")) == 1
    assert told(run_dir, f"checking for job {name} anyway")


def test_a_submission_that_was_refused_leaves_no_job_and_no_workdir(run_dir, cloud):
    cloud.on("sky", "launch", 'echo "no credentials" >&2; exit 1')
    with pytest.raises(Missing, match="no credentials"):
        attend(run_dir)
    assert not directory.has_job(run_dir)
    assert not (run_dir / workdir.FOLDER).exists()


def test_a_run_has_succeeded_once_its_files_have_come_and_a_failure_is_told_once(run_dir, cloud):
    cloud.has_made()
    # Twice the client fails in the middle: the status has come, what it speaks of has not.
    partly = 'cp "$CLOUD/bucket/job.json" "$CLOUD/bucket/status.json" "$folder"'
    fails = f'if [ "$(wc -l < "$CLOUD/syncs")" -lt 4 ]; then {partly}; echo torn >&2; exit 7; fi'
    last = 'for folder in "$@"; do :; done'
    cloud.on("aws", "sync", f'echo >> "$CLOUD/syncs"\n{last}\n{fails}\n{SYNC}')
    cloud.states("SUCCEEDED")
    ended = attend(run_dir)
    assert ended.state == "succeeded"
    assert ended.artifacts[0].path == str(run_dir / "artifacts" / "adapter")
    assert publish.verify(run_dir / "artifacts" / "adapter") == []
    assert not directory.has_job(run_dir)
    assert not (run_dir / workdir.FOLDER).exists()
    (complaint,) = told(run_dir, "could not be fetched")
    assert complaint.endswith("aws s3 sync ended with 7: torn")


def test_the_workdir_has_the_package_the_plan_its_files_and_versions(run_dir, workspace):
    plan = json.loads((run_dir / "plan.json").read_bytes())
    (workspace / "model").mkdir()
    (workspace / "model" / "config.json").write_text("{}")
    plan["model"]["load_from"] = str(workspace / "model")
    plan["training"] |= {"use_liger_kernel": True, "report_to": ["tensorboard"]}
    (run_dir / "plan.json").write_text(json.dumps(plan))
    (run_dir / directory.JOB).write_text('{"token": "mine"}')
    workdir.pack(run_dir)
    packed = run_dir / workdir.FOLDER
    assert publish.verify(packed) == []
    assert (packed / "code" / "ft_tools" / "training" / "worker" / "sft.py").is_file()
    # With this file SkyPilot does not ask git what is ignored.
    assert (packed / ".skyignore").read_bytes() == b""
    wanted = (packed / "requirements.txt").read_text().splitlines()
    # All that a worker imports, in the versions of here.
    names = {line.partition("==")[0] for line in wanted}
    assert {"torch", "trl", "jsonschema-rs", "regex", "pydantic"} <= names
    assert wanted[-2:] == ["liger-kernel", "tensorboard"]
    assert not any("+" in line for line in wanted)
    there = workspace / "there" / RUN
    workdir.unpack(packed, workspace / "kept", there)
    plan = json.loads((there / "plan.json").read_bytes())
    assert Path(plan["dataset"]["path"]).read_text() == '{"text": "a"}\n'
    assert (Path(plan["model"]["load_from"]) / "config.json").read_text() == "{}"
    assert str(workspace / "train") not in json.dumps(plan)


@pytest.mark.parametrize("fault", ["another job", "damaged", "torn"])
def test_files_of_another_job_or_damaged_ones_are_not_taken_over(run_dir, fault):
    fetched = run_dir / remote.FETCHED
    (run_dir / directory.JOB).write_text('{"token": "mine"}')
    with new_folder(fetched / "artifacts" / "adapter") as staging:
        (staging / "weights").write_bytes(b"w" * 100)
    token = "an older one" if fault == "another job" else "mine"
    (fetched / directory.JOB).write_text(json.dumps({"token": token}))
    directory.write_status(fetched, Status(state="failed"))
    (fetched / "events.jsonl").write_text('{"torn')
    (fetched / "artifacts" / "adapter" / "weights").write_bytes(b"w" * 99)
    workdir.take_over(fetched, run_dir)
    expected = "queued" if fault == "another job" else "failed"
    assert directory.read_status(run_dir).state == expected
    assert directory.read_events(run_dir) == []
    assert not (run_dir / "artifacts").exists()
