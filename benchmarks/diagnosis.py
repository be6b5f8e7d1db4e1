"""Measure false alarms and finds of ft_tools/training/diagnosis.py on recorded runs.

`python -m benchmarks.diagnosis` reads what `benchmarks.recorded_runs` recorded, whose runs with an
even number chose the thresholds, and writes `diagnosis.json`: the share of healthy runs with any
finding, and of sick runs whose finding is the one that was done to them, on either half. Intervals
are Clopper-Pearson's at 95%.
"""

import json
import os
import platform
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

from scipy.stats import beta

from benchmarks.recorded_runs import FILE, RATE
from ft_tools.training.diagnosis import Setup, diagnose

OUT = Path(__file__).with_name("diagnosis.json")
SAME = {"still_learning": {"still_learning", "too_few_steps"}}
"""A label -> findings that name it."""


def setup_of_line(line: dict[str, Any]) -> Setup:
    """Return what a recorded run's curves are read with."""
    training = line["training"]
    return Setup(
        training["learning_rate"],
        RATE,
        training["num_train_epochs"],
        line["steps"],
        num_labels=line["num_labels"],
    )


def found_in(line: dict[str, Any]) -> str:
    """Return what a recorded run is found to have; `healthy` if nothing."""
    found = diagnose(line["metrics"], setup_of_line(line))
    return found[0].id if found else "healthy"


def is_right(line: dict[str, Any]) -> bool:
    """Tell whether a run is found to have what was done to it."""
    return found_in(line) in SAME.get(line["label"], {line["label"]})


def interval(hits: int, number: int) -> list[float]:
    """Return the 95% interval of a share."""
    low = beta.ppf(0.025, hits, number - hits + 1) if hits else 0.0
    high = beta.ppf(0.975, hits + 1, number - hits) if hits < number else 1.0
    return [round(float(low), 3), round(float(high), 3)]


def rates(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the rates of one half."""
    healthy = [line for line in lines if line["label"] == "healthy"]
    sick = [line for line in lines if line["label"] != "healthy"]
    alarms = sum(not is_right(line) for line in healthy)
    hits = sum(is_right(line) for line in sick)
    seen = Counter(f"{line['label']} -> {found_in(line)}" for line in lines)
    return {
        "num_healthy": len(healthy),
        "num_sick": len(sick),
        "false_alarms": round(alarms / len(healthy), 4) if healthy else None,
        "false_alarms_95": interval(alarms, len(healthy)),
        "found": round(hits / len(sick), 4) if sick else None,
        "found_95": interval(hits, len(sick)),
        "seen": dict(sorted(seen.items())),
    }


def main() -> None:
    """Write the rates."""
    lines = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]
    halves = [[s for s in lines if int(s["name"].split("-")[1]) % 2 == odd] for odd in (0, 1)]
    versions = {name: version(name) for name in ("torch", "transformers", "trl", "peft")}
    found = {
        "about": {"machine": platform.machine(), "cores": os.cpu_count()} | versions,
        "chosen_on": rates(halves[0]),
        "checked_on": rates(halves[1]),
    }
    OUT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
