"""The launchers by the `backend` that a request names; `local` needs none."""

import shutil

from ft_tools.errors import Missing
from ft_tools.runs.launchers import hf_jobs, ray, skypilot, slurm
from ft_tools.runs.launchers.job import Launcher
from ft_tools.runs.launchers.options import Options

LAUNCHERS: dict[str, Launcher] = {
    "slurm": slurm.LAUNCHER,
    "ray": ray.LAUNCHER,
    "skypilot": skypilot.LAUNCHER,
    "hf_jobs": hf_jobs.LAUNCHER,
}


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
        program = launcher.fetch(options, str(getattr(options, "storage", "")), "")[0]
        cures.setdefault(program, "install the storage provider's client, which fetches results")
    for program, cure in cures.items():
        if shutil.which(program) is None:
            raise Missing(
                f"backend={backend!r} needs the program {program!r}, which is not on PATH; {cure}; "
                "nothing was started"
            )
