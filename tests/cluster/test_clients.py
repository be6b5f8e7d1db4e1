"""Clouds that cannot be reached from a test: their own clients read what would be submitted."""

import json
import os
import shutil
import subprocess
import sys

import psutil
import pytest

from ft_tools import publish
from ft_tools.runs.launchers import attend, workdir
from ft_tools.runs.launchers.launcher import Job
from ft_tools.runs.launchers.table import parse
from ft_tools.runs.state import directory
from ft_tools.training.request import SftRequest
from tests.cluster.conftest import environment_with, eventually
from tests.tiny.trainings import QUICK, conversations, prepared, weights_of, write_jsonl

RUN = "sft-0123456789abcdef"
READ_TASK = """
import json, sky, sys
task = sky.Task.from_yaml(sys.argv[1])
(resources,) = task.resources
((mounted, storage),) = task.storage_mounts.items()
storage._validate_source(storage.source, storage.mode, storage.sync_on_reconstruction)
print(json.dumps({"name": task.name, "cards": resources.accelerators, "spot": resources.use_spot,
                  "mounted": mounted, "recovery": resources.job_recovery, "nodes": task.num_nodes}))
"""


def test_skypilot_reads_its_task(tmp_path, monkeypatch):
    given = {"storage": "s3://mine/runs", "accelerator": "H100", "gpu": "H100-80GB",
             "processes": 8, "infra": "aws", "memory_gib": 64}  # fmt: skip
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / workdir.FOLDER).mkdir()
    launcher = parse("skypilot", given)
    job = Job(RUN, str(tmp_path), "ft_tools.training.worker.sft", "t0k3n", "python", {})
    files, command = launcher.files(job), launcher.submit(job)
    (name,) = files
    (tmp_path / name).write_text(files[name])
    sky = environment_with("sky", "skypilot==0.14.1")
    argv = [sky / "python", "-c", READ_TASK, tmp_path / name]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    said = json.loads(done.stdout.splitlines()[-1])
    assert (said["cards"], said["spot"], said["nodes"]) == ({"H100": 8}, True, 1)
    assert (said["mounted"], said["recovery"]["max_restarts_on_errors"]) == ("/fine-tuning-llm", 3)
    for argv in (command, ["sky", "jobs", "queue", "--all", "--output", "json"],
                 launcher.cancel("x")):  # fmt: skip
        flags = [word for word in argv if word.startswith("--")]
        asked = subprocess.run(
            [sky / "sky", *argv[1:3], "--help"], capture_output=True, text=True, check=True
        )
        assert all(flag in asked.stdout for flag in flags), argv


@pytest.fixture
def away(workspace, tiny_model_in):
    """Write a run and its working directory, for a machine that sees nothing else of this one."""
    session = prepared(
        SftRequest(
            model=tiny_model_in,
            dataset=write_jsonl(workspace / "train.jsonl", conversations(32)),
            training={**QUICK, "num_train_epochs": 30, "save_steps": 20, "logging_steps": 1},
            accept_findings=["validation_unwatched"],
            accept_reason="a test",
        ),
        "away",
    )
    run_dir = session.run_dir
    about = json.loads((run_dir / "run.json").read_bytes()) | {"backend": "skypilot"}
    (run_dir / "run.json").write_text(json.dumps(about))
    (run_dir / directory.JOB).write_text(json.dumps({"backend": "skypilot", "token": "t0k3n"}))
    directory.write_status(run_dir, directory.read_status(run_dir))
    workdir.pack(run_dir)
    return run_dir, run_dir / workdir.FOLDER


def machine(name, packed, kept, workspace, tmp_path):
    """Start the job on a machine that is only another folder with another working folder."""
    there = tmp_path / name / "runs" / packed.parent.name
    argv = [sys.executable, "-P", "-m", "ft_tools.runs.launchers.inside_job", str(there), "t0k3n"]
    argv += ["--workdir", str(packed), "--kept", str(kept), "--"]
    argv += [sys.executable, "-P", "-m", "ft_tools.training.worker.sft", str(there)]
    around = os.environ | {
        "PYTHONPATH": str(packed / "code"),
        "FINE_TUNING_LLM_JOB": "t0k3n",
        "FINE_TUNING_LLM_WORKSPACE": f"{tmp_path / name}{os.pathsep}{packed}",
    }
    (tmp_path / name).mkdir()
    with (tmp_path / f"{name}.log").open("w") as log:
        return subprocess.Popen(argv, env=around, cwd=tmp_path / name, stdout=log, stderr=log)


def test_a_second_machine_goes_on_where_the_first_was_taken_away(
    away, workspace, tmp_path, monkeypatch
):
    monkeypatch.setattr(workdir, "RUNS_THERE", str(tmp_path / "two" / "runs"))
    run_dir, packed = away
    kept = tmp_path / "bucket" / run_dir.name
    first = machine("one", packed, kept, workspace, tmp_path)
    eventually(lambda: list(kept.glob("checkpoints/*/manifest.json")), 120)
    for process in [*psutil.Process(first.pid).children(recursive=True), psutil.Process(first.pid)]:
        process.kill()
    first.wait()
    saved = max(
        int(p.parent.name.rpartition("-")[2]) for p in kept.glob("checkpoints/*/manifest.json")
    )
    second = machine("two", packed, kept, workspace, tmp_path)
    assert second.wait(timeout=240) == 0, (tmp_path / "two.log").read_text()[-3000:]
    # What a client's sync would do.
    shutil.copytree(kept, run_dir / attend.FETCHED)
    workdir.take_over(run_dir / attend.FETCHED, run_dir)
    status = directory.read_status(run_dir)
    assert (status.state, status.attempt) == ("succeeded", 2)
    events = [event.message for event in directory.read_events(run_dir)]
    assert any(e.startswith("continuing from checkpoint-") for e in events)
    assert int(next(e for e in events if e.startswith("continuing")).rpartition("-")[2]) >= saved
    adapter = run_dir / "artifacts" / "adapter"
    assert publish.verify(adapter) == []
    assert weights_of(adapter)
    assert str(tmp_path / "two") not in (run_dir / "status.json").read_text()
