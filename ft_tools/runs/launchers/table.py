"""The backends that a request names: one row each. `local`, this machine, needs no launcher."""

import shutil
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from ft_tools.contract import complaints
from ft_tools.errors import BadInput, Missing
from ft_tools.runs.launchers import ray, skypilot, slurm
from ft_tools.runs.launchers.launcher import Launcher
from ft_tools.runs.launchers.options import LocalOptions, Options
from ft_tools.runs.launchers.torchrun import LOCAL

LAUNCHERS: dict[str, Launcher] = {
    "slurm": slurm.LAUNCHER,
    "ray": ray.LAUNCHER,
    "skypilot": skypilot.LAUNCHER,
}

if TYPE_CHECKING:
    Backend = str
else:
    Backend = Literal[LOCAL, *LAUNCHERS]


def parse(backend: str, given: dict[str, Any]) -> Options:
    """Read the options of a backend.

    Raises:
        BadInput: An option is unknown, missing or cannot be used.
    """
    model = LocalOptions if backend == LOCAL else LAUNCHERS[backend].options
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
    launcher = LAUNCHERS.get(backend)
    if launcher is None:
        return
    cures = {launcher.program: launcher.cure}
    if launcher.fetch is not None:
        program = launcher.fetch(options, "", "")[0]
        cures[program] = "install the storage provider's client, which fetches results"
    for program, cure in cures.items():
        if shutil.which(program) is None:
            raise Missing(
                f"backend={backend!r} needs the program {program!r}, which is not on PATH; {cure}; "
                "nothing was started"
            )
