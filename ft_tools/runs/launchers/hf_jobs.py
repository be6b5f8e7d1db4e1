"""Hugging Face Jobs: `hf jobs run`, with the run's files in a bucket that the job mounts."""

import json
import shlex

from ft_tools.runs.launchers.job import UNKNOWN, Hint, Job, Launcher, inside
from ft_tools.runs.launchers.options import HfJobsOptions, Options
from ft_tools.runs.launchers.torchrun import on_one_machine

KEPT = "/fine-tuning-llm"
"""Where the bucket is mounted there."""
RUNS = "/tmp/fine-tuning-llm/runs"
INSTALL = "python -m pip install --quiet --requirement requirements.txt"
# Source: huggingface_hub 2.4, JobStage.
STAGES = {
    "SCHEDULING": Hint("waiting", "SCHEDULING"),
    "RUNNING": Hint("running", "RUNNING"),
    "COMPLETED": Hint("ended", "COMPLETED"),
    "CANCELED": Hint("ended", "CANCELED", "user"),
    "ERROR": Hint("ended", "ERROR", "crash"),
    "DELETED": Hint("ended", "DELETED", "user"),
}


def _options(options: Options) -> HfJobsOptions:
    assert isinstance(options, HfJobsOptions)
    return options


def files(_: Job) -> dict[str, str]:
    """Return no files: the command says everything."""
    return {}


def submit(job: Job) -> list[str]:
    """Return the `hf jobs run` command; the token is named, its value is not in it."""
    options = _options(job.options)
    there = f"{RUNS}/{job.run_id}"
    worker = on_one_machine("python", job.module, there, options.processes)
    inner = Job(job.run_id, there, job.module, job.token, "python", options, job.environment)
    kept = f"{KEPT}/{job.run_id}"
    given = ("--bundle", f"{kept}/bundle", "--kept", kept)
    command = ["hf", "jobs", "run", "--detach", "--json", "--name", job.name]
    command += ["--flavor", options.flavor, "--timeout", options.timeout]
    command += ["--attempts", str(options.attempts), "--secrets", "HF_TOKEN"]
    command += ["--volume", f"{options.storage.rstrip('/')}:{KEPT}"]
    around = {**job.environment, "PYTHONPATH": f"{kept}/bundle/code"}
    for name, value in around.items():
        command += ["--env", f"{name}={value}"]
    line = f"cd {kept}/bundle && {INSTALL} && exec {shlex.join(inside(inner, worker, *given))}"
    return [*command, options.image, "bash", "-c", line]


def job_id(_: Job, printed: str) -> str:
    """Return the id out of what `hf jobs run --json` prints.

    >>> job_id(None, '{"message": "Job started", "id": "68f0", "url": "https://x"}')
    '68f0'
    """
    for line in printed.splitlines():
        try:
            return str(json.loads(line)["id"])
        except (ValueError, KeyError, TypeError):
            continue
    return ""


def look(_: Options, number: str) -> list[str]:
    """Return the command that shows a job."""
    return ["hf", "jobs", "inspect", "--json", number]


def hint(return_code: int, printed: str, _: str = "") -> Hint:
    """Read what `hf jobs inspect --json` prints.

    >>> hint(0, '[{"id": "68f0", "status": {"stage": "RUNNING", "message": null}}]').state
    'running'
    """
    if return_code:
        return Hint("ended", "forgotten") if "404" in printed else UNKNOWN
    try:
        (found,) = json.loads(printed)
        return STAGES[found["status"]["stage"]]
    except (ValueError, KeyError, TypeError):
        return UNKNOWN


def stop(_: Options, number: str) -> list[str]:
    """Return the command that ends a job."""
    return ["hf", "jobs", "cancel", number]


def fetch(_: Options, storage: str, folder: str) -> list[str]:
    """Return the command that brings a run's files from the bucket here, without checkpoints."""
    without = ["--exclude", "checkpoints/*", "--exclude", "bundle/*"]
    return ["hf", "buckets", "sync", storage, folder, *without]


def send(_: Options, folder: str, storage: str) -> list[str]:
    """Return the command that takes a bundle to the bucket."""
    return ["hf", "buckets", "sync", folder, storage]


LAUNCHER = Launcher(
    program="hf",
    cure="pip install 'huggingface_hub>=2.4' in an environment on PATH, and hf auth login",
    files=files,
    submit=submit,
    job_id=job_id,
    look=look,
    hint=hint,
    stop=stop,
    fetch=fetch,
    send=send,
)
