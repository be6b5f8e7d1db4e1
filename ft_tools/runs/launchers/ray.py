"""Ray: `ray job submit` to a cluster that sees the run's folder."""

import json
import re

from pydantic import Field

from ft_tools.runs.launchers.launcher import (
    FORGOTTEN,
    UNKNOWN,
    Job,
    JobState,
    Launcher,
    Options,
    States,
    inside,
    on_one_machine,
)

# Source: ray/dashboard/modules/job/cli.py of Ray 2.60, which prints these.
STATES = States(
    waiting={"PENDING"},
    running={"RUNNING"},
    ended={"SUCCEEDED": None, "STOPPED": "user", "FAILED": "crash"},
)
SAID = re.compile(r"(?:Status for job '[^']*':|Job '[^']*') ([A-Za-z]+)")


class RayOptions(Options):
    """A Ray cluster that sees the run's folder, by its job server; one machine of it."""

    address: str = Field(
        "http://127.0.0.1:8265",
        pattern=r"^https?://[A-Za-z0-9_.\[\]:-]+/?$",
        description="Of the cluster's job server (its dashboard).",
    )
    cpus: int = Field(0, ge=0, le=1024, description="CPU cores to reserve; 0: none.")


def _address(options: Options) -> str:
    assert isinstance(options, RayOptions)
    return options.address


def submit(job: Job) -> list[str]:
    """Return the `ray job submit` command; the id is ours."""
    options = job.options
    assert isinstance(options, RayOptions)
    around = {"env_vars": dict(job.environment)}
    command = ["ray", "job", "submit", "--no-wait", "--address", options.address]
    command += ["--submission-id", job.unique_name, "--runtime-env-json", json.dumps(around)]
    if options.gpu:
        command += ["--entrypoint-num-gpus", str(options.processes)]
    if options.cpus:
        command += ["--entrypoint-num-cpus", str(options.cpus)]
    worker = on_one_machine(job.python, job.module, job.run_dir, options.processes)
    return [*command, "--", *inside(job, worker)]


def status(options: Options, name: str) -> list[str]:
    """Return the command that shows a job."""
    return ["ray", "job", "status", "--address", _address(options), name]


def read_status(return_code: int, printed: str, _: str = "") -> JobState:
    """Read what `ray job status` prints.

    >>> read_status(0, "Status for job 'ft-1': RUNNING")
    JobState(state='running', text='RUNNING', reason=None)
    >>> read_status(0, "Job 'ft-1' succeeded").state
    'ended'
    >>> read_status(1, "job ft-1 does not exist").state
    'ended'
    >>> read_status(1, "Failed to connect to Ray at address").state
    'unknown'
    """
    if found := SAID.search(printed):
        word = found[1].upper()
        return STATES.read("STOPPED" if word == "WAS" else word)
    return FORGOTTEN if "does not exist" in printed else UNKNOWN


def cancel(options: Options, name: str) -> list[str]:
    """Return the command that ends a job."""
    return ["ray", "job", "stop", "--no-wait", "--address", _address(options), name]


LAUNCHER = Launcher(
    options=RayOptions,
    program="ray",
    cure="pip install 'ray[default]' in an environment on PATH, and start a cluster (ray start)",
    submit=submit,
    job_id=lambda job, _: job.unique_name,
    status=status,
    read_status=read_status,
    cancel=cancel,
)
