"""What every launcher is: options with a few methods; a job, the worker's command, its state."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

# What torchrun gives the other ranks to end, after a TERM or when one of them has failed: long
# enough for a checkpoint, short enough to be rid of one that waits for the dead. Source: torch
# 2.13, torch/distributed/launcher/api.py; the default there is 30 seconds.
SHUTDOWN_SECONDS = 120
MARK = "FINE_TUNING_LLM_JOB"
"""Set for ranks and jobs: others hold the run's locks; rank 0 holds worker.lock."""
LOCAL = "local"
WORKER = "ft_tools.runs.processes.run_worker"
"""What runs a worker's module."""
SAFE = {"PYTHONSAFEPATH": "1", "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(SHUTDOWN_SECONDS)}
"""Modules are not searched in the working folder, by ranks neither."""
Sharding = Literal["ddp", "fsdp"]
# Words that reach a scheduler's command line or script: no blanks, quotes or line ends.
WORD = r"^[A-Za-z0-9_][A-Za-z0-9_.,:@/=+\[\]-]*$"
# What may be asked of this machine: see runs.hardware.
WANTED = r"^(auto|cpu|cuda(:\d+)?|(GPU|MIG)-[\w/-]+)$"
DEVICE = (
    "auto (the GPUs with the most memory, else the CPU), cpu, cuda (a GPU or an error), or one GPU "
    "by its place or UUID: cuda:1, GPU-..."
)
NAME_THE_CARD = "name the card there by its catalog name (A100-80GB), or it computes on CPUs"


class Options(BaseModel):
    """Options of every backend."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    nodes: int = Field(1, ge=1, le=1, description="Machines; this backend takes one.")
    processes: int = Field(1, ge=1, le=64, description="Processes per machine: one per GPU.")
    sharding: Sharding = Field(
        "ddp", description="How several processes share a model: ddp (a copy each) or fsdp."
    )
    gpu: str = Field(
        "", description="The card there, by its catalog name (A100-80GB); empty: it has none."
    )
    python: str = Field(
        "", pattern=r"^(/[\w./+-]+)?$", description="Interpreter there; empty: the one here."
    )

    @property
    def num_processes(self) -> int:
        """Return the processes of all machines together."""
        return self.nodes * self.processes

    @field_validator("sharding", mode="before")
    @classmethod
    def _no_deepspeed(cls, sharding: Any) -> Any:
        if sharding in {"zero2", "zero3"}:
            raise ValueError(f"{sharding!r}: DeepSpeed is not supported; use 'fsdp' (FSDP2)")
        return sharding

    @model_validator(mode="after")
    def _several_to_shard(self) -> "Options":
        if self.sharding != "ddp" and self.num_processes == 1:
            raise ValueError(f"sharding={self.sharding!r} needs several processes; give processes")
        if self.sharding != "ddp" and not self._has_gpu:
            raise ValueError(f"sharding={self.sharding!r} needs GPUs; without them it is ddp")
        return self

    @property
    def _has_gpu(self) -> bool:
        return bool(self.gpu)


class LocalOptions(Options):
    """This machine; with `gpu` one elsewhere, which is planned and exported for."""

    device: str = Field("auto", pattern=WANTED, description=DEVICE)

    @property
    def _has_gpu(self) -> bool:
        return self.device != "cpu"

    @model_validator(mode="after")
    def _found_here(self) -> "LocalOptions":
        if self.python:
            raise ValueError("the interpreter here is the server's own; leave python out")
        if self.gpu and self.device != "auto":
            raise ValueError(
                f"gpu={self.gpu!r} plans for a machine elsewhere and device={self.device!r} for "
                "this one; leave one of them out"
            )
        return self


def torchrun(
    python: str, module: str, run_dir: str, processes: int, meeting: Sequence[str] = ()
) -> list[str]:
    """Return the argv that starts so many ranks of a worker on this machine.

    `meeting` holds torchrun's arguments about where machines meet; empty: it is the only one.

    >>> torchrun("python", "w.sft", "R", 2)[4:7]
    ['--standalone', '--nproc_per_node', '2']
    """
    where = list(meeting) or ["--standalone"]
    launcher = [python, "-P", "-m", "torch.distributed.run", *where]
    return [*launcher, "--nproc_per_node", str(processes), "-m", WORKER, module, run_dir]


def on_one_machine(python: str, module: str, run_dir: str, processes: int) -> list[str]:
    """Return the argv of a worker that has one machine.

    >>> on_one_machine("python", "ft_tools.training.worker.sft", "RUN_DIR", 1)[-2:]
    ['ft_tools.training.worker.sft', 'RUN_DIR']
    """
    if processes == 1:
        return [python, "-P", "-m", WORKER, module, run_dir]
    return torchrun(python, module, run_dir, processes)


@dataclass(frozen=True)
class Job:
    """A run as a scheduler sees it; for a plan that is only shown, with names in capitals."""

    run_id: str
    run_dir: str
    module: str
    token: str
    python: str
    environment: Mapping[str, str]

    def on_one_machine(self, processes: int) -> list[str]:
        """Return the argv of the worker on the job's one machine."""
        return on_one_machine(self.python, self.module, self.run_dir, processes)

    def inside(self, command: list[str], *given: str) -> list[str]:
        """Return the argv that looks after a command inside a job, as a supervisor does."""
        inside_job = [self.python, "-P", "-m", "ft_tools.runs.launchers.inside_job"]
        return [*inside_job, self.run_dir, self.token, *given, "--", *command]

    @property
    def name(self) -> str:
        """Return the name that people see in the queue."""
        return f"ft-{self.run_id}"

    @property
    def unique_name(self) -> str:
        """Return a name of this submission alone, for schedulers that take one as the job's id."""
        return f"{self.name}-{self.token}"


class JobState(NamedTuple):
    """What a scheduler says about a job; the run directory decides."""

    state: Literal["waiting", "running", "ended", "unknown"]
    text: str
    reason: str | None = None


UNKNOWN = JobState("unknown", "no answer")
FORGOTTEN = JobState("ended", "forgotten")
"""Schedulers forget a job some time after its end."""


class States(NamedTuple):
    """A scheduler's words for what a job does."""

    waiting: set[str]
    running: set[str]
    ended: dict[str, str | None]
    """Word -> why the job ended; None: it has succeeded."""

    def read(self, word: str, text: str = "") -> JobState:
        """Return the state that a word means; `text` is what people are shown."""
        text = text or word
        if word in self.waiting:
            return JobState("waiting", text)
        if word in self.running:
            return JobState("running", text)
        return JobState("ended", text, self.ended[word]) if word in self.ended else UNKNOWN


class Launcher(Options, ABC):
    """How a backend is spoken to: its options. Methods are pure: files and argv out, text in."""

    program: ClassVar[str]
    """What has to be on PATH."""
    cure: ClassVar[str]
    """What to do when it is not."""

    def files(self, job: Job) -> dict[str, str]:
        """Return the files that are written into the run directory first, by name."""
        return {}

    @abstractmethod
    def submit(self, job: Job) -> list[str]:
        """Return the command that submits a job."""

    def job_id(self, job: Job, printed: str) -> str:
        """Return the job's id, from what the submission printed; from nothing: ours, or ""."""
        return job.unique_name

    @abstractmethod
    def status(self, job_id: str) -> list[str]:
        """Return the command that shows a job."""

    @abstractmethod
    def read_status(self, return_code: int, printed: str, job_id: str) -> JobState:
        """Return the state of a job, from what `status` printed."""

    @abstractmethod
    def cancel(self, job_id: str) -> list[str]:
        """Return the command that ends a job."""

    def fetch(self, run_id: str, folder: str) -> list[str]:
        """Return the command that brings a run's files to a folder here; `workdir` does the rest.

        Empty where the machines of the jobs see the run directory.
        """
        return []
