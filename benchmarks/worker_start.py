"""Measure what the start and the end of a worker cost: imports, with and without our care.

Plain is the import of the same modules in a fresh process; ours starts as a run or an audit starts
it and ends before there is any work. CPU seconds of the whole process, in turn; the result is
`benchmarks/worker_start.json`.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from ft_tools.data.worker.tokens import SERVER
from ft_tools.runs.launchers.launcher import WORKER

ROUNDS = int(os.environ.get("ROUNDS", "5"))
RENDERING = (
    "from transformers import AutoTokenizer; "
    "import ft_tools.formats.worker.chat_template_with_limits"
)
# A worker without a run's directory, and a tokenizer that is not there, end after the imports.
STARTS = {
    "sft": (
        ["-c", "import ft_tools.training.worker.sft"],
        ["-m", WORKER, "ft_tools.training.worker.sft"],
    ),
    "evaluate": (
        ["-c", "import ft_tools.evaluation.worker.evaluate"],
        ["-m", WORKER, "ft_tools.evaluation.worker.evaluate"],
    ),
    "rendering": (["-c", RENDERING], ["-m", SERVER, os.devnull, "1", "1"]),
}


def cpu_seconds(arguments: list[str]) -> float:
    """Return what a process took of the processor."""
    silent = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    process = subprocess.Popen([sys.executable, *arguments], stderr=subprocess.DEVNULL, **silent)
    _, _, used = os.wait4(process.pid, 0)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Start all in turn and write the medians and their ratios."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in STARTS}
    for _ in range(ROUNDS):
        for name, (plain, ours) in STARTS.items():
            taken[name].append((cpu_seconds(plain), cpu_seconds(ours)))
    found = {}
    for name, rows in taken.items():
        plain, ours = (statistics.median(side) for side in zip(*rows, strict=True))
        found[name] = {
            "plain_cpu_seconds": round(plain, 2),
            "ours_cpu_seconds": round(ours, 2),
            "ratio": round(ours / plain, 2),
        }
    result = {
        "rounds": ROUNDS,
        "load": round(os.getloadavg()[0], 1),
        "starts": found,
        "machine": {"cpu": platform.machine(), "cores": os.cpu_count()},
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "transformers", "trl")},
        },
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
