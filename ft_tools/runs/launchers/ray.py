"""Ray: `ray job submit` to a cluster that sees the run's folder."""

import json
import re

from ft_tools.runs.launchers.job import UNKNOWN, Hint, Job, Launcher, inside
from ft_tools.runs.launchers.options import Options, RayOptions
from ft_tools.runs.launchers.torchrun import on_one_machine

# Source: ray/dashboard/modules/job/cli.py of Ray 2.60, which prints these.
STATES = {
    "PENDING": Hint("waiting", "PENDING"),
    "RUNNING": Hint("running", "RUNNING"),
    "SUCCEEDED": Hint("ended", "SUCCEEDED"),
    "STOPPED": Hint("ended", "STOPPED", "user"),
    "FAILED": Hint("ended", "FAILED", "crash"),
}
SAID = re.compile(r"(?:Status for job '[^']*':|Job '[^']*') ([A-Za-z]+)")


def _address(options: Options) -> str:
    assert isinstance(options, RayOptions)
    return options.address


def files(_: Job) -> dict[str, str]:
    """Return no files: the command says everything."""
    return {}


def submit(job: Job) -> list[str]:
    """Return the `ray job submit` command; the id is ours."""
    options = job.options
    assert isinstance(options, RayOptions)
    around = {"env_vars": dict(job.environment)}
    command = ["ray", "job", "submit", "--no-wait", "--address", options.address]
    command += ["--submission-id", job_id(job, ""), "--runtime-env-json", json.dumps(around)]
    if options.gpu:
        command += ["--entrypoint-num-gpus", str(options.processes)]
    if options.cpus:
        command += ["--entrypoint-num-cpus", str(options.cpus)]
    worker = on_one_machine(job.python, job.module, job.run_dir, options.processes)
    return [*command, "--", *inside(job, worker)]


def job_id(job: Job, _: str) -> str:
    """Return the id that we gave the job: one a submission."""
    return f"{job.name}-{job.token}"


def look(options: Options, name: str) -> list[str]:
    """Return the command that shows a job."""
    return ["ray", "job", "status", "--address", _address(options), name]


def hint(return_code: int, printed: str, _: str = "") -> Hint:
    """Read what `ray job status` prints.

    >>> hint(0, "Status for job 'ft-1': RUNNING")
    Hint(state='running', said='RUNNING', reason=None)
    >>> hint(0, "Job 'ft-1' succeeded").state, hint(1, "job ft-1 does not exist").state
    ('ended', 'ended')
    >>> hint(1, "Failed to connect to Ray at address").state
    'unknown'
    """
    found = SAID.search(printed)
    if found:
        word = found[1].upper()
        return STATES.get("STOPPED" if word == "WAS" else word, UNKNOWN)
    return Hint("ended", "forgotten") if "does not exist" in printed else UNKNOWN


def stop(options: Options, name: str) -> list[str]:
    """Return the command that ends a job."""
    return ["ray", "job", "stop", "--no-wait", "--address", _address(options), name]


LAUNCHER = Launcher(
    program="ray",
    cure="pip install 'ray[default]' in an environment on PATH, and start a cluster (ray start)",
    files=files,
    submit=submit,
    job_id=job_id,
    look=look,
    hint=hint,
    stop=stop,
)
