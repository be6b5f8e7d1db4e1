"""How long an audit in the call takes: 9,229 rows of instruction, input and output.

    python -m benchmarks.audit_call ALPACA

ALPACA is a JSON array or JSON lines of instruction, input and output. Rows beyond those of the file
are made by `benchmarks/audit_rows.py`. The process is warm: the first of `CALLS` calls loads the
modules and is not counted. Writes benchmarks/audit_call.json.
"""

import json
import os
import platform
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.audit import processor
from benchmarks.audit_rows import grown

OUT = Path(__file__).with_suffix(".json")
ROWS = 9229
COPIES = 0.1
CALLS = 6
# Between instruction and input while the rows are made.
BETWEEN = "\x00"


def write_rows(given: Path, path: Path) -> None:
    """Write `ROWS` rows: the given ones, light copies, and new ones of the same words."""
    text = given.read_text(encoding="utf-8")
    rows = json.loads(text) if text.startswith("[") else list(map(json.loads, text.splitlines()))
    asked = [BETWEEN.join(filter(None, (row["instruction"], row.get("input")))) for row in rows]
    pairs = list(zip(asked, (row["output"] for row in rows), strict=True))
    made = []
    for prompt, answer in grown(pairs, ROWS, COPIES):
        instruction, _, about = prompt.partition(BETWEEN)
        made.append({"instruction": instruction, "input": about, "output": answer})
    path.write_text(json.dumps(made), encoding="utf-8")


def timed(path: Path) -> dict[str, Any]:
    """Audit the file again and again; return the times of the calls but the first."""
    from ft_tools.data.request import AuditRequest
    from ft_tools.data.tool import audit_dataset

    wall, cpu = [], []
    for _ in range(CALLS):
        began, worked = time.perf_counter(), time.process_time()
        report = audit_dataset(AuditRequest(path=path.name))
        wall.append(round(time.perf_counter() - began, 2))
        cpu.append(round(time.process_time() - worked, 2))
        assert report.run_id is None, "it became a run"
        assert report.num_examples == ROWS
    return {
        "rows": ROWS,
        "megabytes": round(path.stat().st_size / 1e6, 2),
        "seconds": min(wall[1:]),
        "seconds_of_each": wall[1:],
        "cpu_seconds": min(cpu[1:]),
        "peak_gib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 3),
    }


def main() -> None:
    """Make the rows, time the audit, write the result."""
    if len(sys.argv) != 2:
        print("name a file of instructions, inputs and outputs: none is shipped")
        return
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FINE_TUNING_LLM_WORKSPACE"] = folder
        path = Path(folder) / "rows.json"
        write_rows(Path(sys.argv[1]), path)
        result = timed(path)
    result["machine"] = {
        "processor": processor(),
        "cores": os.cpu_count(),
        "load_when_done": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
    }
    OUT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
