"""Where a run executes: what a plan shows of it, what is refused, and that a step stays a step."""

import os
from types import SimpleNamespace

import pytest

from ft_tools.errors import BadInput, Missing
from ft_tools.models.packing import kernels_versions
from ft_tools.runs.launchers.launcher import LOCAL, MARK
from ft_tools.runs.processes.worker_session import Session
from ft_tools.runs.request import RunRequest
from ft_tools.runs.state import directory
from ft_tools.runs.state.records import Status
from ft_tools.runs.tool import get_run
from ft_tools.training import settings
from ft_tools.training.plan import plan_sft
from ft_tools.training.settings import share_batch
from ft_tools.training.tool import launch_dpo, launch_sft
from tests.made_runs import made_run
from tests.unit.launches import dpo, sft, started, write

RUN = "sft-0123456789abcdef"


@pytest.fixture
def slurm_here(tmp_path, monkeypatch):
    """Put a program named sbatch on PATH; a plan only looks whether it is there."""
    program = tmp_path / "bin" / "sbatch"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nexit 9\n")
    program.chmod(0o700)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)


@pytest.fixture
def run_dir(workspace):
    """Write a run whose job a scheduler has."""
    return made_run(RUN, files={"job": {"token": "t0k3n", "job_id": "7"}}, backend="slurm")


ONCE = {"num_train_epochs": 1}


def test_a_plan_shows_what_would_be_submitted_and_starts_nothing(files, slurm_here):
    options = {"nodes": 2, "processes": 4, "gpu": "A100-80GB", "sharding": "fsdp"}
    shown = launch_sft(sft(backend="slurm", backend_options=options, training=ONCE))
    place = shown.plan["place"]
    assert "#SBATCH --nodes=2" in place["files"]["job.sh"]
    assert place["commands"][0][0] == "sbatch"
    assert place["engine"]["version"] == 2
    assert shown.plan["device"]["model"] == "A100-80GB"
    assert shown.plan["estimate"]["steps"] == 4
    assert not started()


def test_reference_scores_are_not_computed_before_a_model_is_sharded(files, slurm_here):
    options = {"nodes": 1, "processes": 2, "gpu": "A100-80GB", "sharding": "fsdp"}
    given = {**ONCE, "precompute_ref_log_probs": True}
    with pytest.raises(BadInput, match="before the model is sharded"):
        launch_dpo(dpo(backend="slurm", backend_options=options, training=given))
    assert not started()


def test_a_scheduler_that_is_not_here_is_refused_before_anything_starts(files, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(Missing, match="nothing was started"):
        launch_sft(sft(backend="skypilot", backend_options={"storage": "s3://mine/runs"}))
    assert not started()


@pytest.mark.parametrize(
    ("card", "precision", "gib"), [("RTX 4090", "bfloat16", 23.05), ("T4", "float16", 14.2)]
)
def test_a_plan_for_a_named_card_follows_the_card_and_not_this_machine(
    files, monkeypatch, card, precision, gib
):
    monkeypatch.setenv("PATH", "/nowhere")
    shown = launch_sft(sft(method="qlora", backend_options={"gpu": card}, export_dir="there"))
    plan = shown.plan
    assert (plan["device"]["name"], plan["device"]["precision"]) == ("cuda", precision)
    assert plan["weights_dtype"] == precision
    # So small a model is not recomputed.
    assert plan["training"]["gradient_checkpointing"] is False
    assert plan["missing"] == []
    assert plan["estimate"]["vram"]["usable_gib"] == pytest.approx(gib, abs=0.1)
    assert plan["estimate"]["duration"]["low_seconds"] > 0
    (step,) = shown.next_steps
    assert step.tool == "evaluate"
    assert step.arguments == {"model": "there/trl-output/final", "baseline": "instruct"}
    assert f"copy the folder to 1x {card}" in step.why
    assert "; add `dataset`, with rows" in step.why
    write(files / "test.jsonl", 60, 70)
    again = launch_sft(sft(method="qlora", backend_options={"gpu": card}, export_dir="again"))
    assert again.next_steps[0].arguments["dataset"] == str(files / "test.jsonl")
    assert "add `dataset`" not in again.next_steps[0].why
    script = (files / "there" / "train.py").read_text()
    assert f"DTYPE = '{precision}'" in script
    assert "'use_cpu': False" in script
    assert "'activation_checkpointing': False" in script
    assert "gradient_checkpointing: false" in (files / "there" / "axolotl.yaml").read_text()


def test_a_plan_for_a_card_elsewhere_is_exported_and_never_started_here(files):
    request = sft(backend_options={"gpu": "RTX 4090", "processes": 2})
    shown = launch_sft(request)
    assert shown.plan["place"]["exported_for"] == "2x RTX 4090"
    (step,) = shown.next_steps
    assert "confirm" not in step.arguments
    assert launch_sft(request.model_validate(step.arguments)).plan_hash == shown.plan_hash
    with pytest.raises(BadInput, match=r"for 2x RTX 4090, .*; run the exported script there"):
        launch_sft(request.model_copy(update={"confirm": shown.plan_hash}))
    with pytest.raises(BadInput, match="export_dir writes files and confirm starts a run"):
        launch_sft(request.model_copy(update={"confirm": shown.plan_hash, "export_dir": "both"}))
    assert not started()


@pytest.mark.parametrize(
    ("micro", "accumulation", "processes", "expected"),
    [(4, 4, 1, (4, 4)), (4, 4, 2, (4, 2)), (4, 4, 8, (2, 1)), (6, 1, 2, (3, 1)), (3, 4, 2, (3, 2))],
)
def test_a_step_sees_the_same_examples_on_any_number_of_processes(
    micro, accumulation, processes, expected
):
    training = {"per_device_train_batch_size": micro, "gradient_accumulation_steps": accumulation}
    share_batch(training, processes)
    shared = (training["per_device_train_batch_size"], training["gradient_accumulation_steps"])
    assert shared == expected
    assert shared[0] * shared[1] * processes == micro * accumulation


def test_a_step_that_cannot_be_divided_is_refused(files):
    training = {"per_device_train_batch_size": 3, "gradient_accumulation_steps": 1}
    options = {"device": "cpu", "processes": 2}
    with pytest.raises(BadInput, match="3 examples per step cannot be divided among 2"):
        plan_sft(sft(training=training, backend_options=options))


def test_no_rank_stops_alone(run_dir, monkeypatch):
    (run_dir / "cancel").touch()
    assert Session(run_dir).should_stop
    monkeypatch.setenv(MARK, LOCAL)
    monkeypatch.setenv("WORLD_SIZE", "2")
    session = Session(run_dir)
    assert not session.should_stop
    assert session.is_asked


def test_a_run_with_a_job_is_not_called_interrupted_because_nobody_here_holds_it(run_dir):
    directory.write_status(run_dir, Status(state="running"))
    assert get_run(RunRequest(run_id=RUN)).state == "running"
    (run_dir / directory.JOB).unlink()
    assert get_run(RunRequest(run_id=RUN)).state == "interrupted"


def test_a_kernel_that_was_planned_and_fetched_is_planned_while_the_hub_is_silent(
    workspace, tmp_path, monkeypatch
):
    taken = next(each.version for each in kernels_versions() if each.operator == ">=")
    (tmp_path / "kernels.py").touch()
    about = tmp_path / f"kernels-{taken}.dist-info" / "METADATA"
    about.parent.mkdir()
    about.write_text(f"Metadata-Version: 2.1\nName: kernels\nVersion: {taken}\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    commit = "0123456789abcdef0123456789abcdef01234567"

    def planned(info):
        settings._kernel_commit.cache_clear()
        monkeypatch.setattr("huggingface_hub.HfApi.kernel_info", info)
        return settings.flash_attention()

    def silent(*_, **__):
        raise OSError

    assert planned(lambda *_, **__: SimpleNamespace(sha=commit)).endswith(f"@{commit}")
    assert planned(silent) == ""
    (tmp_path / "hub" / "kernels--kernels-community--flash-attn2" / "snapshots" / commit).mkdir(
        parents=True
    )
    assert planned(silent).endswith(f"@{commit}")
    # transformers takes no other versions.
    about.write_text(about.read_text().replace(taken, "0.17.2"))
    assert planned(silent) == ""
    settings._kernel_commit.cache_clear()
