"""The one worker command, for one process or several: torchrun starts the ranks of a machine."""

from collections.abc import Sequence

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


def torchrun(
    python: str, module: str, run_dir: str, processes: int, meeting: Sequence[str] = ()
) -> list[str]:
    """Return the argv that starts so many ranks of a worker on this machine.

    Args:
        python: Interpreter.
        module: The worker.
        run_dir: Its run.
        processes: Ranks of this machine.
        meeting: torchrun's arguments about where machines meet; empty: it is the only one.

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
