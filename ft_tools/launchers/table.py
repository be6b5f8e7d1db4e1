"""The launchers by the `backend` that a request names; `local` needs none."""

import shutil

from ft_tools.errors import Missing
from ft_tools.launchers import hf_jobs, ray, skypilot, slurm
from ft_tools.launchers.job import Launcher

LAUNCHERS: dict[str, Launcher] = {
    "slurm": slurm.LAUNCHER,
    "ray": ray.LAUNCHER,
    "skypilot": skypilot.LAUNCHER,
    "hf_jobs": hf_jobs.LAUNCHER,
}


def require_program(backend: str) -> None:
    """Refuse a backend whose program is not installed here.

    Raises:
        Missing: It is not on PATH; the message says what to do.
    """
    launcher = LAUNCHERS.get(backend)
    if launcher is not None and shutil.which(launcher.program) is None:
        raise Missing(
            f"backend={backend!r} needs the program {launcher.program!r}, which is not on PATH; "
            f"{launcher.cure}; nothing was started"
        )
