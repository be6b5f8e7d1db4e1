"""Slurm: a batch script of our own, sbatch, scontrol, scancel."""

import re
import shlex

from pydantic import Field, model_validator

from ft_tools.runs.launchers.launcher import (
    FORGOTTEN,
    NAME_THE_CARD,
    UNKNOWN,
    WORD,
    Job,
    JobState,
    Launcher,
    States,
    torchrun,
)

SCRIPT = "job.sh"
# Features, with Slurm's "or", "and" and counts; they reach the #SBATCH lines only. Source:
# sbatch(1), --constraint.
FEATURES = r"^[A-Za-z0-9_(\[][A-Za-z0-9_.,:@/=+\[\]()|&*-]*$"
# Minutes, or [days-]hours:minutes:seconds. Source: sbatch(1), --time.
TIME = r"^(\d+-)?\d+(:\d{2}){0,2}$"
OWN_VARIABLES = {"$ATTEMPT", "$HEAD:$PORT"}
"""Of the script; everything else is quoted."""
# Ports of a run's meeting point, one a job, above the well-known ones.
FIRST_PORT = 20_000
NUM_PORTS = 20_000
FIELD = re.compile(r"(JobState|Reason|Restarts)=(\S+)")
# Source: squeue(1), job state codes.
STATES = States(
    waiting={"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT",
             "SUSPENDED", "STOPPED", "RESIZING"},
    running={"RUNNING", "COMPLETING", "SIGNALING", "STAGE_OUT"},
    ended={
        "COMPLETED": None,
        "CANCELLED": "user",
        "TIMEOUT": "timeout",
        "DEADLINE": "timeout",
        "OUT_OF_MEMORY": "out_of_memory",
        "PREEMPTED": "preempted",
        **dict.fromkeys(("NODE_FAIL", "BOOT_FAIL", "FAILED", "REVOKED"), "crash"),
    },
)  # fmt: skip


class Slurm(Launcher):
    """A Slurm cluster with the run's folder on a file system that all nodes see."""

    program = "sbatch"
    cure = "start the server on a machine of the cluster that may submit jobs (a login node)"

    nodes: int = Field(1, ge=1, le=512, description="Machines.")
    partition: str = Field("", pattern=f"{WORD}|^$", description="Empty: the cluster's default.")
    account: str = Field("", pattern=f"{WORD}|^$", description="Account to charge.")
    qos: str = Field("", pattern=f"{WORD}|^$", description="Quality of service.")
    constraint: str = Field(
        "", pattern=f"{FEATURES}|^$", description="Features a node must have: a100|h100, a100&ib."
    )
    time_limit: str = Field(
        "", pattern=f"{TIME}|^$", description="Minutes or [days-]hours:minutes:seconds."
    )
    cpus_per_process: int = Field(1, ge=1, le=256, description="CPU cores for each process.")
    memory_gib: int = Field(
        0, ge=0, le=16_384, description="Memory per node in GiB; 0: the cluster's default."
    )
    gpu_type: str = Field("", pattern=f"{WORD}|^$", description="The card's name in the cluster.")
    requeue: bool = Field(
        True, description="Start again by itself after a preemption or a failed node."
    )
    signal_seconds: int = Field(
        300, ge=10, le=65_535, description="Warning before the time limit, to save and stop."
    )
    modules: tuple[str, ...] = Field((), description="Environment modules to load first.")

    @model_validator(mode="after")
    def _card_is_known(self) -> "Slurm":
        if self.gpu_type and not self.gpu:
            raise ValueError(f"gpu_type={self.gpu_type!r} without gpu: {NAME_THE_CARD}")
        return self

    @model_validator(mode="after")
    def _modules_are_words(self) -> "Slurm":
        for name in self.modules:
            if not re.fullmatch(WORD, name):
                raise ValueError(f"modules: {name!r} is no name of a module")
        return self

    def files(self, job: Job) -> dict[str, str]:
        """Return the batch script."""
        lines = ["#!/bin/bash", *(f"#SBATCH {line}" for line in self._directives(job))]
        lines += [f"module load {shlex.quote(name)}" for name in self.modules]
        lines += [f"export {name}={shlex.quote(value)}" for name, value in job.environment.items()]
        inside = (
            f'"{word}"' if word in OWN_VARIABLES else shlex.quote(word)
            for word in job.inside(self._steps(job))
        )
        lines += [
            # The batch script runs on the first node of the allocation.
            "HEAD=$(hostname)",
            f"PORT=$(({FIRST_PORT} + SLURM_JOB_ID % {NUM_PORTS}))",
            "ATTEMPT=$SLURM_JOB_ID.${SLURM_RESTART_COUNT:-0}",
            # Replaces the shell, so that signals to the batch step arrive where they are handled.
            f"exec {' '.join(inside)}",
        ]
        return {SCRIPT: "\n".join(lines) + "\n"}

    def submit(self, job: Job) -> list[str]:
        """Return the sbatch command."""
        # A percent sign begins a pattern in a log's name.
        log = f"{job.run_dir}/log.txt".replace("%", "%%")
        where = [f"--output={log}", f"--chdir={job.run_dir}"]
        return ["sbatch", "--parsable", *where, f"{job.run_dir}/{SCRIPT}"]

    def job_id(self, job: Job, printed: str) -> str:
        """Return the number of a job out of `number[;cluster]`."""
        return printed.strip().split(";")[0]

    def status(self, job_id: str) -> list[str]:
        """Return the command that shows a job."""
        return ["scontrol", "show", "job", "--oneliner", job_id]

    def read_status(self, return_code: int, printed: str, job_id: str) -> JobState:
        """Read what scontrol shows.

        >>> Slurm().read_status(0, "JobId=7 Restarts=1 JobState=PENDING Reason=BeginTime", "7")
        JobState(state='waiting', text='PENDING (BeginTime), restarts 1', reason=None)
        """
        if return_code:
            # Finished jobs are forgotten after MinJobAge, five minutes unless configured.
            return FORGOTTEN if "Invalid job id" in printed else UNKNOWN
        found = dict(FIELD.findall(printed))
        state = found.get("JobState", "")
        said = f"{state} ({found.get('Reason', 'None')}), restarts {found.get('Restarts', 0)}"
        return STATES.read(state, said)

    def cancel(self, job_id: str) -> list[str]:
        """Return the command that ends a job."""
        return ["scancel", job_id]

    @property
    def _cores(self) -> int:
        return self.cpus_per_process * self.processes

    def _directives(self, job: Job) -> list[str]:
        """Return the lines for sbatch; each value is a word or a number, which were checked."""
        kind = f"{self.gpu_type}:" if self.gpu_type else ""
        wanted = {
            "job-name": job.name,
            "nodes": self.nodes,
            "ntasks-per-node": 1,
            "cpus-per-task": self._cores,
            "gpus-per-node": f"{kind}{self.processes}" if self.gpu else "",
            "partition": self.partition,
            "account": self.account,
            "qos": self.qos,
            "constraint": self.constraint,
            "time": self.time_limit,
            "mem": f"{self.memory_gib}G" if self.memory_gib else "",
            "signal": f"B:TERM@{self.signal_seconds}",
            "open-mode": "append",
        }
        lines = [f"--{name}={value}" for name, value in wanted.items() if value]
        return [*lines, "--requeue" if self.requeue else "--no-requeue"]

    def _steps(self, job: Job) -> list[str]:
        """Return the command inside the allocation; $-words are the script's own variables."""
        start = ["srun", "--kill-on-bad-exit=1", "--ntasks-per-node=1", f"--nodes={self.nodes}"]
        start.append(f"--cpus-per-task={self._cores}")
        if self.nodes == 1:
            return [*start, *job.on_one_machine(self.processes)]
        meeting = ["--nnodes", str(self.nodes), "--rdzv_id", "$ATTEMPT", "--rdzv_backend", "c10d"]
        meeting += ["--rdzv_endpoint", "$HEAD:$PORT"]
        return [*start, *torchrun(job.python, job.module, job.run_dir, self.processes, meeting)]
