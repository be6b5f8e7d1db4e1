"""Compare estimate_vram and its peers with published measurements.

    python -m benchmarks.vram MEASUREMENTS.csv [--output benchmarks/vram.json]

Per source, method and part it prints: rows, mean absolute percentage error, bias, worst row, share
of true values inside the interval, share of process memory inside its band, and whether runs that
fit and runs that ran out of memory are told apart. Calibration rows (from which a constant was set)
and check rows are never mixed. Peers are asked about the same rows, where they claim to cover them.
"""

import argparse
import json
import platform
import statistics
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.vram_peers import PEERS
from benchmarks.vram_rows import CALIBRATION, Case, read
from ft_tools.memory.bounds import estimate

GIB = 2**30


@dataclass(frozen=True)
class Answer:
    """What estimate_vram says about a case."""

    gib: float
    width: float
    process_low: float
    process_high: float
    dominant: str


def ours(case: Case) -> Answer:
    """Ask the formulas behind estimate_vram."""
    found = estimate(case.setup, case.gpu)
    low, high = found.process_low / GIB, found.process_high / GIB
    width = found.interval.fraction
    return Answer(found.peak / GIB, width, low, high, found.phases.dominant)


def errors(cases: Iterable[Case], estimate: Callable[[Case], float | None]) -> dict[str, Any]:
    """Return the error statistics over the cases whose allocation is known."""
    rows: list[tuple[float, str]] = []
    for case in cases:
        guess = estimate(case)
        if guess is not None and case.allocated_gib:
            rows.append((guess / case.allocated_gib - 1, case.id))
    if not rows:
        return {"rows": 0}
    worst = max(rows, key=lambda row: abs(row[0]))
    return {
        "rows": len(rows),
        "mape": statistics.mean(abs(error) for error, _ in rows),
        "bias": statistics.mean(error for error, _ in rows),
        "worst": worst[0],
        "worst_row": worst[1],
    }


def coverage(cases: list[Case]) -> dict[str, Any]:
    """Return the share of allocations inside the interval and of processes inside the band."""
    inside: list[bool] = []
    in_band: list[bool] = []
    for case in cases:
        answer = ours(case)
        if case.allocated_gib:
            inside.append(abs(answer.gib / case.allocated_gib - 1) <= answer.width)
        if case.process_gib:
            in_band.append(answer.process_low <= case.process_gib <= answer.process_high)
    return {
        "inside_interval": statistics.mean(inside) if inside else None,
        "processes": len(in_band),
        "inside_band": statistics.mean(in_band) if in_band else None,
    }


def classified(cases: list[Case], fits: Callable[[Case], bool | None]) -> dict[str, Any]:
    """Return how well runs that trained and runs that ran out of memory are told apart."""
    false_fits, false_refusals, right = 0, 0, 0
    for case in cases:
        answer = fits(case)
        if answer is None or not (case.out_of_memory or case.allocated_gib):
            continue
        right += answer != case.out_of_memory
        false_fits += answer and case.out_of_memory
        false_refusals += not answer and not case.out_of_memory
    total = right + false_fits + false_refusals
    return {
        "runs": total,
        "accuracy": right / total if total else None,
        "false_fits": false_fits,
        "false_refusals": false_refusals,
    }


def we_fit(case: Case) -> bool:
    """Return whether estimate_vram would let it start: it fits, or is tight."""
    return estimate(case.setup, case.gpu).fits(case.usable_gib) != "no"


def measure(cases: list[Case]) -> dict[str, Any]:
    """Return every number that is printed."""
    parts = {
        "check": [case for case in cases if case.calibration is None],
        "calibration": [case for case in cases if case.calibration is not None],
    }
    by_part: dict[str, Any] = {}
    for part, of_part in parts.items():
        groups: dict[str, list[Case]] = {"all": of_part}
        for case in of_part:
            groups.setdefault(f"{case.source} {case.method}", []).append(case)
        by_part[part] = {
            name: errors(group, lambda case: ours(case).gib)
            | coverage(group)
            | {"classification": classified(group, we_fit)}
            for name, group in groups.items()
        }
    peers = {
        name: errors(cases, lambda case, rule=rule: rule(case.setup))
        | {"classification": classified(cases, lambda case, rule=rule: peer_fits(case, rule))}
        | {"by_source": by_source(cases, rule)}
        for name, rule in PEERS.items()
    }
    ours_on_same = {
        name: errors(
            [case for case in cases if rule(case.setup) is not None], lambda case: ours(case).gib
        )
        for name, rule in PEERS.items()
    }
    everything = {
        "errors": errors(cases, lambda case: ours(case).gib) | coverage(cases),
        "classification": classified(cases, we_fit),
    }
    return {"parts": by_part, "all": everything, "peers": peers, "ours_on_peer_rows": ours_on_same}


def by_source(cases: list[Case], rule: Callable[..., float | None]) -> dict[str, Any]:
    """Return a peer's errors on the rows of each source; on its own it may be at home."""
    return {
        source: errors(
            (case for case in cases if case.source == source), lambda case: rule(case.setup)
        )
        for source in sorted({case.source for case in cases})
    }


def peer_fits(case: Case, rule: Callable[..., float | None]) -> bool | None:
    """Say whether a peer's number is at most the card's usable memory."""
    guess = rule(case.setup)
    return None if guess is None else guess <= case.usable_gib


def percent(value: float | None) -> str:
    """Format a fraction, or a dash where there is none."""
    return "     -" if value is None else f"{100 * value:6.2f}"


def show(result: dict[str, Any]) -> None:
    """Print the tables."""
    head = f"{'part, source, method':34} rows   MAPE   bias  worst  in interval  in band  fit/OOM"
    print(head)
    for part, groups in result["parts"].items():
        for name, row in groups.items():
            print(
                f"{part + ' ' + name:34} {row['rows']:4} {percent(row.get('mape'))} "
                f"{percent(row.get('bias'))} {percent(row.get('worst'))}       "
                f"{percent(row['inside_interval'])}   {percent(row['inside_band'])}   "
                f"{percent(row['classification']['accuracy'])}"
            )
    everything = result["all"]["classification"]
    print(
        f"\nfit or out of memory, all {everything['runs']} runs: {percent(everything['accuracy'])}%"
        f" right, {everything['false_fits']} false fits, "
        f"{everything['false_refusals']} false refusals"
    )
    print(f"\n{'peer, on the rows it covers':34} rows   MAPE   bias  worst  fit/OOM  ours there")
    for name, row in result["peers"].items():
        print(
            f"{name:34} {row['rows']:4} {percent(row.get('mape'))} {percent(row.get('bias'))} "
            f"{percent(row.get('worst'))}   {percent(row['classification']['accuracy'])}      "
            f"{percent(result['ours_on_peer_rows'][name].get('mape'))}"
        )
    print("\nconstants set from rows:")
    for name, constant in CALIBRATION.items():
        print(f"  {name}: {constant}")
    print("\nrows left out:")
    for reason, count in result["left_out"].items():
        print(f"  {count}: {reason}")


def main() -> int:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("measurements", type=Path, nargs="?", help="CSV of published rows")
    parser.add_argument("--output", type=Path, help="where to write the numbers as JSON")
    arguments = parser.parse_args()
    path = arguments.measurements
    if path is None or not path.is_file():
        print(f"no measurements at {path}: nothing to compare with; pass the CSV", file=sys.stderr)
        return 0
    cases, left_out = read(path)
    result = measure(cases) | {"left_out": left_out}
    show(result)
    if arguments.output:
        result |= {
            "python": platform.python_version(),
            "machine": platform.machine(),
            "pydantic": version("pydantic"),
            "calibration": CALIBRATION,
        }
        arguments.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
