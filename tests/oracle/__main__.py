"""`python -m tests.oracle record`, or `compare [--fast] [--group GROUP] [CASE ...]`."""

import argparse
import json
import re
import sys
import time
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from tests.oracle import cases, platforms, running

COMMIT = "3338f7f"
"""The code that the record is of."""
HERE = Path(__file__).parent
RECORD, LOSSES = HERE / "record.json", HERE / "losses.toml"


def main(argv: list[str]) -> int:
    """Record or compare; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.oracle", description=__doc__)
    parser.add_argument("command", choices=["record", "compare"])
    parser.add_argument("ids", nargs="*", metavar="CASE", help="GROUP.NAME; default: all")
    parser.add_argument("--fast", action="store_true", help="only cases of seconds")
    parser.add_argument("--group", action="append", default=[], help="only this group")
    parser.add_argument("--contract", default="0.2", help="0.1: the arguments of the record's code")
    asked = parser.parse_args(argv)
    contract = "0.1" if asked.command == "record" else asked.contract
    chosen = cases.choose(cases.read(contract), asked.ids, asked.group, asked.fast)
    return record(chosen) if asked.command == "record" else compare(chosen)


def record(chosen: list[cases.Case]) -> int:
    """Add what the tools return now to the record: of quantities that are new, none is replaced."""
    kept = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
    known: dict[str, dict[str, Any]] = kept.get("values", {})
    new = [each.id for each in chosen if each.values.keys() - known.get(each.id, {}).keys()]
    if not new:
        print("every quantity is recorded already, and the record is never overwritten")
        return 2
    if kept and kept["platform"] != platforms.here():
        print("the record was made on another machine or with other libraries")
        return 2
    chosen = cases.choose({each.id: each for each in chosen}, new, [], fast=False)
    found = {each.id: {**values, **known.get(each.id, {})} for each, values in _answers(chosen)}
    values = dict(sorted({**known, **found}.items()))
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(part)}" for key, part in values.items())
    here = json.dumps(platforms.here())
    text = f'{{"commit": "{COMMIT}",\n"platform": {here},\n"values": {{\n{lines}\n}}}}\n'
    RECORD.write_text(text, encoding="utf-8")
    num_quantities = sum(len(flat(each)) for each in values.values())
    print(f"{num_quantities} quantities of {len(values)} cases, {len(text)} bytes")
    return 0


def compare(chosen: list[cases.Case]) -> int:
    """Print each difference from the record; 1 if one of them is not a listed loss."""
    recorded = json.loads(RECORD.read_text(encoding="utf-8"))
    tolerance = platforms.tolerance(recorded["platform"])
    losses = cases.load(LOSSES).get("loss", [])
    num_equal, num_listed, num_new = 0, 0, 0
    for case, values in _answers(chosen):
        before = recorded["values"].get(case.id)
        if before is None:
            print(f"{case.id}: not in the record")
            continue
        found = differences(before, values, tolerance if case.computes else 0.0)
        num_equal += max(0, len(flat(before)) - len(found))
        for name, was, now in found:
            reason = _reason(losses, f"{case.id}.{name}")
            num_listed, num_new = num_listed + bool(reason), num_new + (not reason)
            listed = f" (listed: {reason})" if reason else ""
            print(f"{case.id}.{name}: was {_short(was)}, is {_short(now)}{listed}", flush=True)
    print(f"{num_equal} equal, {num_listed} listed losses, {num_new} differences")
    return 1 if num_new else 0


def differences(
    before: dict[str, Any], values: dict[str, Any], tolerance: float
) -> list[tuple[str, Any, Any]]:
    """Return (name, recorded, now) of what differs; of a case that raises only its error."""
    if "error" in values and "error" not in before:
        return [("error", "a report", values["error"])]
    before, values = flat(before), flat(values)
    names = sorted(before.keys() | values.keys())
    pairs = [(name, before.get(name), values.get(name)) for name in names]
    return [pair for pair in pairs if not same(pair[1], pair[2], tolerance)]


def flat(values: dict[str, Any]) -> dict[str, Any]:
    """Return the quantities with those of an object each by itself.

    >>> flat({"counts": {"train": 8}, "verdict": "ready"})
    {'counts.train': 8, 'verdict': 'ready'}
    """
    found = {}
    for name, value in values.items():
        inner = flat(value) if isinstance(value, dict) else {}
        found |= {f"{name}.{key}": part for key, part in inner.items()} or {name: value}
    return found


def same(was: Any, now: Any, tolerance: float) -> bool:
    """Return whether two values are equal: floats to a relative tolerance, hashes only without."""
    if tolerance and _is_hash(was) and _is_hash(now):
        return True
    if isinstance(was, dict) and isinstance(now, dict):
        return was.keys() == now.keys() and all(same(was[k], now[k], tolerance) for k in was)
    if isinstance(was, list) and isinstance(now, list):
        return len(was) == len(now) and all(map(same, was, now, [tolerance] * len(was)))
    if _is_number(was) and _is_number(now):
        return abs(was - now) <= tolerance * max(abs(was), abs(now))
    return type(was) is type(now) and was == now


def _is_hash(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{16,64}", value) is not None


def _is_number(value: Any) -> bool:
    return isinstance(value, float | int) and not isinstance(value, bool)


def _answers(chosen: list[cases.Case]) -> Any:
    """Yield each case with its values, and its time on stderr."""
    with running.Runner() as runner:
        for case in chosen:
            began = time.monotonic()
            values = runner.values(case)
            sys.stderr.write(f"{case.id} {time.monotonic() - began:.1f} s\n")
            yield case, values


def _reason(losses: list[dict[str, Any]], quantity: str) -> str:
    """Return why a difference is intended; empty where it is not."""
    for loss in losses:
        ids = loss["id"] if isinstance(loss["id"], list) else [loss["id"]]
        if any(fnmatchcase(quantity, each) for each in ids):
            return str(loss["reason"])
    return ""


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 300 else f"{text[:300]}..."


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
