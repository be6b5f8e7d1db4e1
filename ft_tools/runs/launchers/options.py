"""What each backend can be told: `backend_options`, checked before anything is planned."""

import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ft_tools.contract import problem
from ft_tools.errors import BadInput

Backend = Literal["local", "slurm", "skypilot", "hf_jobs", "ray"]
Sharding = Literal["ddp", "fsdp", "zero2", "zero3"]
# Words that reach a scheduler's command line or script: no blanks, quotes or line ends.
WORD = r"^[A-Za-z0-9_][A-Za-z0-9_.,:@/=+\[\]-]*$"
# Features, with Slurm's "or", "and" and counts; they reach the #SBATCH lines only. Source:
# sbatch(1), --constraint.
FEATURES = r"^[A-Za-z0-9_(\[][A-Za-z0-9_.,:@/=+\[\]()|&*-]*$"
# Minutes, or [days-]hours:minutes:seconds. Source: sbatch(1), --time.
SLURM_TIME = r"^(\d+-)?\d+(:\d{2}){0,2}$"
DURATION = r"^\d+[smhd]$"
# What may be asked of this machine: see runs.hardware.
WANTED = r"^(auto|cpu|cuda(:\d+)?|(GPU|MIG)-[\w/-]+)$"
DEVICE = (
    "auto (the GPUs with the most memory, else the CPU), cpu, cuda (a GPU or an error), or one GPU "
    "by its place or UUID: cuda:1, GPU-..."
)
NAME_THE_CARD = "name the card there by its catalog name (A100-80GB), or it computes on CPUs"


class Options(BaseModel):
    """What every backend can be told."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    nodes: int = Field(1, ge=1, le=1, description="Machines; this backend takes one.")
    processes: int = Field(1, ge=1, le=64, description="Processes per machine: one per GPU.")
    sharding: Sharding = Field(
        "ddp",
        description="How several processes share a model: ddp (a copy each), fsdp, zero2, zero3.",
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


class SlurmOptions(Options):
    """A Slurm cluster with the run's folder on a file system that all nodes see."""

    nodes: int = Field(1, ge=1, le=512, description="Machines.")
    partition: str = Field("", pattern=f"{WORD}|^$", description="Empty: the cluster's default.")
    account: str = Field("", pattern=f"{WORD}|^$", description="Account to charge.")
    qos: str = Field("", pattern=f"{WORD}|^$", description="Quality of service.")
    constraint: str = Field(
        "", pattern=f"{FEATURES}|^$", description="Features a node must have: a100|h100, a100&ib."
    )
    time_limit: str = Field(
        "", pattern=f"{SLURM_TIME}|^$", description="Minutes or [days-]hours:minutes:seconds."
    )
    cpus_per_process: int = Field(1, ge=1, le=256, description="CPU cores for each process.")
    memory_gib: int = Field(
        0, ge=0, le=16_384, description="Memory per node in GiB; 0: the cluster's default."
    )
    gpu_type: str = Field("", pattern=f"{WORD}|^$", description="The card's name in the cluster.")
    requeue: bool = Field(
        True, description="Start again by itself after a preemption or at the time limit."
    )
    signal_seconds: int = Field(
        300, ge=10, le=65_535, description="Warning before the time limit, to save and stop."
    )
    modules: tuple[str, ...] = Field((), description="Environment modules to load first.")

    @model_validator(mode="after")
    def _warned_late_enough(self) -> "SlurmOptions":
        limit = _seconds(self.time_limit)
        if limit and self.signal_seconds * 2 > limit:
            raise ValueError(
                f"signal_seconds={self.signal_seconds} is more than half of "
                f"time_limit={self.time_limit!r}; the run would save and stop too early"
            )
        return self

    @model_validator(mode="after")
    def _card_is_known(self) -> "SlurmOptions":
        if self.gpu_type and not self.gpu:
            raise ValueError(f"gpu_type={self.gpu_type!r} without gpu: {NAME_THE_CARD}")
        return self

    @model_validator(mode="after")
    def _modules_are_words(self) -> "SlurmOptions":
        for name in self.modules:
            if not re.fullmatch(WORD, name):
                raise ValueError(f"modules: {name!r} is no name of a module")
        return self


def _seconds(limit: str) -> int:
    """Return a time limit of Slurm in seconds; 0 for none.

    >>> _seconds("90"), _seconds("1:30"), _seconds("2:00:00"), _seconds("1-0"), _seconds("")
    (5400, 90, 7200, 86400, 0)
    """
    if not limit:
        return 0
    days, is_long, rest = limit.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if is_long:
        # days-hours[:minutes[:seconds]]
        parts += [0] * (3 - len(parts))
    elif len(parts) == 1:
        # minutes
        parts += [0]
    total = 0
    for part in parts:
        total = total * 60 + part
    return int(days or 0) * 86_400 + total


class RayOptions(Options):
    """A Ray cluster that sees the run's folder, by its job server; one machine of it."""

    address: str = Field(
        "http://127.0.0.1:8265",
        pattern=r"^https?://[A-Za-z0-9_.\[\]:-]+/?$",
        description="Of the cluster's job server (its dashboard).",
    )
    cpus: int = Field(0, ge=0, le=1024, description="CPU cores to reserve; 0: none.")


class SkyPilotOptions(Options):
    """A machine of any cloud that SkyPilot knows, as a managed job."""

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
    def _card_is_known(self) -> "SkyPilotOptions":
        if self.accelerator and not self.gpu:
            raise ValueError(f"accelerator={self.accelerator!r} without gpu: {NAME_THE_CARD}")
        if self.gpu and not self.accelerator:
            raise ValueError(
                f"gpu={self.gpu!r} without accelerator: the machine would come without a card; "
                "give accelerator too, by its name in SkyPilot"
            )
        return self


class HfJobsOptions(Options):
    """A machine of Hugging Face Jobs."""

    storage: str = Field(
        pattern=r"^hf://buckets/[A-Za-z0-9._-]+/[A-Za-z0-9._/-]+$",
        description="Bucket that outlives the machine: hf://buckets/OWNER/NAME.",
    )
    flavor: str = Field(
        "a10g-large", pattern=WORD, description="Hardware; `hf jobs hardware` lists it."
    )
    timeout: str = Field("8h", pattern=DURATION, description="Longest duration: 30m, 8h, 2d.")
    attempts: int = Field(3, ge=1, le=20, description="Starts, the first one included.")
    image: str = Field("python:3.12", pattern=WORD, description="Docker image with Python.")

    @model_validator(mode="after")
    def _cards_are_known(self) -> "HfJobsOptions":
        has_cards = not self.flavor.startswith("cpu")
        if has_cards and not self.gpu:
            raise ValueError(f"flavor={self.flavor!r} without gpu: {NAME_THE_CARD}")
        if self.gpu and not has_cards:
            raise ValueError(f"flavor={self.flavor!r} has no card, and gpu={self.gpu!r} asks one")
        # a10g-largex2 has two. Source: huggingface_hub 2.4, JobHardware.
        several = re.search(r"x(\d+)$", self.flavor)
        cards = int(several[1]) if several else 1
        if has_cards and self.processes != cards:
            raise ValueError(f"flavor={self.flavor!r} has {cards} cards; give processes={cards}")
        return self


OPTIONS: dict[str, type[Options]] = {
    "local": LocalOptions,
    "slurm": SlurmOptions,
    "ray": RayOptions,
    "skypilot": SkyPilotOptions,
    "hf_jobs": HfJobsOptions,
}


def parse(backend: str, given: dict[str, Any]) -> Options:
    """Read the options of a backend.

    Raises:
        BadInput: An option is unknown, missing or cannot be used; the message names those there
            are.
    """
    model = OPTIONS[backend]
    for name in given:
        if name not in model.model_fields:
            known = ", ".join(sorted(model.model_fields))
            raise BadInput(f"backend_options.{name}: {backend} has no such option; known: {known}")
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise BadInput(_complaint(backend, model, given, error)) from error


def _complaint(
    backend: str, model: type[Options], given: dict[str, Any], error: ValidationError
) -> str:
    """Return the first thing that is wrong, for people: which option, its value, what it takes."""
    first = error.errors(include_url=False)[0]
    name = ".".join(map(str, first["loc"]))
    field = model.model_fields.get(name)
    said = problem(model, dict(first)).removeprefix("Value error, ")
    if first["type"] == "string_pattern_mismatch":
        is_word = WORD in str(first["ctx"]["pattern"])
        said = "only letters, digits and _.,:@/=+[]- are taken" if is_word else "not of this form"
    value = f"={given[name]!r}" if name in given else ""
    where = f"backend_options.{name}" if name else "backend_options"
    about = f". {field.description}" if field else ""
    return f"{where}{value} of {backend}: {said}{about}"
