"""What waiting threads cost: training steps with spinning and with sleeping OpenMP threads.

Both sides run by turns, alone and beside processes that keep every core busy, and write
threads.json.

    python -m benchmarks.threads
"""

import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path

ROUNDS = 3
STEPS = 10
POLICIES = ("ACTIVE", "PASSIVE")
STEP = """
import json, time, torch
torch.set_num_threads(2)
model = torch.nn.Sequential(*[torch.nn.Linear(576, 576) for _ in range(60)])
rows = torch.randn(256, 576)
model(rows).sum().backward()
wall, work = time.perf_counter(), time.process_time()
for _ in range(%d):
    model(rows).sum().backward()
print(json.dumps([time.perf_counter() - wall, time.process_time() - work, torch.__version__]))
"""
BUSY = "while True: pass"


def measured(policy: str) -> list:
    """Return wall seconds, processor seconds and the version of torch of some steps."""
    own = os.environ | {"OMP_WAIT_POLICY": policy}
    command = [sys.executable, "-c", STEP % STEPS]
    done = subprocess.run(command, env=own, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def compared(num_busy: int) -> dict:
    """Return the medians of both policies beside `num_busy` busy processes."""
    others = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(num_busy)]
    try:
        rounds = [{policy: measured(policy) for policy in POLICIES} for _ in range(ROUNDS)]
    finally:
        for each in others:
            each.kill()
            each.wait()
    medians = {
        policy: {
            "wall_seconds": round(statistics.median(one[policy][0] for one in rounds), 3),
            "cpu_seconds": round(statistics.median(one[policy][1] for one in rounds), 3),
        }
        for policy in POLICIES
    }
    spinning, sleeping = (medians[policy] for policy in POLICIES)
    ratio = round(spinning["wall_seconds"] / sleeping["wall_seconds"], 2)
    return {"busy_processes": num_busy, "times_as_long": ratio, **medians}


def main() -> None:
    """Measure alone, and beside one and two busy processes a core."""
    cores = os.cpu_count() or 1
    found = {
        "machine": f"{platform.machine()}, {cores} cores",
        "load_before": os.getloadavg()[0],
        "torch": measured("PASSIVE")[2],
        "steps": STEPS,
        "rounds": ROUNDS,
        "results": [compared(0), compared(cores), compared(2 * cores)],
    }
    text = json.dumps(found, indent=1) + "\n"
    Path(__file__).with_suffix(".json").write_text(text, encoding="utf-8")
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
