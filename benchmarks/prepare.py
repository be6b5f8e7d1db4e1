"""How long a million CSV rows take from table to training files, and how much memory: make bench.

Writes benchmarks/prepare.json. The rows are made here: tickets of 40 words with a team and a
priority.
"""

import csv
import json
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.audit import processor

ROWS = int(os.environ.get("PREPARE_ROWS", "1000000"))
SEED = 11
OUT = Path(__file__).parent / "prepare.json"


def write_table(path: Path, num_rows: int) -> None:
    """Write tickets, one in a hundred without a team."""
    chance = random.Random(SEED)
    words = [f"word{at}" for at in range(5000)]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "customer", "body", "team", "priority"])
        for at in range(num_rows):
            body = " ".join(chance.choices(words, k=40))
            team = "" if at % 100 == 0 else ("billing", "shipping", "tech")[at % 3]
            row = [
                at,
                f"C{chance.randrange(num_rows // 5 + 1)}",
                body,
                team,
                ("low", "high")[at % 2],
            ]
            writer.writerow(row)


def main() -> None:
    """Prepare the table in a process of its own and write what that took."""
    if len(sys.argv) == 2:
        prepare(sys.argv[1])
        return
    with tempfile.TemporaryDirectory() as folder:
        write_table(Path(folder) / "tickets.csv", ROWS)
        began = time.monotonic()
        environment = os.environ | {"FINE_TUNING_LLM_WORKSPACE": folder}
        command = [sys.executable, "-m", "benchmarks.prepare", folder]
        subprocess.run(command, check=True, env=environment)
        seconds = time.monotonic() - began
    peak = resource.getrusage(resource.RUSAGE_CHILDREN)
    made = {
        "rows": ROWS,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(peak.ru_utime + peak.ru_stime, 1),
        "peak_gib_of_a_process": round(peak.ru_maxrss / 2**20, 3),
        "load_average": round(os.getloadavg()[0], 1),
        "machine": {
            "processor": processor(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
        },
    }
    OUT.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(json.dumps(made) + "\n")


def prepare(folder: str) -> None:
    """Show and write, as the run of a large file does."""
    from ft_tools.data.prepare import perform, prepare_dataset
    from ft_tools.data.request import PrepareRequest

    mapping = {
        "prompt": "{body}",
        "answer": ["team", "priority"],
        "group_by": ["customer"],
    }
    shown = prepare_dataset(PrepareRequest(path="tickets.csv", mapping=mapping))
    request = PrepareRequest(
        path="tickets.csv",
        output_dir=f"{folder}/out",
        mapping=shown.mapping,
        confirm=shown.mapping_hash,
    )
    report = perform(request)
    assert sum(report.counts.values()) == report.num_rows == ROWS


if __name__ == "__main__":
    main()
