"""Processes that do the same thing at the same moment: `racers.py NUM WHAT ARGUMENT`.

One process imports everything, forks NUM racers, and lets them go at once; it prints what each got
as a JSON list. The naive ways are the negative controls of the tests that use this.
"""

import json
import multiprocessing
import sys
import time
from pathlib import Path

from harness import launch

from ft_tools.errors import FineTuningError
from ft_tools.runs.request import ResumeRequest
from ft_tools.runs.tool import resume_run


def start(request_id: str) -> str:
    return launch("steps:3", request_id=request_id)


def resume(run_id: str) -> str:
    return f"attempt {resume_run(ResumeRequest(run_id=run_id)).attempts}"


def start_naively(folder: str) -> str:
    """Look, then make: what a start without a lock and a rename does."""
    path = Path(folder) / "run.json"
    if path.exists():
        return "found"
    time.sleep(0.001)
    path.write_text("{}")
    return "started"


RACES = {race.__name__: race for race in (start, resume, start_naively)}


def race(num_racers: int, what: str, argument: str) -> list[str]:
    context = multiprocessing.get_context("fork")
    gate, answers = context.Barrier(num_racers), context.SimpleQueue()

    def run() -> None:
        gate.wait()
        try:
            answers.put(RACES[what](argument))
        except FineTuningError as error:
            answers.put(error.code)

    racers = [context.Process(target=run) for _ in range(num_racers)]
    for racer in racers:
        racer.start()
    found = [answers.get() for _ in racers]
    for racer in racers:
        racer.join()
    return found


if __name__ == "__main__":
    print(json.dumps(race(int(sys.argv[1]), sys.argv[2], sys.argv[3])))  # noqa: T201
