"""Ray: `ray job submit` to a cluster that sees the run's folder."""

import json
import re

from pydantic import Field

from ft_tools.runs.launchers.launcher import FORGOTTEN, UNKNOWN, Job, JobState, Launcher, States

# Source: ray/dashboard/modules/job/cli.py of Ray 2.60, which prints these.
STATES = States(
    waiting={"PENDING"},
    running={"RUNNING"},
    ended={"SUCCEEDED": None, "STOPPED": "user", "FAILED": "crash"},
)
SAID = re.compile(r"(?:Status for job '[^']*':|Job '[^']*') ([A-Za-z]+)")


class Ray(Launcher):
    """A Ray cluster that sees the run's folder, by its job server; one machine of it."""

    program = "ray"
    cure = "pip install 'ray[default]' in an environment on PATH, and start a cluster (ray start)"

    address: str = Field(
        "http://127.0.0.1:8265",
        pattern=r"^https?://[A-Za-z0-9_.\[\]:-]+/?$",
        description="Of the cluster's job server (its dashboard).",
    )
    cpus: int = Field(0, ge=0, le=1024, description="CPU cores to reserve; 0: none.")

    def submit(self, job: Job) -> list[str]:
        """Return the `ray job submit` command; the id is ours."""
        around = json.dumps({"env_vars": dict(job.environment)})
        command = [*self._job("submit"), "--no-wait"]
        command += ["--submission-id", job.unique_name, "--runtime-env-json", around]
        command += ["--entrypoint-num-gpus", str(self.processes)] if self.gpu else []
        command += ["--entrypoint-num-cpus", str(self.cpus)] if self.cpus else []
        return [*command, "--", *job.inside(job.on_one_machine(self.processes))]

    def status(self, job_id: str) -> list[str]:
        """Return the command that shows a job."""
        return [*self._job("status"), job_id]

    def read_status(self, return_code: int, printed: str, job_id: str) -> JobState:
        """Read what `ray job status` prints.

        >>> Ray().read_status(0, "Status for job 'ft-1': RUNNING", "ft-1")
        JobState(state='running', text='RUNNING', reason=None)
        """
        if found := SAID.search(printed):
            word = found[1].upper()
            return STATES.read("STOPPED" if word == "WAS" else word)
        return FORGOTTEN if "does not exist" in printed else UNKNOWN

    def cancel(self, job_id: str) -> list[str]:
        """Return the command that ends a job."""
        return [*self._job("stop"), "--no-wait", job_id]

    def _job(self, verb: str) -> list[str]:
        return ["ray", "job", verb, "--address", self.address]
