"""Launchers: what may be asked of them, what they would submit, what they read from a scheduler."""

import shlex
import subprocess
from pathlib import Path

import pytest

from ft_tools.errors import BadInput, Missing
from ft_tools.runs.launchers import skypilot, slurm
from ft_tools.runs.launchers.launcher import MARK, Job, Options
from ft_tools.runs.launchers.table import LAUNCHERS, parse, require_programs

GIVEN = {
    "slurm": {"nodes": 2, "processes": 4, "gpu": "A100-80GB", "partition": "gpu"},
    "ray": {"processes": 2, "gpu": "L4"},
    "skypilot": {"storage": "s3://mine/runs", "accelerator": "H100", "gpu": "H100-80GB"},
}  # fmt: skip


JOB = Job("sft-0123456789abcdef", "/runs of me/sft-0123456789abcdef",
          "ft_tools.training.worker.sft", "t0k3n", "/venv/python",
          {MARK: "t0k3n", "PYTHONPATH": "/it's here"})  # fmt: skip


def launcher_of(backend, **changed):
    return parse(backend, GIVEN[backend] | changed)


@pytest.mark.parametrize(
    ("backend", "given", "told"),
    [
        ("local", {"nodes": 2}, "nodes"),
        ("local", {"sharding": "fsdp"}, "processes"),
        ("slurm", {"sharding": "zero3", "processes": 2, "gpu": "A100-80GB"}, "fsdp"),
        ("local", {"python": "/bin/python"}, "python"),
        ("local", {"gpu": "L4", "device": "cuda"}, "device"),
        ("local", {"sharding": "fsdp", "processes": 2, "device": "cpu"}, "sharding"),
        ("local", {"device": "tpu"}, "device"),
        ("slurm", {"partition": "gpu\n#SBATCH --wrap=x"}, "partition"),
        ("slurm", {"modules": ["cuda; reboot"]}, "modules"),
        ("slurm", {"constraint": "a100 #"}, "constraint"),
        ("slurm", {"python": "python"}, "python"),
        ("slurm", {"gpu_type": "a100"}, "gpu_type"),
        ("ray", {"address": "--help"}, "address"),
        ("skypilot", {"storage": "ftp://x"}, "storage"),
        ("skypilot", {"storage": "s3://mine/runs", "accelerator": "H100"}, "accelerator"),
        ("skypilot", {"storage": "s3://mine/runs", "gpu": "H100-80GB"}, "accelerator"),
    ],
)
def test_an_option_that_cannot_be_used_is_refused_by_name(backend, given, told):
    with pytest.raises(BadInput, match=rf"backend_options of {backend}: .*{told}"):
        parse(backend, given)


def test_a_slurm_script_is_shell_and_quotes_what_it_is_given(tmp_path):
    text = launcher_of("slurm").files(JOB)[slurm.SCRIPT]
    script = tmp_path / "job.sh"
    script.write_text(text)
    subprocess.run(["bash", "-n", str(script)], check=True)
    assert "#SBATCH --gpus-per-node=4\n" in text
    assert "#SBATCH --requeue\n" in text
    assert f"export PYTHONPATH={shlex.quote(chr(47) + chr(105) + 't' + chr(39) + 's here')}" in text
    last = shlex.split(text.splitlines()[-1])
    assert last[:5] == ["exec", "/venv/python", "-P", "-m", "ft_tools.runs.launchers.inside_job"]
    assert last[5:7] == ["/runs of me/sft-0123456789abcdef", "t0k3n"]
    inside = last[last.index("--") + 1 :]
    assert inside[0] == "srun"
    assert inside[inside.index("--rdzv_endpoint") + 1] == "$HEAD:$PORT"


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
    asked = launcher_of("skypilot", storage=storage)
    task = asked.task(JOB)
    (mounted,) = task["file_mounts"].items()
    assert mounted == (skypilot.KEPT, {"source": bucket, "mode": "MOUNT"})
    words = shlex.split(task["run"])
    kept = words[words.index("--kept") + 1]
    assert kept == f"{skypilot.KEPT}/{folder}{JOB.run_id}"
    fetched = asked.fetch(JOB.run_id, "here")[-2]
    assert kept.replace(skypilot.KEPT, bucket) == fetched


@pytest.mark.parametrize("backend", LAUNCHERS)
def test_a_launcher_and_its_options_are_documented(backend):
    text = (Path(__file__).parents[2] / "references" / "scaling.md").read_text(encoding="utf-8")
    (runs_on, options) = [line for line in text.splitlines() if line.startswith(f"| `{backend}` |")]
    assert f"`{LAUNCHERS[backend].program}`" in runs_on
    own = LAUNCHERS[backend].model_fields.keys() - Options.model_fields.keys()
    assert [name for name in own if f"`{name}`" not in options] == []


@pytest.mark.parametrize("backend", LAUNCHERS)
def test_a_launcher_calls_its_program_and_says_how_to_install_it(backend, monkeypatch):
    launcher = launcher_of(backend)
    submit, status, cancel = launcher.submit(JOB), launcher.status("7"), launcher.cancel("7")
    assert submit[0] == launcher.program
    assert all(isinstance(word, str) for word in [*submit, *status, *cancel])
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(Missing, match=launcher.program):
        require_programs(backend, launcher)
    require_programs("local", parse("local", {}))


@pytest.mark.parametrize(
    ("backend", "code", "printed", "state", "reason"),
    [
        ("slurm", 0, "JobState=PENDING Reason=Priority", "waiting", None),
        ("slurm", 0, "JobState=COMPLETING Reason=None", "running", None),
        ("slurm", 0, "JobState=TIMEOUT Reason=TimeLimit", "ended", "timeout"),
        ("slurm", 0, "JobState=OUT_OF_MEMORY Reason=OutOfMemory", "ended", "out_of_memory"),
        ("slurm", 0, "JobState=NODE_FAIL Reason=None", "ended", "crash"),
        ("slurm", 0, "", "unknown", None),
        ("slurm", 1, "slurm_load_jobs error: Unable to contact slurm controller", "unknown", None),
        ("ray", 0, "Job 'x' failed", "ended", "crash"),
        ("ray", 0, "Job 'x' was stopped", "ended", "user"),
        ("ray", 1, "RuntimeError: Job x does not exist.", "ended", None),
        ("skypilot", 0, '[{"job_name": "x", "status": "RECOVERING"}]', "waiting", None),
        ("skypilot", 0, '[{"job_name": "x", "status": "FAILED_SETUP"}]', "ended", "crash"),
        ("skypilot", 0, "[]", "ended", "crash"),
        ("skypilot", 0, "no server", "unknown", None),
        ("skypilot", 1, "ClusterNotUpError: No in-progress managed jobs.", "ended", None),
        ("skypilot", 1, "ConnectionError: could not reach the API server", "unknown", None),
    ],
)
def test_an_answer_that_cannot_be_read_is_no_end_of_a_job(backend, code, printed, state, reason):
    said = launcher_of(backend).read_status(code, printed, "x")
    assert (said.state, said.reason) == (state, reason)
