"""Compare what estimate_vram says of the families of 2026 with a trace of the whole real class.

    python -m benchmarks.family_memory [--output benchmarks/family_memory.json] [--family NAME ...]

Small models (`benchmarks/family_rows.py`, hidden size 1,024), each trained in full, with LoRA and
with QLoRA, with and without gradient checkpointing, in their own vocabulary; with LoRA also in one
of 2,048, where the blocks dominate. Families with experts also adapt those. No weights and no GPU.
The estimate knows the class by one block of each kind at short lengths, or by a row's formulas; the
trace runs every block at full length, with loss head and optimizer. Seconds a row.
"""

import argparse
import itertools
import json
import platform
import statistics
import sys
import time
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

from transformers.utils import logging

from benchmarks.family_rows import NAMES, OWN_VOCABULARY, config
from benchmarks.step_trace import by_formula, trace_step, without_workspace
from ft_tools.memory.bounds import interval
from ft_tools.memory.phases import phases
from ft_tools.memory.request import VramRequest
from ft_tools.memory.request_to_setup import setup_of
from ft_tools.models.config import has_row
from ft_tools.models.shape_of_model import shape_of_config

UNIT = 16
SEQ_LEN = 1024
SMALL_VOCABULARY = 2048
METHODS = ("full", "lora", "qlora", "experts")
LIBRARIES = ("torch", "transformers", "peft", "trl")


def compare(name: str, method: str, checkpointing: bool, vocabulary: int) -> dict[str, Any] | None:
    """Trace one way to train, and return how far the estimate is from it.

    Returns:
        None where the experts of a family without any were to be adapted.
    """
    of_class = config(name, UNIT, vocabulary)
    shape = shape_of_config(of_class, name)
    adapters: dict[str, Any] = {}
    if method != "full":
        adapters = {"lora_rank": 16}
    if method == "experts":
        names = tuple(sorted({m.name for block in shape.blocks for m in block.experts}))
        if not names:
            return None
        adapters["target_parameters"] = names
    request = VramRequest(
        model=name,
        method="lora" if method == "experts" else method,
        seq_len=SEQ_LEN,
        gradient_checkpointing=checkpointing,
        optimizer="adamw_torch",
        attention="flash",
        loss_head="full_logits",
        **adapters,
    )
    began = time.monotonic()
    setup = without_workspace(setup_of(request, shape))
    answered = time.monotonic()
    found = phases(setup)
    formula, traced = by_formula(setup), trace_step(of_class, setup)
    width = interval(setup, found.dominant)
    return {
        "family": name,
        "method": method,
        "checkpointing": checkpointing,
        "vocabulary": vocabulary,
        "own": vocabulary != SMALL_VOCABULARY,
        "by": "row" if has_row(of_class) else "profile" if setup.profile else "stand_in",
        "basis": width.basis,
        "interval": width.fraction,
        "difference": max(formula.values()) / max(traced.values()) - 1,
        "phases": {phase: round(formula[phase] / size - 1, 4) for phase, size in traced.items()},
        "estimate_seconds": round(answered - began, 1),
        "trace_seconds": round(time.monotonic() - answered, 1),
    }


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return mean and worst difference of each view, and how many lie outside their interval."""
    views: dict[str, Any] = {}
    for view, own in (("own vocabulary", True), (f"{SMALL_VOCABULARY} tokens", False)):
        seen = [row for row in rows if row["own"] == own]
        sizes = [abs(row["difference"]) for row in seen] or [0.0]
        outside = [row for row in seen if abs(row["difference"]) > row["interval"]]
        views[view] = {
            "rows": len(seen),
            "mean": statistics.mean(sizes),
            "worst": max(sizes),
            "outside_interval": len(outside),
        }
    return views


def worst(rows: list[dict[str, Any]], family: str) -> dict[str, float]:
    """Return a family's largest difference by method, in its own vocabulary."""
    found: dict[str, float] = {}
    for row in rows:
        if row["family"] == family and row["own"]:
            before = found.get(row["method"], 0.0)
            found[row["method"]] = max(before, round(abs(row["difference"]), 4))
    return found


def main() -> int:
    """Compare every family in every way; print the rows, and write them family by family."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--family", action="append", choices=NAMES, help="default: all of them")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/family_memory.json"))
    parser.add_argument("--method", action="append", choices=METHODS, help="default: all of them")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.set_verbosity_error()
    rows: list[dict[str, Any]] = []
    for name in arguments.family or NAMES:
        methods = arguments.method or METHODS
        views = [(OWN_VOCABULARY[name], method) for method in methods]
        views += [(SMALL_VOCABULARY, "lora")] if "lora" in methods else []
        for (vocabulary, method), checkpointing in itertools.product(views, (True, False)):
            row = compare(name, method, checkpointing, vocabulary)
            if row is None:
                continue
            rows.append(row)
            print(
                f"{name:17} {row['by']:7} {method:7} {'gc' if checkpointing else '--'} "
                f"V={vocabulary:<6} {100 * row['difference']:+6.2f}%",
                {phase: round(100 * share, 1) for phase, share in row["phases"].items()},
                f"{row['estimate_seconds']} s, {row['trace_seconds']} s",
                flush=True,
            )
    written = {
        "summary": summary(rows),
        "worst": {name: worst(rows, name) for name in dict.fromkeys(r["family"] for r in rows)},
        "versions": {library: version(library) for library in LIBRARIES},
        "machine": platform.machine(),
    }
    arguments.output.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
    for view, numbers in summary(rows).items():
        print(
            f"{view}: mean {numbers['mean']:.2%}, worst {numbers['worst']:.2%}, "
            f"{numbers['outside_interval']} of {numbers['rows']} outside their interval"
        )
    return 1 if any(numbers["outside_interval"] for numbers in summary(rows).values()) else 0


if __name__ == "__main__":
    sys.exit(main())
