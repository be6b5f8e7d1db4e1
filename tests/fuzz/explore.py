"""Explore at random for a time: `make fuzz SECONDS=3600`, or `python -m tests.fuzz.explore -h`.

Every property test of tests/fuzz and tests/unit is run in rounds, each with a seed of its own. A
round that fails prints the minimal example that hypothesis found, and ends the exploration; it is
repeated by its seed. What was found becomes a plain test.
"""

import argparse
import os
import re
import secrets
import subprocess
import sys
import time
from collections import Counter

PASSING = re.compile(r"(\d+) passing, (\d+) failing")
FAILURES = re.compile(r"^=+ FAILURES =+$.*?(?=^=)", re.MULTILINE | re.DOTALL)
NAME = re.compile(r"^(tests/\S+)::(\w+):$")


def explore(seconds: float, seed: int, folders: list[str]) -> tuple[Counter[str], bool]:
    """Run rounds until the time is over or one of them fails; return the examples a test tried."""
    tried: Counter[str] = Counter()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done = run_round(seed, folders)
        tried.update(examples_in(done.stdout))
        if done.returncode:
            found = FAILURES.search(done.stdout)
            print(found[0] if found else done.stdout[-4000:] + done.stderr[-2000:])
            print(f"found with seed {seed}; repeat it: python -m tests.fuzz.explore --seed {seed}")
            return tried, False
        left = max(0, round(end - time.monotonic()))
        print(f"seed {seed}: {tried.total()} examples so far, {left} s left", flush=True)
        seed += 1
    return tried, True


def run_round(seed: int, folders: list[str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-m", "hypothesis", "--durations=0"]
    command += [f"--hypothesis-seed={seed}", "--hypothesis-show-statistics", *folders]
    environment = os.environ | {"FINE_TUNING_LLM_HYPOTHESIS": "explore"}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def examples_in(output: str) -> Counter[str]:
    """Read how many examples each test tried out of hypothesis's statistics."""
    found: Counter[str] = Counter()
    name = ""
    for line in output.splitlines():
        if match := NAME.match(line):
            name = match[2]
        elif match := PASSING.search(line):
            found[name] += int(match[1]) + int(match[2])
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600, help="a round is never cut short")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10**6), help="of round one")
    parser.add_argument("folders", nargs="*", default=["tests/fuzz", "tests/unit"])
    given = parser.parse_args()
    tried, is_clean = explore(given.seconds, given.seed, given.folders)
    for name, count in tried.most_common():
        print(f"{count:9,}  {name}")
    print(f"{tried.total():9,}  in all, {'nothing found' if is_clean else 'stopped at a find'}")
    return 0 if is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
