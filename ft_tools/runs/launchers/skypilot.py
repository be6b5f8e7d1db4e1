"""SkyPilot: a managed job on a machine of some cloud, whose files are kept in a bucket."""

import json
import shlex

from ft_tools.runs.launchers.job import UNKNOWN, Hint, Job, Launcher, inside
from ft_tools.runs.launchers.options import Options, SkyPilotOptions
from ft_tools.runs.launchers.torchrun import on_one_machine

TASK = "job.sky.yaml"
KEPT = "/fine-tuning-llm"
"""Where the bucket is mounted there."""
RUNS = "/tmp/fine-tuning-llm/runs"
RESTARTS_ON_ERRORS = 3
# Source: sky/jobs/state.py of SkyPilot 0.14, ManagedJobStatus.
WAITING = {"PENDING", "SUBMITTED", "STARTING", "RECOVERING"}
RUNNING = {"RUNNING", "CANCELLING", "WINDING_DOWN"}
ENDED = {
    "SUCCEEDED": None,
    "CANCELLED": "user",
    "FAILED": "crash",
    "FAILED_SETUP": "crash",
    "FAILED_PRECHECKS": "crash",
    "FAILED_NO_RESOURCE": "crash",
    "FAILED_CONTROLLER": "crash",
}

# Its controller is stopped some minutes after the last job, and says this of all that ended.
# Source: sky/jobs/server/core.py of SkyPilot 0.14.
NONE_LEFT = "No in-progress managed jobs"


def _options(options: Options) -> SkyPilotOptions:
    assert isinstance(options, SkyPilotOptions)
    return options


def files(job: Job) -> dict[str, str]:
    """Return the task; it is JSON, which every YAML parser reads."""
    return {TASK: json.dumps(task(job), indent=1) + "\n"}


def task(job: Job) -> dict[str, object]:
    """Return the task as SkyPilot's YAML has it."""
    options = _options(job.options)
    resources: dict[str, object] = {
        "use_spot": options.use_spot,
        "job_recovery": {"strategy": "FAILOVER", "max_restarts_on_errors": RESTARTS_ON_ERRORS},
    }
    if options.accelerator:
        resources["accelerators"] = f"{options.accelerator}:{options.processes}"
    if options.infra:
        resources["infra"] = options.infra
    if options.memory_gib:
        resources["memory"] = f"{options.memory_gib}+"
    there = f"{RUNS}/{job.run_id}"
    worker = on_one_machine("python", job.module, there, options.processes)
    inner = Job(job.run_id, there, job.module, job.token, "python", options, job.environment)
    scheme, _, place = options.storage.partition("://")
    bucket, *folder = filter(None, place.split("/"))
    kept = "/".join([KEPT, *folder, job.run_id])
    given = ("--bundle", ".", "--kept", kept)
    return {
        "name": job.name,
        "resources": resources,
        "num_nodes": 1,
        "workdir": f"{job.run_dir}/bundle",
        # It mounts whole buckets only. Source: sky/data/storage.py of SkyPilot 0.14.
        "file_mounts": {KEPT: {"source": f"{scheme}://{bucket}", "mode": "MOUNT"}},
        "envs": {**job.environment, "PYTHONPATH": "code"},
        "setup": "python -m pip install --quiet --requirement requirements.txt",
        "run": f"exec {shlex.join(inside(inner, worker, *given))}",
    }


def submit(job: Job) -> list[str]:
    """Return the `sky jobs launch` command."""
    launch = ["sky", "jobs", "launch", "--yes", "--detach-run", "--name", job_id(job, "")]
    return [*launch, f"{job.run_dir}/{TASK}"]


def job_id(job: Job, _: str) -> str:
    """Return the name that we gave the job: one a submission."""
    return f"{job.name}-{job.token}"


def look(_: Options, name: str) -> list[str]:
    """Return the command that shows the managed jobs; it cannot be asked for one of them."""
    return ["sky", "jobs", "queue", "--all", "--output", "json"]


def hint(return_code: int, printed: str, name: str) -> Hint:
    """Read the line of one job in what `sky jobs queue` prints.

    >>> hint(0, '[{"job_name": "ft-1", "status": "RECOVERING"}]', "ft-1")
    Hint(state='waiting', said='RECOVERING', reason=None)
    """
    if return_code:
        return Hint("ended", "forgotten") if NONE_LEFT in printed else UNKNOWN
    try:
        found = json.loads(printed[printed.index("[") : printed.rindex("]") + 1])
    except ValueError:
        return UNKNOWN
    states = [str(row.get("status")) for row in found if row.get("job_name") == name]
    state = states[0].rpartition(".")[2] if states else "forgotten"
    if state in WAITING:
        return Hint("waiting", state)
    if state in RUNNING:
        return Hint("running", state)
    return Hint("ended", state, ENDED.get(state, "crash"))


def stop(_: Options, name: str) -> list[str]:
    """Return the command that ends a job."""
    return ["sky", "jobs", "cancel", "--yes", "--name", name]


def fetch(options: Options, storage: str, folder: str) -> list[str]:
    """Return the command that brings a run's files from the bucket here, without checkpoints."""
    if storage.startswith("s3://"):
        return ["aws", "s3", "sync", "--only-show-errors", "--exclude", "checkpoints/*",
                storage, folder]  # fmt: skip
    return ["gcloud", "storage", "rsync", "--recursive", "--exclude", "^checkpoints/.*",
            storage, folder]  # fmt: skip


LAUNCHER = Launcher(
    program="sky",
    cure="pip install 'skypilot[aws]' (or another cloud) in an environment on PATH, and sky check",
    files=files,
    submit=submit,
    job_id=job_id,
    look=look,
    hint=hint,
    stop=stop,
    fetch=fetch,
)
