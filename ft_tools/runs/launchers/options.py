"""The options of every backend (`backend_options`), checked before anything is planned."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Sharding = Literal["ddp", "fsdp", "zero2", "zero3"]
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
