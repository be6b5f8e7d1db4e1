"""SkyPilot: a managed job on a machine of some cloud, whose files are kept in a bucket."""

import json
import shlex
from dataclasses import replace

from pydantic import Field, model_validator

from ft_tools.runs.launchers import workdir
from ft_tools.runs.launchers.launcher import (
    FORGOTTEN,
    NAME_THE_CARD,
    UNKNOWN,
    WORD,
    Job,
    JobState,
    Launcher,
    States,
)

TASK = "job.sky.yaml"
KEPT = "/fine-tuning-llm"
"""Where the bucket is mounted there."""
RESTARTS_ON_ERRORS = 3
# Source: sky/jobs/state.py of SkyPilot 0.14, ManagedJobStatus.
STATES = States(
    waiting={"PENDING", "SUBMITTED", "STARTING", "RECOVERING"},
    running={"RUNNING", "CANCELLING", "WINDING_DOWN"},
    ended={"SUCCEEDED": None, "CANCELLED": "user"},
)
# Its controller is stopped some minutes after the last job, and says this of all that ended.
# Source: sky/jobs/server/core.py of SkyPilot 0.14.
NONE_LEFT = "No in-progress managed jobs"


class SkyPilot(Launcher):
    """A machine of any cloud that SkyPilot knows, as a managed job."""

    program = "sky"
    cure = "pip install 'skypilot[aws]' (or another cloud) in an environment on PATH, and sky check"

    storage: str = Field(
        pattern=r"^(s3|gs)://[a-z0-9][A-Za-z0-9._/-]+$",
        description="Bucket, and folder in it, that outlives the machine: s3:// or gs://.",
    )
    accelerator: str = Field(
        "", pattern=f"{WORD}|^$", description="The card's name in SkyPilot: A100-80GB, H100."
    )
    infra: str = Field("", pattern=f"{WORD}|^$", description="aws, gcp/us-east1, k8s, ...")
    use_spot: bool = Field(True, description="Cheaper machines that may be taken away.")
    memory_gib: int = Field(0, ge=0, le=16_384, description="At least so much memory; 0: any.")

    @model_validator(mode="after")
    def _card_is_known(self) -> "SkyPilot":
        if self.accelerator and not self.gpu:
            raise ValueError(f"accelerator={self.accelerator!r} without gpu: {NAME_THE_CARD}")
        if self.gpu and not self.accelerator:
            raise ValueError(
                f"gpu={self.gpu!r} without accelerator: the machine would come without a card; "
                "give accelerator too, by its name in SkyPilot"
            )
        return self

    def files(self, job: Job) -> dict[str, str]:
        """Return the task; it is JSON, which every YAML parser reads."""
        return {TASK: json.dumps(self.task(job), indent=1) + "\n"}

    def task(self, job: Job) -> dict[str, object]:
        """Return the task as SkyPilot's YAML has it."""
        resources: dict[str, object] = {
            "use_spot": self.use_spot,
            "job_recovery": {"strategy": "FAILOVER", "max_restarts_on_errors": RESTARTS_ON_ERRORS},
        }
        if self.accelerator:
            resources["accelerators"] = f"{self.accelerator}:{self.processes}"
        if self.infra:
            resources["infra"] = self.infra
        if self.memory_gib:
            resources["memory"] = f"{self.memory_gib}+"
        there = replace(job, run_dir=f"{workdir.RUNS_THERE}/{job.run_id}", python="python")
        scheme, _, place = self.storage.partition("://")
        bucket, *folder = filter(None, place.split("/"))
        kept = "/".join([KEPT, *folder, job.run_id])
        worker = there.on_one_machine(self.processes)
        return {
            "name": job.name,
            "resources": resources,
            "num_nodes": 1,
            "workdir": f"{job.run_dir}/{workdir.FOLDER}",
            # It mounts whole buckets only. Source: sky/data/storage.py of SkyPilot 0.14.
            "file_mounts": {KEPT: {"source": f"{scheme}://{bucket}", "mode": "MOUNT"}},
            "envs": {**job.environment, "PYTHONPATH": "code"},
            "setup": "python -m pip install --quiet --requirement requirements.txt",
            "run": f"exec {shlex.join(there.inside(worker, '--workdir', '.', '--kept', kept))}",
        }

    def submit(self, job: Job) -> list[str]:
        """Return the `sky jobs launch` command."""
        launch = ["sky", "jobs", "launch", "--yes", "--detach-run", "--name", job.unique_name]
        return [*launch, f"{job.run_dir}/{TASK}"]

    def status(self, job_id: str) -> list[str]:
        """Return the command that shows the managed jobs; it cannot be asked for one of them."""
        return ["sky", "jobs", "queue", "--all", "--output", "json"]

    def read_status(self, return_code: int, printed: str, job_id: str) -> JobState:
        """Read the line of one job in what `sky jobs queue` prints."""
        if return_code:
            return FORGOTTEN if NONE_LEFT in printed else UNKNOWN
        try:
            found = json.loads(printed[printed.index("[") : printed.rindex("]") + 1])
        except ValueError:
            return UNKNOWN
        states = [str(row.get("status")) for row in found if row.get("job_name") == job_id]
        state = states[0].rpartition(".")[2] if states else "forgotten"
        known = STATES.read(state)
        # There are many words for a failure, and new ones.
        return JobState("ended", state, "crash") if known == UNKNOWN else known

    def cancel(self, job_id: str) -> list[str]:
        """Return the command that ends a job."""
        return ["sky", "jobs", "cancel", "--yes", "--name", job_id]

    def fetch(self, run_id: str, folder: str) -> list[str]:
        """Return the command that brings files from the bucket here, without checkpoints."""
        kept = f"{self.storage.rstrip('/')}/{run_id}"
        if kept.startswith("s3://"):
            return ["aws", "s3", "sync", "--only-show-errors", "--exclude", "checkpoints/*",
                    kept, folder]  # fmt: skip
        return ["gcloud", "storage", "rsync", "--recursive", "--exclude", "^checkpoints/.*",
                kept, folder]  # fmt: skip
