"""The backends that a request names, one row each, and where a plan runs by them."""

import shutil
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ft_tools.contract import complaints
from ft_tools.errors import BadInput, Missing
from ft_tools.runs.launchers.launcher import LOCAL, Launcher, LocalOptions, Options, Sharding
from ft_tools.runs.launchers.ray import Ray
from ft_tools.runs.launchers.skypilot import SkyPilot
from ft_tools.runs.launchers.slurm import Slurm

LAUNCHERS: dict[str, type[Launcher]] = {"slurm": Slurm, "ray": Ray, "skypilot": SkyPilot}

if TYPE_CHECKING:
    Backend = str
else:
    Backend = Literal[LOCAL, *LAUNCHERS]


def parse(backend: str, given: dict[str, Any]) -> Options:
    """Read the options of a backend.

    Raises:
        BadInput: An option is unknown, missing or cannot be used.
    """
    model: type[Options] = LAUNCHERS.get(backend, LocalOptions)
    try:
        return model.model_validate(given)
    except ValidationError as error:
        problems = "; ".join(complaints(model, error))
        raise BadInput(f"backend_options of {backend}: {problems}") from error


def require_programs(backend: str, options: Options) -> None:
    """Refuse a backend whose programs are not installed here.

    Raises:
        Missing: One is not on PATH; the message says what to do.
    """
    if not isinstance(options, Launcher):
        return
    cures = {options.program: options.cure}
    if fetch := options.fetch("", ""):
        cures[fetch[0]] = "install the storage provider's client, which fetches results"
    for program, cure in cures.items():
        if shutil.which(program) is None:
            raise Missing(
                f"backend={backend!r} needs the program {program!r}, which is not on PATH; {cure}; "
                "nothing was started"
            )


# Source: accelerate 1.15 FullyShardedDataParallelPlugin and TRL's fsdp2.yaml. One module of the
# model at a time is whole on a card; rank 0 reads the weights and passes them on.
FSDP: dict[str, Any] = {
    "version": 2,
    "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
    "reshard_after_forward": True,
    "cpu_ram_efficient_loading": True,
    "state_dict_type": "FULL_STATE_DICT",
}


class Place(BaseModel):
    """The backend, its processes, and what would be given to it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    backend: Backend = "local"
    exported_for: str = Field(
        "", description="GPUs of a machine elsewhere: it is planned and exported, never started."
    )
    nodes: int = Field(1, description="Machines.")
    processes: int = Field(1, description="Processes a machine.")
    sharding: Sharding = Field("ddp", description="How processes share a model.")
    engine: dict[str, Any] = Field(default_factory=dict, description="Configuration of FSDP.")
    files: dict[str, str] = Field(
        default_factory=dict, description="Written into the run's directory first; by name."
    )
    commands: list[list[str]] = Field(
        default_factory=list, description="What would be called; RUN_DIR stands for the run's."
    )

    @property
    def num_processes(self) -> int:
        """Return the processes of all machines together."""
        return self.nodes * self.processes


def place_of(backend: Backend, options: Options) -> Place:
    """Return the place without its files and commands."""
    several = options.num_processes > 1
    is_export = backend == "local" and options.gpu
    return Place(
        backend=backend,
        exported_for=f"{options.processes}x {options.gpu}" if is_export else "",
        nodes=options.nodes,
        processes=options.processes,
        sharding=options.sharding,
        engine=FSDP if several and options.sharding == "fsdp" else {},
    )
