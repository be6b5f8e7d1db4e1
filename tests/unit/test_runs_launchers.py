"""Launchers: what may be asked of them, what they would submit, what they read from a scheduler."""

import re
import shlex
import subprocess

import pytest

from ft_tools.errors import BadInput, Missing
from ft_tools.runs.bundle import storage as kept_in
from ft_tools.runs.launchers import hf_jobs, ray, skypilot, slurm
from ft_tools.runs.launchers.job import Job
from ft_tools.runs.launchers.options import parse
from ft_tools.runs.launchers.table import LAUNCHERS, require_programs
from ft_tools.runs.launchers.torchrun import MARK
from ft_tools.runs.remote_run import submissions

BUCKET = {"storage": "hf://buckets/me/runs"}
GIVEN = {
    "slurm": {"nodes": 2, "processes": 4, "gpu": "A100-80GB", "partition": "gpu"},
    "ray": {"processes": 2, "gpu": "L4"},
    "skypilot": {"storage": "s3://mine/runs", "accelerator": "H100", "gpu": "H100-80GB"},
    "hf_jobs": {**BUCKET, "flavor": "a10g-largex2", "processes": 2,
                "gpu": "A10G"},
}  # fmt: skip


def job(backend, **changed):
    options = parse(backend, GIVEN[backend] | changed)
    environment = {MARK: "t0k3n", "PYTHONPATH": "/it's here"}
    run_id = "sft-0123456789abcdef"
    folder = f"/runs of me/{run_id}"
    return Job(
        run_id,
        folder,
        "ft_tools.training.worker.sft",
        "t0k3n",
        "/venv/python",
        options,
        environment,
    )


@pytest.mark.parametrize(
    ("backend", "given", "told"),
    [
        ("local", {"nodes": 2}, "less than or equal to 1"),
        ("local", {"partition": "x"}, "known: device, gpu, nodes"),
        ("local", {"sharding": "fsdp"}, "backend_options of local: sharding='fsdp' needs several"),
        ("local", {"python": "/bin/python"}, "backend_options of local: the interpreter here"),
        ("local", {"gpu": "L4", "device": "cuda"}, "leave one of them out"),
        ("local", {"sharding": "fsdp", "processes": 2, "device": "cpu"}, "needs GPUs"),
        ("local", {"device": "tpu"}, "backend_options.device"),
        ("slurm", {"partition": "gpu; rm -rf /"}, "backend_options.partition"),
        ("slurm", {"partition": "gpu\n#SBATCH --wrap=x"}, "backend_options.partition"),
        ("slurm", {"account": "a b"}, "account='a b' of slurm: only letters, digits and"),
        ("slurm", {"nodes": 0}, "nodes=0 of slurm: must be greater than or equal to 1"),
        ("slurm", {"num_nodes": 2}, "known: account"),
        ("slurm", {"partition": "gpu\n"}, "backend_options.partition"),
        ("slurm", {"modules": ["cuda; reboot"]}, "no name of a module"),
        ("slurm", {"modules": ["cuda\n"]}, "no name of a module"),
        ("slurm", {"constraint": "a100\n#SBATCH --wrap=x"}, "backend_options.constraint"),
        ("slurm", {"constraint": "a100 #"}, "backend_options.constraint"),
        ("slurm", {"time_limit": "soon"}, "backend_options.time_limit"),
        ("slurm", {"time_limit": "5"}, "more than half"),
        ("slurm", {"python": "python"}, "backend_options.python"),
        ("ray", {"address": "--help"}, "backend_options.address"),
        ("skypilot", {"storage": "s3://mine/runs", "nodes": 2}, "this backend takes one"),
        ("skypilot", {}, "backend_options.storage of skypilot: Field required. Bucket"),
        ("slurm", {"gpu_type": "a100"}, "gpu_type='a100' without gpu: name the card"),
        ("skypilot", {"storage": "s3://mine/runs", "accelerator": "H100"}, "without gpu"),
        ("skypilot", {"storage": "s3://mine/runs", "gpu": "H100-80GB"}, "without accelerator"),
        ("hf_jobs", BUCKET, "'a10g-large' without gpu"),
        ("hf_jobs", BUCKET | {"flavor": "cpu-upgrade", "gpu": "L4"}, "has no card"),
        ("hf_jobs", BUCKET | {"flavor": "l4x4", "gpu": "L4"}, "4 cards; give processes=4"),
        ("skypilot", {"storage": "ftp://x"}, "backend_options.storage"),
        ("hf_jobs", BUCKET | {"flavor": "--x"}, "backend_options.flavor"),
    ],
)
def test_an_option_that_cannot_be_used_is_refused_by_name(backend, given, told):
    with pytest.raises(BadInput) as raised:
        parse(backend, given)
    assert told in str(raised.value)


@pytest.mark.parametrize("flavor", ["cpu-basic", "cpu-upgrade"])
def test_a_machine_of_hugging_face_without_a_card_needs_none_named(flavor):
    assert parse("hf_jobs", BUCKET | {"flavor": flavor}).gpu == ""


def test_a_slurm_script_is_shell_and_quotes_what_it_is_given(tmp_path):
    text = LAUNCHERS["slurm"].files(job("slurm"))[slurm.SCRIPT]
    script = tmp_path / "job.sh"
    script.write_text(text)
    subprocess.run(["bash", "-n", str(script)], check=True)
    assert "#SBATCH --gpus-per-node=4\n" in text
    assert "#SBATCH --requeue\n" in text
    assert f"export PYTHONPATH={shlex.quote(chr(47) + chr(105) + 't' + chr(39) + 's here')}" in text
    last = shlex.split(text.splitlines()[-1])
    assert last[:5] == ["exec", "/venv/python", "-P", "-m", "ft_tools.runs.inside_job"]
    assert last[5:7] == ["/runs of me/sft-0123456789abcdef", "t0k3n"]
    inside = last[last.index("--") + 1 :]
    assert inside[0] == "srun"
    assert inside[inside.index("--rdzv_endpoint") + 1] == "$HEAD:$PORT"


def test_slurm_takes_alternatives_of_features_and_names_of_modules_as_sites_have_them():
    modules = ("cuda/12.1_cudnn-8.9", "GCC/12.3.0", "libstdc++")
    asked = job("slurm", constraint="[a100|h100*2]&ib", modules=modules)
    text = slurm.files(asked)[slurm.SCRIPT]
    assert "#SBATCH --constraint=[a100|h100*2]&ib\n" in text
    assert [line.split() for line in text.splitlines() if line.startswith("module")] == [
        ["module", "load", name] for name in modules
    ]


@pytest.mark.parametrize(
    ("storage", "bucket", "folder"),
    [
        ("s3://mine", "s3://mine", ""),
        ("gs://mine/", "gs://mine", ""),
        ("s3://mine/ft/runs/", "s3://mine", "ft/runs/"),
    ],
)
def test_skypilot_mounts_a_whole_bucket_and_the_job_writes_where_it_is_fetched_from(
    storage, bucket, folder
):
    asked = job("skypilot", storage=storage)
    task = skypilot.task(asked)
    (mounted,) = task["file_mounts"].items()
    assert mounted == (skypilot.KEPT, {"source": bucket, "mode": "MOUNT"})
    words = shlex.split(task["run"])
    kept = words[words.index("--kept") + 1]
    assert kept == f"{skypilot.KEPT}/{folder}{asked.run_id}"
    assert kept.replace(skypilot.KEPT, bucket) == kept_in(asked.options, asked.run_id)


@pytest.mark.parametrize("backend", sorted(GIVEN))
def test_every_launcher_submits_by_an_argv_that_begins_with_its_program(backend):
    launcher = LAUNCHERS[backend]
    _, commands = submissions(launcher, job(backend))
    assert commands
    assert {argv[0] for argv in commands} == {launcher.program}
    assert all(isinstance(word, str) for argv in commands for word in argv)
    others = [launcher.look(job(backend).options, "7"), launcher.stop(job(backend).options, "7")]
    assert all(shlex.join(argv) for argv in others)


@pytest.mark.parametrize("backend", sorted(GIVEN))
def test_a_backend_without_its_program_says_what_to_install(backend, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(Missing) as raised:
        require_programs(backend, job(backend).options)
    assert LAUNCHERS[backend].program in str(raised.value)
    assert "nothing was started" in str(raised.value)
    require_programs("local", parse("local", {}))


def test_the_client_that_fetches_results_is_looked_for_too(tmp_path, monkeypatch):
    (tmp_path / "sky").write_text("#!/bin/sh\n")
    (tmp_path / "sky").chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path))
    for storage, program in (("s3://mine/runs", "'aws'"), ("gs://mine/runs", "'gcloud'")):
        with pytest.raises(Missing, match=program):
            require_programs("skypilot", parse("skypilot", {"storage": storage}))


@pytest.mark.parametrize(
    ("launcher", "code", "printed", "state", "reason"),
    [
        (slurm, 0, "JobState=PENDING Reason=Priority", "waiting", None),
        (slurm, 0, "JobState=COMPLETING Reason=None", "running", None),
        (slurm, 0, "JobState=TIMEOUT Reason=TimeLimit", "ended", "timeout"),
        (slurm, 0, "JobState=OUT_OF_MEMORY Reason=OutOfMemory", "ended", "out_of_memory"),
        (slurm, 0, "JobState=NODE_FAIL Reason=None", "ended", "crash"),
        (slurm, 0, "", "unknown", None),
        (slurm, 1, "slurm_load_jobs error: Unable to contact slurm controller", "unknown", None),
        (ray, 0, "Job 'x' failed", "ended", "crash"),
        (ray, 0, "Job 'x' was stopped", "ended", "user"),
        (ray, 1, "RuntimeError: Job x does not exist.", "ended", None),
        (skypilot, 0, '[{"job_name": "x", "status": "RECOVERING"}]', "waiting", None),
        (skypilot, 0, '[{"job_name": "x", "status": "FAILED_SETUP"}]', "ended", "crash"),
        (skypilot, 0, "[]", "ended", "crash"),
        (skypilot, 0, "no server", "unknown", None),
        (skypilot, 1, "ClusterNotUpError: No in-progress managed jobs.", "ended", None),
        (skypilot, 1, "ConnectionError: could not reach the API server", "unknown", None),
        (hf_jobs, 0, '[{"status": {"stage": "COMPLETED"}}]', "ended", None),
        (hf_jobs, 0, '[{"status": {"stage": "NEW_ONE"}}]', "unknown", None),
        (hf_jobs, 1, "offline", "unknown", None),
    ],
)
def test_what_a_scheduler_says_is_only_a_hint_and_nonsense_is_no_end(
    launcher, code, printed, state, reason
):
    hint = launcher.LAUNCHER.hint(code, printed, "x")
    assert (hint.state, hint.reason) == (state, reason)


def test_only_a_job_near_its_time_limit_queues_itself_again():
    near = {"SLURM_JOB_ID": "7", "SLURM_JOB_END_TIME": "1000", slurm.WARNED_VARIABLE: "300"}
    assert slurm.again(near, 1000 - 360) == ["scontrol", "requeue", "7"]
    assert slurm.again(near, 1000 - 500) == []
    assert slurm.again(near | {"SLURM_JOB_END_TIME": ""}, 999) == []
    assert slurm.again({}, 0) == []


@pytest.mark.parametrize("requeue", [True, False])
def test_a_job_that_was_asked_to_run_once_does_not_queue_itself_again(requeue):
    asked = job("slurm", requeue=requeue, time_limit="10", signal_seconds=60)
    script = slurm.files(asked)[slurm.SCRIPT]
    exported = dict(re.findall(r"^export (\w+)=(\S*)$", script, re.MULTILINE))
    near = exported | {"SLURM_JOB_ID": "7", "SLURM_JOB_END_TIME": "1000"}
    assert bool(slurm.again(near, 1000 - 60)) == requeue
